"""Class-specific units: the features with the highest weights for a class, and the image regions that activate them.

Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 5: the units of the last layer are
ranked by the weights of a class in the classifier on their means (w_k^c of equation 1). Each is shown by the images of
a set that activate it most, cropped to the active region (as in Zhou et al. 2015, "Object Detectors Emerge in Deep
Scene CNNs", section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor

from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.functional.maps import merge, place
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer


def class_weights(localizer: Localizer) -> Tensor:
    """Return the weights (K, C) of the linear classifier on the features.

    Raises:
        InputError: the head has no such classifier.
    """
    if not isinstance(localizer.head, GapHead):
        raise InputError(
            f"{type(localizer.head).__name__} has no linear classifier on its features, so no weights rank its units; "
            "use a run of method=cam, cam_conv or another with a GapHead"
        )
    return localizer.head.classifier.weight.detach()


def ranked(weights: Tensor, label: int, count: int) -> list[int]:
    """Return the first ``count`` units of a class by falling weight.

    Example:
        >>> import torch
        >>> ranked(torch.tensor([[0.1, 0.5, -2.0, 0.3]]), label=0, count=2)
        [1, 3]
    """
    return weights[label].argsort(descending=True, stable=True)[:count].tolist()


class Activation(NamedTuple):
    """The activation of a unit by an image."""

    position: int
    """Position of the image in its split."""
    value: float
    """Maximum activation of the unit in it."""
    cells: np.ndarray
    """float32 (V, h, w) the unit's activations in each view."""
    size: tuple[int, int]
    """Width and height of the stored image."""


class TopActivations:
    """Keeps the images with the largest activation of some units; results do not depend on the batch size.

    Of images with equal activation the first counts.

    Args:
        units: indices among the C features.
        count: number of images per unit.

    Example:
        >>> import torch
        >>> top = TopActivations([0], count=1)
        >>> top.update(torch.tensor([1.0, 7.0, 3.0]).view(3, 1, 1, 1, 1), torch.arange(3), torch.full((3, 2), 8))
        >>> top.of(0)[0].position
        1
    """

    def __init__(self, units: Sequence[int], count: int) -> None:
        self._count = count
        self._kept: dict[int, list[Activation]] = {unit: [] for unit in units}

    def update(self, cells: Tensor, positions: Tensor, sizes: Tensor) -> None:
        """Add a batch.

        Args:
            cells: float (N, V, C, h, w).
            positions: int64 (N,), rising from batch to batch.
            sizes: int64 (N, 2) width and height of the stored images.
        """
        units = list(self._kept)
        own = cells[:, :, units]
        values = own.amax((1, 3, 4))
        best = values.argsort(dim=0, descending=True, stable=True)[: self._count]
        for column, unit in enumerate(units):
            kept = self._kept[unit]
            for i in best[:, column].tolist():
                value = float(values[i, column])
                if len(kept) < self._count or value > kept[-1].value:
                    width, height = sizes[i].tolist()
                    seen = own[i, :, column].float().cpu().numpy()
                    kept.append(Activation(int(positions[i]), value, seen, (width, height)))
                    kept.sort(key=lambda one: -one.value)
                    del kept[self._count :]

    def of(self, unit: int) -> list[Activation]:
        """Return the images of a unit, largest activation first."""
        return self._kept[unit]


def region(cells: np.ndarray, views: Sequence[Geometry], threshold: float = 0.5) -> np.ndarray:
    """Return where a unit is active: the box around the region that contains its maximum.

    The unit's map is resized to the image; the region consists of the pixels above ``threshold`` times its maximum that
    are connected to the maximum.

    Args:
        cells: real (V, h, w) the unit's activations.
        views: V geometries of the same image.
        threshold: in [0, 1).

    Returns:
        int64 (4,) half-open, image frame; the whole image if the unit is nowhere above 0.

    Example:
        >>> region(np.array([[[0.0, 0.0, 8.0, 0.0]]]), [Geometry.square((40, 10), 4)]).tolist()
        [20, 0, 30, 10]
    """
    size = views[0].image_size
    merged, view = merge(cells, views)
    seen = place(merged, view, Geometry.whole(size), interpolation="linear", scaling="max")
    if not seen.any():
        return np.array([0, 0, *size])
    _, parts = cv2.connectedComponents((seen > threshold).astype(np.uint8))
    rows, columns = np.nonzero(parts == parts.flat[seen.argmax()])
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
