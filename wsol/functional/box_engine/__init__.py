"""The compiled engine behind `wsol.functional.boxes`; private."""
