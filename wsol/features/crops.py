"""A split of image crops: cropped by boxes from maps, or by ground-truth boxes."""

from __future__ import annotations

import numpy as np

from wsol.data.source import Split
from wsol.engine.recognition import crop
from wsol.errors import InputError


class CroppedSplit(Split):
    """The images of a split, each cropped to a box. They have labels but no boxes or masks.

    Args:
        split: the images.
        corners: real (N, 4) half-open boxes, image frame; a box without area means the whole image, and boxes are
            clipped to the image.
    """

    def __init__(self, split: Split, corners: np.ndarray) -> None:
        super().__init__(split.name, split.ids, split.labels)
        self._inner, self._corners = split, corners

    def _read_image(self, row: int) -> np.ndarray:
        image = self._inner.image(row)
        size = image.shape[1], image.shape[0]
        return crop(image, self._corners[row].clip(0, np.tile(size, 2)))


def true_corners(split: Split) -> np.ndarray:
    """Return the box around all ground-truth boxes of each image: float64 (N, 4) half-open, image frame.

    Raises:
        InputError: an image without a box.
    """
    found = []
    for i, name in enumerate(split.ids):
        truth = split.truth(i)
        if truth is None:
            raise InputError(
                f"crops=box: image {name!r} of split {split.name!r} has no ground-truth box; use data with boxes for "
                "training and test images, such as data=cub, or leave `box` out"
            )
        boxes = truth.half_open
        found.append([*boxes[:, :2].min(0), *boxes[:, 2:].max(0)])
    return np.array(found, dtype=np.float64)
