"""The static HTML report of one or several runs: what is judged, written, and looked at in a browser."""
