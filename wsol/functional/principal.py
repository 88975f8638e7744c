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
    """Sums over cells of G groups, all float64."""

    cells: Tensor
    """(G,) number of cells."""
    total: Tensor
    """(G, C) sum of the features."""
    square: Tensor
    """(G, C, C) sum of their outer products."""
    border_cells: Tensor
    """(G,) number of cells at a border."""
    border: Tensor
    """(G, C) sum of the features there."""

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of each image's features, float (N, C, h, w): a group for each image."""
        cells = features.double().flatten(2)
        edge = border_cells(features.shape[2], features.shape[3], features.device).flatten()
        like = cells.new_ones(len(cells))
        return cls(
            like * cells.shape[2],
            cells.sum(2),
            cells @ cells.transpose(1, 2),
            like * int(edge.sum()),
            cells[:, :, edge].sum(2),
        )

    def merge(self) -> Moments:
        """Add up all groups."""
        return Moments(*(part.sum(0, keepdim=True) for part in self))

    def __add__(self, other: object) -> Moments:
        """Add the sums of the same groups."""
        if not isinstance(other, Moments):
            return NotImplemented
        return Moments(*(one + two for one, two in zip(self, other, strict=True)))


class Component(NamedTuple):
    """The first principal component of each of G groups."""

    mean: Tensor
    """float64 (G, C)."""
    direction: Tensor
    """float64 (G, C), unit vectors."""
    is_flipped: Tensor
    """bool (G,): the sign differs from that of ``loading``."""


def first_component(moments: Moments, sign: Sign = "border", centre: bool = True) -> Component:
    """Find the component of each group.

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
    mean = moments.total / moments.cells[:, None]
    if not centre:
        mean = torch.zeros_like(mean)
    covariance = moments.square / moments.cells[:, None, None] - mean[:, :, None] * mean[:, None, :]
    direction = torch.linalg.eigh(covariance)[1][..., -1]
    largest = direction.gather(1, direction.abs().argmax(1, keepdim=True))
    direction = torch.where(largest < 0, -direction, direction)
    is_flipped = torch.zeros(len(mean), dtype=torch.bool, device=mean.device)
    if sign == "border":
        inside = (moments.total - moments.border) / (moments.cells - moments.border_cells).clamp(min=1)[:, None]
        outside = moments.border / moments.border_cells[:, None]
        # Centred, the border is below 0 exactly where it is below the inside; uncentred, only the latter makes sense.
        is_flipped = ((outside - inside) * direction).sum(1) > 0
        direction = torch.where(is_flipped[:, None], -direction, direction)
    return Component(mean, direction, is_flipped)


def project(features: Tensor, component: Component) -> Tensor:
    """Values of features (N, C, h, w) along components of N groups, or of one group for all: float32 (N, h, w)."""
    centred = features.double() - component.mean[:, :, None, None]
    return (centred * component.direction[:, :, None, None]).sum(1).float()
