"""The few types that all packages share.

Coordinate frames, used everywhere in the package:

* *image frame*: pixels of the stored image, x to the right, y down, the top-left corner of the first pixel at (0, 0);
* *input frame*: pixels of the network's input, after resizing and cropping.

Sizes are (width, height) unless a tensor shape is meant. Boxes are x0, y0, x1, y1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

Progress = Callable[[str, int, int], None]
"""Callback with the current task, the number of items done and their total, such as ``("maps, test", 96, 5794)``."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing: a `Progress` without output."""


class FeatureInfo(NamedTuple):
    """A named place in a backbone where features can be read or edited."""

    channels: int
    """Number of channels C of the features; 0 if it depends on the image's size."""
    stride: int
    """Input pixels per feature cell; 0 if one cell covers the whole image."""
    groups: int = 1
    """Number of equal groups of channels, such as the blocks of a transformer's attention."""

    def __repr__(self) -> str:
        groups = "" if self.groups == 1 else f", groups={self.groups}"
        return f"FeatureInfo(channels={self.channels}, stride={self.stride}{groups})"


class Output(NamedTuple):
    """The output of a head."""

    logits: Tensor
    """float (N, K) class scores before softmax."""
    state: dict[str, Tensor]
    """What the head needs to make class maps from this forward pass (its keys are private to the head)."""


class Batch(NamedTuple):
    """A batch of a data loader."""

    images: Tensor
    """uint8 (N, 3, H, W) RGB, or (N, V, 3, H, W) if the transform makes V views (ten-crop)."""
    labels: Tensor
    """int64 (N,) class indices in 0..K-1."""
    positions: Tensor
    """int64 (N,) position of each image in its split."""
    sizes: Tensor
    """int64 (N, 2) width and height of the stored images, pixels."""
    skipped: Tensor
    """int64 (S,) positions of images that could not be read (``on_bad_image=skip``); not included in the N."""
    pseudo: Tensor | None = None
    """Pseudo targets in the input frame: boxes float32 (N, 4), half-open, clipped to the input, NaN where the box left
    the crop; or masks uint8 (N, 1, H, W). None without."""


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth of one image: human annotation of its objects."""

    boxes: np.ndarray
    """float64 (M, 4) corners x0, y0, x1, y1 in the image frame, exactly as annotated."""
    inclusive: bool
    """True if x1, y1 are the last pixel inside (ILSVRC), False if they are the edge (CUB: x + width)."""

    @property
    def half_open(self) -> np.ndarray:
        """Return float64 (M, 4) the same boxes with x1, y1 at the far edge of the last pixel."""
        found: np.ndarray = self.boxes + np.array([0.0, 0.0, 1.0, 1.0]) * self.inclusive
        return found


@dataclass(frozen=True)
class Preprocessing:
    """The input that a set of weights expects."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per RGB channel, for values in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    size: int = 224
    """Side of the square input, pixels."""
    interpolation: str = "bilinear"
    """``bilinear`` or ``bicubic``."""


class Picture(NamedTuple):
    """One evaluated image for display. Boxes are half-open, in the image frame."""

    image_id: str
    image: np.ndarray
    """uint8 (H, W, 3) RGB."""
    heat: np.ndarray | None
    """uint8 (H, W) map of the ground-truth class; None if the network gives boxes."""
    label: int
    predicted_label: int
    """-1 if no class is predicted."""
    true_boxes: np.ndarray
    """float64 (M, 4)."""
    predicted_box: np.ndarray
    """float64 (4,) box from the map of the ground-truth class, or the box that the network gives."""
    iou: float
    """Largest IoU of the predicted box with a ground-truth box."""
