"""Whether a run may be trained longer than it was meant to be: not if its learning rates would have been others."""

from __future__ import annotations

import warnings
from typing import Any

from omegaconf import DictConfig

STEPS = 8
"""Steps of an epoch for which learning rates are compared."""


def why_not_longer(config: DictConfig, before: Any, now: Any) -> str | None:
    """Say why a run of ``before`` epochs cannot become one of ``now`` epochs; None if it can.

    Args:
        config: of the run, with its schedule.
        before: epochs that it was begun for.
        now: epochs asked for.
    """
    if not isinstance(before, int) or not isinstance(now, int):
        return "its number of epochs is not known"
    if now < before:
        return "a run can be made longer, not shorter"
    for step, (old, new) in enumerate(zip(_rates(config, before, before), _rates(config, now, before), strict=True)):
        if abs(old - new) > 1e-9 * max(abs(old), abs(new)):
            return (
                f"the learning rates depend on the number of epochs: in epoch {step // STEPS} the schedule's factor is "
                f"{old:.3g} of {before} epochs and {new:.3g} of {now}"
            )
    return None


def _rates(config: DictConfig, total: int, epochs: int) -> list[float]:
    """The schedule's factor at each step of the first ``epochs`` epochs of ``total``."""
    import torch

    from wsol.config import build

    if not config.get("schedule"):
        return []
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build.instantiate(config.schedule, "schedule")(optimizer, total * STEPS, STEPS)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(epochs * STEPS):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
    return rates
