r"""The first principal component of features, and which of its two signs is taken.

With features f_i in R^C, their mean m and covariance S, the component is the unit eigenvector w of S's largest
eigenvalue, and a feature's value is ``w . (f - m)``. The sign of w is free. Two rules fix it:

* ``border``: the mean value of the cells at the border of the images is not positive, since objects are rarely there;
* ``loading``: the entry of w of largest magnitude is positive, as in scikit-learn's PCA.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wsol.functional.components import border_cells

Sign = Literal["border", "loading"]
SIGNS = ("border", "loading")


class Moments(NamedTuple):
    """Sums over the cells of images."""

    cells: int
    """Number of cells."""
    total: Tensor
    """float64 (C,) sum of the features."""
    square: Tensor
    """float64 (C, C) sum of their outer products."""
    border_cells: int
    """Number of cells at a border."""
    border: Tensor
    """float64 (C,) sum of the features there."""

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Return the moments of all images' features, float (N, C, h, w)."""
        cells = features.double().flatten(2)
        edge = border_cells(features.shape[2], features.shape[3], features.device).flatten()
        together = cells.transpose(0, 1).flatten(1)
        return cls(
            together.shape[1],
            together.sum(1),
            together @ together.T,
            len(features) * int(edge.sum()),
            cells[:, :, edge].sum((0, 2)),
        )

    def __add__(self, other: object) -> Moments:
        """Return the moments of both sets of images."""
        if not isinstance(other, Moments):
            return NotImplemented
        return Moments(
            self.cells + other.cells,
            self.total + other.total,
            self.square + other.square,
            self.border_cells + other.border_cells,
            self.border + other.border,
        )


class Component(NamedTuple):
    """The first principal component of each of G groups."""

    mean: Tensor
    """float64 (G, C)."""
    direction: Tensor
    """float64 (G, C), unit vectors."""
    is_flipped: Tensor
    """bool (G,): the sign differs from that of ``loading``."""


def first_component(moments: Moments, sign: Sign = "border", centre: bool = True) -> Component:
    """Find the component of all images whose moments are given: G is 1.

    Args:
        moments: moments of the features.
        sign: rule for the sign.
        centre: whether the mean is subtracted; without it, w is the first right singular vector of the features.

    Example:
        >>> features = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 0.0]]]])
        >>> found = first_component(Moments.of(features))
        >>> found.direction.tolist(), [round(value, 3) for value in found.mean[0].tolist()]
        ([[1.0]], [0.889])
    """
    mean = moments.total / moments.cells if centre else torch.zeros_like(moments.total)
    direction = torch.linalg.eigh(moments.square / moments.cells - mean[:, None] * mean)[1][:, -1]
    inside = (moments.total - moments.border) / max(moments.cells - moments.border_cells, 1)
    return _signed(mean[None], direction[None], inside[None], moments.border[None] / moments.border_cells, sign)


def image_components(features: Tensor, sign: Sign = "border", centre: bool = True) -> Component:
    """Find the component of each image by itself.

    Args:
        features: float (N, C, h, w). If an image has fewer cells than channels, the eigenvector is that of the products
            of cells (hw x hw) instead of channels (C x C), with the same result.
        sign: see `first_component`.
        centre: see `first_component`.

    Returns:
        The components of N images. The direction of an image whose features are all equal to the mean is 0.
    """
    cells = features.double().flatten(2)
    mean = cells.mean(2) if centre else cells.new_zeros(cells.shape[:2])
    centred = cells - mean[:, :, None]
    if centred.shape[2] < centred.shape[1]:
        weights = torch.linalg.eigh(centred.mT @ centred)[1][..., -1:]
        direction = torch.nn.functional.normalize((centred @ weights).squeeze(2), dim=1)
    else:
        direction = torch.linalg.eigh(centred @ centred.mT)[1][..., -1]
    edge = border_cells(features.shape[2], features.shape[3], features.device).flatten()
    inside = cells[:, :, ~edge].sum(2) / max(int((~edge).sum()), 1)
    return _signed(mean, direction, inside, cells[:, :, edge].mean(2), sign)


def _signed(mean: Tensor, direction: Tensor, inside: Tensor, border: Tensor, sign: Sign) -> Component:
    """Fix the signs of directions (G, C) from the mean features (G, C) inside the images and at their borders."""
    largest = direction.gather(1, direction.abs().argmax(1, keepdim=True))
    direction = torch.where(largest < 0, -direction, direction)
    is_flipped = torch.zeros(len(mean), dtype=torch.bool, device=mean.device)
    if sign == "border":
        # Centred, the border is below 0 exactly where it is below the inside; uncentred, only the latter makes sense.
        is_flipped = ((border - inside) * direction).sum(1) > 0
        direction = torch.where(is_flipped[:, None], -direction, direction)
    return Component(mean, direction, is_flipped)


def project(features: Tensor, component: Component) -> Tensor:
    """Values of features (N, C, h, w) along components of N groups, or of one group for all: float32 (N, h, w)."""
    centred = features.double() - component.mean[:, :, None, None]
    return (centred * component.direction[:, :, None, None]).sum(1).float()
