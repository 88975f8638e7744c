"""The few types that every room shares.

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
"""Is told what is being done, how much of it is done, and how much there is, such as ``("maps, test", 96, 5794)``."""


def no_progress(what: str, done: int, total: int) -> None:
    """The `Progress` of those who do not ask for it."""


class FeatureInfo(NamedTuple):
    """A named place in a backbone where features can be read or edited."""

    channels: int
    """Number of channels C of the features there; 0 where it depends on the image's size."""
    stride: int
    """Input pixels per feature cell; 0 where there is one cell for the whole image."""
    groups: int = 1
    """How many equal parts the channels are of, such as the blocks of a transformer's attention."""

    def __repr__(self) -> str:
        groups = "" if self.groups == 1 else f", groups={self.groups}"
        return f"FeatureInfo(channels={self.channels}, stride={self.stride}{groups})"


class Output(NamedTuple):
    """What a head makes of the features."""

    logits: Tensor
    """float (N, K) class scores before softmax."""
    state: dict[str, Tensor]
    """What the head needs to make class maps from this very forward pass (its keys are the head's business)."""


class Batch(NamedTuple):
    """What a data loader yields."""

    images: Tensor
    """uint8 (N, 3, H, W) RGB, or (N, V, 3, H, W) when the transform makes V views (ten-crop)."""
    labels: Tensor
    """int64 (N,) class indices in 0..K-1."""
    positions: Tensor
    """int64 (N,) position of each image in its split."""
    sizes: Tensor
    """int64 (N, 2) width and height of the stored images, pixels."""
    skipped: Tensor
    """int64 (S,) positions of images that could not be read (``on_bad_image=skip``); not among the N."""


@dataclass(frozen=True)
class GroundTruth:
    """Where the object of one image is, by human annotation."""

    boxes: np.ndarray
    """float64 (M, 4) corners x0, y0, x1, y1 in the image frame exactly as the annotation writes them."""
    inclusive: bool
    """True if x1, y1 name the last pixel inside (ILSVRC), False if they name the edge (CUB: x + width)."""

    @property
    def half_open(self) -> np.ndarray:
        """float64 (M, 4) the same boxes with x1, y1 at the far edge of the last pixel."""
        found: np.ndarray = self.boxes + np.array([0.0, 0.0, 1.0, 1.0]) * self.inclusive
        return found


@dataclass(frozen=True)
class Preprocessing:
    """What a set of weights expects of its input images."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per RGB channel, of values in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    size: int = 224
    """Side of the square input, pixels."""
    interpolation: str = "bilinear"
    """``bilinear`` or ``bicubic``."""


class Picture(NamedTuple):
    """One judged image, for people to look at. Boxes are half-open, in the image frame."""

    image_id: str
    image: np.ndarray
    """uint8 (H, W, 3) RGB."""
    heat: np.ndarray
    """uint8 (H, W) map of the true class."""
    label: int
    predicted_label: int
    """-1 where nothing is predicted."""
    true_boxes: np.ndarray
    """float64 (M, 4)."""
    predicted_box: np.ndarray
    """float64 (4,) from the map of the true class."""
    iou: float
    """Greatest overlap of the predicted with a true box."""
