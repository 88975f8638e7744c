"""From a stored image to the network's input, for evaluation (fixed, with its exact geometry) and training (random).

Every transform takes uint8 (H, W, 3) RGB and returns uint8 with channels first, often as a transposed view of an array
with channels last, the fastest output of resizing and the layout of channels-last networks. Normalisation is not done
here.

Resizing averages when it shrinks (antialiasing) and interpolates when it enlarges. It is torch's, which for uint8
images with channels last is faster than OpenCV's INTER_AREA and closer to Pillow, which the papers use. Mean absolute
difference to Pillow on 323 CUB photographs resized to 224 x 224, in grey levels (worst image in brackets), and time per
image:

======================  ============  ============  =======
method                  bilinear      bicubic       ms
======================  ============  ============  =======
torch, antialias        0.02 (0.21)   0.03 (0.23)   0.3
OpenCV INTER_AREA       0.88 (2.56)   0.79 (2.00)   1.0
OpenCV INTER_LINEAR     2.02 (6.67)   1.65 (6.10)   0.14
======================  ============  ============  =======
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from wsol.errors import InputError, unknown
from wsol.functional.geometry import Geometry, shorter_side

INTERPOLATIONS = ("bilinear", "bicubic")


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str = "bilinear") -> np.ndarray:
    """Resize with antialiasing; the edges of the image stay its edges (half-pixel centres).

    Args:
        image: uint8 (H, W, 3).
        size: width and height wanted.
        interpolation: ``bilinear`` or ``bicubic``.

    Returns:
        uint8 (height, width, 3); the image itself if it has that size already.
    """
    if (image.shape[1], image.shape[0]) == tuple(size):
        return image
    planes = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
    out = interpolate(planes, (size[1], size[0]), mode=interpolation, antialias=True)
    return out.permute(0, 2, 3, 1)[0].numpy()


class EvalTransform(ABC):
    """A fixed transform. Its `views` define it: the pixels are computed from that geometry, so both agree.

    Args:
        size: side of the square input, pixels.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    def __init__(self, size: int, interpolation: str = "bilinear") -> None:
        self.size = _side("size", size)
        self.interpolation = _interpolation(interpolation)

    @abstractmethod
    def views(self, size: tuple[int, int]) -> list[Geometry]:
        """Return where the pixels of an image of this size (width, height) go, one geometry for each view."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Transform uint8 (H, W, 3) to uint8 (3, size, size), or (V, 3, size, size) with several views."""
        views = self.views((image.shape[1], image.shape[0]))
        resized = resize(image, views[0].resized, self.interpolation)
        cut = [_cut(resized, view.offset, view.input_size, view.mirrored) for view in views]
        return cut[0].transpose(2, 0, 1) if len(cut) == 1 else np.stack(cut).transpose(0, 3, 1, 2)


class ResizeSquare(EvalTransform):
    """The whole image at ``size`` x ``size``, whatever its shape (Choe et al. 2020).

    Example:
        >>> ResizeSquare(224)(np.zeros((375, 500, 3), np.uint8)).shape
        (3, 224, 224)
    """

    def views(self, size: tuple[int, int]) -> list[Geometry]:
        """Return one view: the whole image."""
        return [Geometry.square(size, self.size)]


class ResizeCrop(EvalTransform):
    """Resize, then the ``size`` x ``size`` window at the centre.

    Args:
        size: side of the square window, pixels.
        resize: side of the resized image, pixels; at least ``size``.
        square: resize the whole image to ``resize`` x ``resize``, as the code of CAM, PSOL, BAS and SAT does; or the
            shorter side only, as ACoL's does.
        interpolation: ``bilinear`` or ``bicubic``.

    Example:
        >>> view, = ResizeCrop(size=224, resize=256).views((500, 375))
        >>> view.resized, view.offset
        ((341, 256), (58, 16))
        >>> view, = ResizeCrop(size=224, resize=256, square=True).views((500, 375))
        >>> view.resized, view.offset
        ((256, 256), (16, 16))
    """

    def __init__(self, size: int, resize: int = 256, square: bool = False, interpolation: str = "bilinear") -> None:
        super().__init__(size, interpolation)
        self.resize = _room_for_crop(size, resize)
        self.square = square

    def views(self, size: tuple[int, int]) -> list[Geometry]:
        """Return one view: the window at the centre."""
        centre = Geometry.crop(size, self.resize, self.size)
        if self.square:
            margin = (self.resize - self.size) // 2
            centre = Geometry(size, (self.resize, self.resize), (margin, margin), centre.input_size)
        return [centre]


class TenCrop(ResizeCrop):
    """Resize, then the windows at the corners and the centre, and the same five mirrored.

    The windows of a square cover the whole image. Arguments: see `ResizeCrop`.

    Example:
        >>> TenCrop(size=224, resize=256)(np.zeros((375, 500, 3), np.uint8)).shape
        (10, 3, 224, 224)
        >>> TenCrop(size=224, resize=256, square=True).views((500, 375))[3].offset
        (32, 32)
    """

    def views(self, size: tuple[int, int]) -> list[Geometry]:
        """Ten views: top left, top right, bottom left, bottom right, centre; then those windows mirrored."""
        (centre,) = super().views(size)
        right, bottom = centre.resized[0] - self.size, centre.resized[1] - self.size
        offsets = [(0, 0), (right, 0), (0, bottom), (right, bottom), centre.offset]
        return [
            Geometry(size, centre.resized, offset, centre.input_size, mirrored)
            for mirrored in (False, True)
            for offset in offsets
        ]


class TrainTransform(ABC):
    """A random transform; all randomness comes from the generator given with the image.

    Args:
        size: side of the square input, pixels.
        flip: whether to mirror every other image.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    def __init__(self, size: int, flip: bool = True, interpolation: str = "bilinear") -> None:
        self.size = _side("size", size)
        self.flip = flip
        self.interpolation = _interpolation(interpolation)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform uint8 (H, W, 3) to uint8 (3, size, size)."""
        return self.draw(image, rng)[0]

    def draw(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Geometry]:
        """Transform uint8 (H, W, 3) to uint8 (3, size, size), and return what was done to it.

        The geometry carries boxes and masks along (`wsol.data.pseudo_targets`); its numbers need not be whole.
        """
        out, view = self._crop(image, rng)
        if self.flip and rng.random() < 0.5:
            out, view = _mirror(out), dataclasses.replace(view, mirrored=True)
        return out.transpose(2, 0, 1), view

    @abstractmethod
    def _crop(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Geometry]:
        """Return the input uint8 (size, size, 3), before it is mirrored, and where its pixels come from."""

    def _window(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
        """Cut a ``size`` x ``size`` window anywhere; returns it and its top-left corner."""
        x = int(rng.integers(image.shape[1] - self.size + 1))
        y = int(rng.integers(image.shape[0] - self.size + 1))
        return _cut(image, (x, y), (self.size, self.size)), (x, y)


class RandomCrop(TrainTransform):
    """Resize, then a window anywhere.

    Args:
        size: side of the square input, pixels.
        resize: side of the resized image, pixels; at least ``size``.
        square: whether to resize to ``resize`` x ``resize`` (Choe et al. 2020), or the shorter side only.
        flip: whether to mirror every other image.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    def __init__(
        self, size: int, resize: int = 256, square: bool = True, flip: bool = True, interpolation: str = "bilinear"
    ) -> None:
        super().__init__(size, flip, interpolation)
        self.resize = _room_for_crop(size, resize)
        self.square = square

    def _crop(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Geometry]:
        size = image.shape[1], image.shape[0]
        resized = (self.resize, self.resize) if self.square else shorter_side(size, self.resize)
        window, corner = self._window(resize(image, resized, self.interpolation), rng)
        return window, Geometry(size, resized, corner, (self.size, self.size))


class RandomResizedCrop(TrainTransform):
    """A window of random area and shape, resized to the input (Szegedy et al. 2015).

    Args:
        size: side of the square input, pixels.
        scale: least and largest share of the image's area.
        ratio: least and largest width / height.
        flip: whether to mirror every other image.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    def __init__(
        self,
        size: int,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = True,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__(size, flip, interpolation)
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise InputError(
                f"expected 0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1]; got {scale}, {ratio}"
            )
        self.scale, self.ratio = (scale[0], scale[1]), (ratio[0], ratio[1])

    def _crop(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Geometry]:
        height, width = image.shape[:2]
        w, h = self._draw(width, height, rng)
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        window = resize(image[y : y + h, x : x + w], (self.size, self.size), self.interpolation)
        along, down = self.size / w, self.size / h
        resized, corner = (width * along, height * down), (x * along, y * down)
        return window, Geometry((width, height), resized, corner, (self.size, self.size))  # type: ignore[arg-type]

    def _draw(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int]:
        """Draw a window's width and height that fit; after ten failures, the largest window of an allowed shape."""
        for _ in range(10):
            area = width * height * rng.uniform(self.scale[0], self.scale[1])
            ratio = np.exp(rng.uniform(np.log(self.ratio[0]), np.log(self.ratio[1])))
            w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return w, h
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        return min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))


class SmallCrop(TrainTransform):
    """For small images: resize to the input, reflect ``padding`` pixels outwards, cut a window anywhere.

    Args:
        size: side of the square input, pixels.
        padding: the furthest shift, pixels; 0 leaves the image where it is.
        flip: whether to mirror every other image.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    def __init__(self, size: int, padding: int = 4, flip: bool = True, interpolation: str = "bilinear") -> None:
        super().__init__(size, flip, interpolation)
        if not 0 <= padding < size:
            raise InputError(f"padding must be at least 0 and below size {size}, got {padding}")
        self.padding = padding

    def _crop(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Geometry]:
        side, p = (self.size, self.size), self.padding
        small = resize(image, side, self.interpolation)
        window, (x, y) = self._window(cv2.copyMakeBorder(small, p, p, p, p, cv2.BORDER_REFLECT_101), rng)
        return window, Geometry((image.shape[1], image.shape[0]), side, (x - p, y - p), side)


def _cut(image: np.ndarray, offset: tuple[int, int], size: tuple[int, int], mirrored: bool = False) -> np.ndarray:
    """Return the window of width and height ``size`` whose top-left corner is ``offset``."""
    (x, y), (w, h) = offset, size
    window = image[y : y + h, x : x + w]
    return _mirror(window) if mirrored else window


def _mirror(image: np.ndarray) -> np.ndarray:
    """Mirror left and right in a new array: torch takes no negative strides."""
    return cv2.flip(image, 1)


def _side(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number of pixels above 0, got {value!r}")
    return value


def _interpolation(name: str) -> str:
    if name not in INTERPOLATIONS:
        raise unknown("interpolation", name, INTERPOLATIONS)
    return name


def _room_for_crop(size: int, resize: int) -> int:
    if _side("resize", resize) < size:
        raise InputError(f"resize {resize} leaves no room for a crop of {size}; set resize to {size} or more")
    return resize
