"""K-means of many small sets at once, on whichever device they are."""

from __future__ import annotations

import torch
from torch import Tensor

PART = 2**20
"""Largest number of values that are clustered together on a CPU: they stay in its cache over the iterations."""


def k_means(cells: Tensor, starts: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Cluster the cells of each image by Lloyd's algorithm, from given centres.

    As scikit-learn does, a cluster that is empty takes the cell that is furthest from its own centre.

    Args:
        cells: float32 (N, P, C).
        starts: float32 (N, k, C), the first centres.
        iterations: how often the centres are moved; more change nothing once no cell changes its cluster.

    Returns:
        Numbers of clusters int64 (N, P), and the centres float32 (N, k, C).

    Example:
        >>> cells = torch.tensor([[[0.0], [1.0], [9.0], [11.0]]])
        >>> labels, centres = k_means(cells, starts=torch.tensor([[[2.0], [3.0]]]), iterations=5)
        >>> labels.tolist(), centres.flatten().tolist()
        ([[0, 0, 1, 1]], [0.5, 10.0])
    """
    if cells.device.type != "cpu":
        return _lloyd(cells, starts, iterations)
    size = max(1, PART // max(1, cells.shape[1] * cells.shape[2]))
    parts = [_lloyd(*part, iterations) for part in zip(cells.split(size), starts.split(size), strict=True)]
    labels, centres = zip(*parts, strict=True)
    return torch.cat(labels), torch.cat(centres)


def _lloyd(cells: Tensor, starts: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """See `k_means`; on a CPU it ends as soon as no centre moves."""
    centres, squares = starts, torch.linalg.vector_norm(cells, dim=2).square()
    for _ in range(iterations):
        distances = _distances(cells, squares, centres)
        nearest, labels = distances.min(2)
        members = torch.nn.functional.one_hot(_fill(labels, nearest, starts.shape[1]), starts.shape[1]).to(cells.dtype)
        counts = members.sum(1)
        moved = members.transpose(1, 2) @ cells / counts.clamp(min=1)[:, :, None]
        before, centres = centres, torch.where(counts[:, :, None] > 0, moved, centres)
        if cells.device.type == "cpu" and torch.equal(before, centres):  # elsewhere, to look would be to wait
            break
    return _distances(cells, squares, centres).argmin(2), centres


def _distances(cells: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (N, P, k) of cells with squared norms (N, P) and centres (N, k, C)."""
    norms = squares[:, :, None] + centres.square().sum(2)[:, None]
    return torch.baddbmm(norms, cells, centres.transpose(1, 2), alpha=-2)


def _fill(labels: Tensor, nearest: Tensor, count: int) -> Tensor:
    """Return the labels (N, P) with the cells furthest from their centres given to empty clusters, one each."""
    numbers = torch.arange(count, device=labels.device)
    empty = (labels[:, :, None] != numbers).all(1)
    furthest = nearest.topk(min(count, nearest.shape[1]), dim=1).indices
    turn = (empty.cumsum(1) - 1).clamp(0, furthest.shape[1] - 1)
    for number in range(count):
        cell = furthest.gather(1, turn[:, number : number + 1])
        kept = labels.gather(1, cell)
        labels = labels.scatter(1, cell, torch.where(empty[:, number : number + 1], numbers[number], kept))
    return labels
