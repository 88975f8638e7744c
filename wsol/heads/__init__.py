"""Heads make class scores and maps of a backbone's features. One file a method; `base.py` holds what they share."""
