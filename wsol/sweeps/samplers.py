"""Optuna's samplers and pruners, made from the settings of a sweep."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler

from wsol.errors import unknown

SAMPLERS = ("random", "tpe")
PRUNERS = ("none", "median", "hyperband")


def make_sampler(settings: Mapping[str, Any], number: int, drawn: Mapping[str, Any]) -> BaseSampler:
    """Return a sampler for one trial: unless it learns, its samples depend only on the trial's number.

    Args:
        settings: settings of the search.
        number: number of the trial.
        drawn: values sampled by an earlier attempt, which are used again.
    """
    seed = (int(settings["seed"]) * 1_000_003 + number) % 2**32
    random = settings["sampler"] == "random"
    sampler = RandomSampler(seed=seed) if random else TPESampler(seed=seed, constant_liar=True)
    if not drawn:
        return sampler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PartialFixedSampler(dict(drawn), sampler)


def make_pruner(settings: Mapping[str, Any], max_epochs: int) -> BasePruner:
    """Return the pruner of a study.

    Args:
        settings: settings of the search.
        max_epochs: number of epochs of a trial.
    """
    warmup = int(settings["warmup_epochs"])
    if settings["pruner"] == "none":
        return NopPruner()
    if settings["pruner"] == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)
    if settings["pruner"] == "hyperband":
        return HyperbandPruner(min_resource=max(1, warmup), max_resource=max(2, max_epochs))
    raise unknown("sweep.pruner", settings["pruner"], PRUNERS)
