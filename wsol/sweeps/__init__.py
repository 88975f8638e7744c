"""Hyperparameter searches over the keys of `wsol train`; loads no torch before the first trial."""

from wsol.sweeps.hyperparameter_search import search

__all__ = ["search"]
