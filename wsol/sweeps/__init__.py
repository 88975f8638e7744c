"""Hyperparameter searches over the keys of `wsol train`."""
