"""Whether a run may be trained for more epochs: not if that would have changed its earlier learning rates."""

from __future__ import annotations

import warnings
from typing import Any

from omegaconf import DictConfig

STEPS = 8
"""Number of steps per epoch at which learning rates are compared."""


def why_not_longer(config: DictConfig, before: Any, now: Any) -> str | None:
    """Return why a run of ``before`` epochs cannot be extended to ``now`` epochs; None if it can.

    Args:
        config: config of the run, with its schedule.
        before: number of epochs at its start.
        now: requested number of epochs.
    """
    if not isinstance(before, int) or not isinstance(now, int):
        return "its number of epochs is unknown"
    if now < before:
        return "a run can be made longer, not shorter"
    for step, (old, new) in enumerate(zip(_rates(config, before, before), _rates(config, now, before), strict=True)):
        if abs(old - new) > 1e-9 * max(abs(old), abs(new)):
            return (
                f"the learning rates depend on the number of epochs: in epoch {step // STEPS} the schedule's factor is "
                f"{old:.3g} with {before} epochs and {new:.3g} with {now}"
            )
    return None


def _rates(config: DictConfig, total: int, epochs: int) -> list[float]:
    """Return the schedule's factor at each step of the first ``epochs`` epochs of ``total``."""
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
