"""What all processes of an evaluation know together."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed

T = TypeVar("T")
Value = TypeVar("Value")


def gathered(positions: set[int]) -> set[int]:
    """Return the union of a set over all processes."""
    return set().union(*_of_all_processes(positions))


def gathered_by_position(values: dict[int, Value]) -> dict[int, Value]:
    """Return the values of all processes by position, in no order."""
    return {position: value for part in _of_all_processes(values) for position, value in part.items()}


def _of_all_processes(value: T) -> list[T]:
    """Return the values of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    parts = [value] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, value)
    return parts
