"""Sums over the processes of a distributed training, for losses and running means of whole batches."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum over all processes, which must all call it, as a new tensor without gradient.

    Example:
        >>> import torch
        >>> sum_over_processes(torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """
    total = values.detach().clone()
    if _is_distributed():
        dist.all_reduce(total)
    return total


def num_processes() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _is_distributed() else 1


def from_first_process(value: Tensor) -> Tensor:
    """Return the first process's value in all processes, which must all call it, as a new tensor without gradient."""
    shared = value.detach().clone()
    if _is_distributed():
        dist.broadcast(shared, 0)
    return shared


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
