"""A search as a config for `wandb sweep`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsol.config.compose import override
from wsol.sweeps.search_space import read_space


def sweep_config(settings: Mapping[str, Any], overrides: Sequence[str], mode: str) -> dict[str, Any]:
    """Return the same search for `wandb sweep`: each agent runs `wsol train` with logger=wandb.

    Args:
        settings: keys of `wsol.config.schema_parts.Search`.
        overrides: overrides of `wsol train` for all trials.
        mode: ``min`` or ``max`` for the metric.
    """
    stop = {"early_terminate": {"type": "hyperband", "min_iter": max(1, settings["warmup_epochs"])}}
    monitor = override("monitor", settings["metric"])
    return {
        "program": "wsol",
        "method": "random" if settings["sampler"] == "random" else "bayes",
        "metric": {"name": settings["metric"], "goal": {"min": "minimize", "max": "maximize"}[mode]},
        "run_cap": settings["trials"],
        **({} if settings["pruner"] == "none" else stop),
        "command": ["wsol", "train", *overrides, "logger=wandb", monitor, "${args_no_hyphens}"],
        "parameters": {each.key: each.wandb() for each in read_space(settings["space"])},
    }
