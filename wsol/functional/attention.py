"""Class maps as masks: scale them to [0, 1], and erase the features under a map's peak."""

from __future__ import annotations

import torch
from torch import Tensor


def min_max_normalize(maps: Tensor) -> Tensor:
    """Return maps (..., h, w), each scaled from its minimum and maximum to [0, 1]; a constant map becomes zeros.

    Example:
        >>> min_max_normalize(torch.tensor([[[-1.0, 1.0, 3.0]], [[7.0, 7.0, 7.0]]])).tolist()
        [[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]]]
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)


def max_normalize(maps: Tensor) -> Tensor:
    """Return maps (..., h, w) divided by their maximum, negative values set to 0; zeros where no value is above 0.

    Example:
        >>> max_normalize(torch.tensor([[[-1.0, 1.0, 4.0]], [[-7.0, -7.0, -7.0]]])).tolist()
        [[[0.0, 0.25, 1.0]], [[0.0, 0.0, 0.0]]]
    """
    above = maps.clamp(min=0)
    return above / above.amax((-2, -1), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


SCALINGS = {"minmax": min_max_normalize, "max": max_normalize}
"""Scaling functions by the names that protocols use."""


def erase(features: Tensor, maps: Tensor, delta: float) -> Tensor:
    """Return features (N, C, h, w) set to 0 in all channels where the min-max scaled map (N, 1, h, w) is >= delta.

    Gradients flow through the features that are kept; the map gets no gradient. A constant map erases nothing.

    Example:
        >>> erase(torch.ones(1, 1, 1, 3), torch.tensor([[[[-1.0, 1.0, 3.0]]]]), delta=0.5).tolist()
        [[[[1.0, 0.0, 0.0]]]]
    """
    return features * (min_max_normalize(maps.detach()) < delta)
