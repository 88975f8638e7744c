"""Class maps as masks: scaling to [0, 1], and erasing what a map attends to."""

from __future__ import annotations

import torch
from torch import Tensor


def min_max_normalize(maps: Tensor) -> Tensor:
    """Return maps (..., h, w) minus their minimum, over their range: [0, 1] each; a constant map gives zeros.

    Example:
        >>> min_max_normalize(torch.tensor([[[-1.0, 1.0, 3.0]], [[7.0, 7.0, 7.0]]])).tolist()
        [[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]]]
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)


def max_normalize(maps: Tensor) -> Tensor:
    """Return maps (..., h, w) with negative values set to 0, over their maximum: [0, 1] each; zeros if none is above 0.

    Example:
        >>> max_normalize(torch.tensor([[[-1.0, 1.0, 4.0]], [[-7.0, -7.0, -7.0]]])).tolist()
        [[[0.0, 0.25, 1.0]], [[0.0, 0.0, 0.0]]]
    """
    above = maps.clamp(min=0)
    return above / above.amax((-2, -1), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


SCALINGS = {"minmax": min_max_normalize, "max": max_normalize}
"""By the names that protocols use too."""


def erase(features: Tensor, maps: Tensor, delta: float) -> Tensor:
    """Return features (N, C, h, w) with 0 in all channels where the map (N, 1, h, w), scaled by its range, is >= delta.

    Gradients pass where features are kept; the map gets none. A constant map erases nothing.

    Example:
        >>> erase(torch.ones(1, 1, 1, 3), torch.tensor([[[[-1.0, 1.0, 3.0]]]]), delta=0.5).tolist()
        [[[[1.0, 0.0, 0.0]]]]
    """
    return features * (min_max_normalize(maps.detach()) < delta)
