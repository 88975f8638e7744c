"""The sums of an epoch's running means, kept when the epoch is interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch


def read(trainer: pl.Trainer) -> dict[str, list[float]]:
    """Return the sum and the weight of each value that Lightning averages over the epoch, over all processes.

    Every process must call it.
    """
    found = {}
    for name, metric in _means(trainer):
        both = torch.stack([metric.value.double(), metric.cumulated_batch_size.double()])
        found[name] = trainer.strategy.reduce(both, reduce_op="sum").tolist()
    return found


def add(trainer: pl.Trainer, sums: Mapping[str, list[float]]) -> None:
    """Add the result of `read` to the sums of the first process."""
    if not trainer.is_global_zero:
        return
    for name, metric in _means(trainer):
        if name in sums:
            value, weight = sums[name]
            metric.value += value
            metric.cumulated_batch_size += int(weight)


def _means(trainer: pl.Trainer) -> Iterator[tuple[str, Any]]:
    """Yield Lightning's accumulators by name, in a fixed order."""
    results = trainer.fit_loop.epoch_loop._results
    return (
        (name, metric)
        for name, metric in sorted(results.items())
        if metric.meta.on_epoch and metric.is_tensor and metric.meta.is_mean_reduction
    )
