"""Maps between the pixels of a stored image and the network's input.

One view of an image is made by resizing it to ``resized``, cropping the window of ``input_size`` whose top-left corner
is ``offset``, and optionally mirroring it. With the image frame's x (continuous, in pixels)::

    x_input = x * resized_width / image_width - offset_x          (mirrored: input_width - x_input)

Boxes follow exactly the same map, so a box stays aligned with its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """The affine map between the image frame and the input frame of one view. All sizes are (width, height), pixels.

    ``resized`` and ``offset`` are whole for fixed views; a window that is resized after it was cut has fractions there.

    Example:
        >>> view = Geometry(image_size=(500, 375), resized=(341, 256), offset=(58, 16), input_size=(224, 224))
        >>> view.to_image(view.to_input([[100.0, 50.0, 300.0, 200.0]])).round(9).tolist()
        [[100.0, 50.0, 300.0, 200.0]]
    """

    image_size: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    input_size: tuple[int, int]
    mirrored: bool = False

    @classmethod
    def square(cls, image_size: tuple[int, int], size: int) -> Geometry:
        """Return the geometry of the whole image resized to ``size`` x ``size``, regardless of its shape."""
        return cls(image_size, (size, size), (0, 0), (size, size))

    @classmethod
    def whole(cls, image_size: tuple[int, int]) -> Geometry:
        """Return the geometry of the unchanged image."""
        return cls(image_size, image_size, (0, 0), image_size)

    @classmethod
    def crop(cls, image_size: tuple[int, int], resize: int, size: int) -> Geometry:
        """Return the geometry of resizing the shorter side to ``resize`` and a centre crop of ``size`` x ``size``.

        Example:
            >>> view = Geometry.crop((500, 375), resize=256, size=224)
            >>> view.resized, view.offset
            ((341, 256), (58, 16))
        """
        resized = shorter_side(image_size, resize)
        offset = round((resized[0] - size) / 2), round((resized[1] - size) / 2)
        return cls(image_size, resized, offset, (size, size))

    def to_input(self, boxes: np.ndarray | list) -> np.ndarray:
        """Map boxes (M, 4) from the image frame to the input frame; float64, not clipped."""
        out = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        for axis in (0, 1):
            out[:, axis::2] = out[:, axis::2] * self.resized[axis] / self.image_size[axis] - self.offset[axis]
        return self._mirror(out)

    def to_image(self, boxes: np.ndarray | list) -> np.ndarray:
        """Map boxes (M, 4) from the input frame to the image frame; float64, not clipped."""
        out = self._mirror(np.array(boxes, dtype=np.float64).reshape(-1, 4))
        for axis in (0, 1):
            out[:, axis::2] = (out[:, axis::2] + self.offset[axis]) * self.image_size[axis] / self.resized[axis]
        return out

    def _mirror(self, boxes: np.ndarray) -> np.ndarray:
        if not self.mirrored:
            return boxes
        out = boxes.copy()
        out[:, 0], out[:, 2] = self.input_size[0] - boxes[:, 2], self.input_size[0] - boxes[:, 0]
        return out


def most_central(views: Sequence[Geometry]) -> int:
    """Return which view of an image is nearest to its centre; of equal ones the first that is not mirrored.

    Example:
        >>> corner = Geometry((8, 8), (8, 8), (0, 0), (4, 4))
        >>> most_central([corner, Geometry((8, 8), (8, 8), (2, 2), (4, 4))])
        1
    """

    def distance(view: Geometry) -> float:
        """Return the squared distance from the view's centre to that of the image, in sides of the image."""
        sides = zip(view.offset, view.input_size, view.resized, strict=True)
        return sum(((offset + size / 2) / resized - 0.5) ** 2 for offset, size, resized in sides)

    return min(range(len(views)), key=lambda i: (distance(views[i]), views[i].mirrored))


def shorter_side(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Scale (width, height) so that the shorter side becomes ``target``; the other is rounded down, as in torchvision.

    Example:
        >>> shorter_side((500, 375), 256)
        (341, 256)
    """
    width, height = size
    short = min(size)
    return target * width // short, target * height // short
