"""The connected component of a cell in small masks, and the border of a grid."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor


def component_of(mask: Tensor, cell: Tensor) -> Tensor:
    """Keep of each mask the 4-connected component that a cell lies in.

    Args:
        mask: bool (N, h, w).
        cell: int64 (N,) index of a cell, row by row.

    Returns:
        bool (N, h, w), on the device of ``mask``; empty where the cell itself is not in the mask.

    Example:
        >>> mask = torch.tensor([[[True, False, True], [True, False, False]]])
        >>> component_of(mask, torch.tensor([3])).int().tolist()
        [[[1, 0, 0], [1, 0, 0]]]
    """
    given, cells = mask.cpu().numpy().astype(np.uint8), cell.tolist()
    found = np.zeros(given.shape, dtype=bool)
    for one, at, out in zip(given, cells, found, strict=True):
        labels = cv2.connectedComponents(one, connectivity=4)[1]
        own = labels.flat[at]
        out[...] = (labels == own) & (own > 0)
    return torch.from_numpy(found).to(mask.device)


def border_cells(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Mark the outermost cells of a grid: bool (height, width).

    Example:
        >>> border_cells(3, 4).int().tolist()
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    found = torch.ones(height, width, dtype=torch.bool, device=device)
    found[1:-1, 1:-1] = False
    return found
