"""The static HTML report of one or several runs: its evaluation, its files, and its page for a browser."""
