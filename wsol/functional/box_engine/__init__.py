"""The compiled engine that `wsol.functional.boxes` uses; private."""
