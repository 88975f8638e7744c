"""Hyperparameter searches over the keys of `wsol train`; loads no torch before the first trial."""

from wsol.extras import need

need("optuna", what="a search")

from wsol.sweeps.hyperparameter_search import search  # noqa: E402

__all__ = ["search"]
