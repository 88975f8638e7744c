"""Exchange results between the processes of an evaluation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import pytorch_lightning as pl
import torch.distributed

T = TypeVar("T")
Value = TypeVar("Value")


def gathered(positions: set[int]) -> set[int]:
    """Return the union of a set over all processes."""
    return set().union(*_of_all_processes(positions))


def gathered_by_position(values: dict[int, Value]) -> dict[int, Value]:
    """Return the values of all processes by position, in no order."""
    return {position: value for part in _of_all_processes(values) for position, value in part.items()}


def total(count: int) -> int:
    """Return the sum of a number over all processes."""
    return sum(_of_all_processes(count))


def gather_files(folder: Path, pattern: str, trainer: pl.Trainer) -> None:
    """Move the shards that this process wrote to the first process's folder; returns when all processes are done.

    Args:
        folder: folder of this process, the same in all processes unless they were started externally.
        pattern: the folders below it with shards, such as ``maps/*``.
        trainer: trainer of the processes.
    """
    first = Path(trainer.strategy.broadcast(str(folder)))
    if first != folder:
        for file in folder.glob(f"{pattern}/*-{trainer.global_rank}.*"):
            os.replace(file, first / file.relative_to(folder))
    trainer.strategy.barrier()


def _of_all_processes(value: T) -> list[T]:
    """Return the values of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    parts = [value] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, value)
    return parts
