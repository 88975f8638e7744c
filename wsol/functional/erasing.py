"""Erase the regions of images that a map has found, for adversarial erasing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from wsol.errors import InputError


def erase_regions(images: Tensor, maps: Tensor, threshold: float) -> Tensor:
    """Return images with the pixels where a map reaches the threshold set to 0, the mean pixel after normalising.

    Wei et al. 2017, "Object Region Mining with Adversarial Erasing", section 3.1: each network is trained on images
    from which the regions found by the networks before it are erased. Maps are resized linearly to the image
    (half-pixel centres).

    Args:
        images: float (N, 3, H, W), normalised.
        maps: float (N, h, w) in [0, 1], each over the whole image; they get no gradient.
        threshold: in (0, 1].

    Returns:
        A new tensor of the shape and type of ``images``.

    Raises:
        InputError: a threshold outside (0, 1], or maps that are not one per image.

    Example:
        >>> import torch
        >>> erase_regions(torch.ones(1, 3, 1, 4), torch.tensor([[[0.0, 1.0]]]), threshold=0.5)[0, 0].tolist()
        [[1.0, 1.0, 0.0, 0.0]]
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold of erasing: expected a number in (0, 1], got {threshold}")
    if maps.ndim != 3 or len(maps) != len(images):
        raise InputError(f"expected maps ({len(images)}, h, w), one per image, got {tuple(maps.shape)}")
    over = F.interpolate(maps.detach()[:, None].float(), images.shape[2:], mode="bilinear") >= threshold
    return images.masked_fill(over, 0)
