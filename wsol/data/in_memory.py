"""Convert images of Python programs (Pillow, NumPy, torch) to uint8 RGB arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from wsol.data.images import read_image, turn_upright
from wsol.errors import InputError

ImageInput = str | Path | Image.Image | np.ndarray | Tensor
"""A path, a Pillow image, an array uint8 (H, W, 3) RGB, or a tensor (3, H, W), uint8 or float in [0, 1]."""


def as_rgb(image: ImageInput) -> np.ndarray:
    """Return an image as uint8 (H, W, 3) RGB.

    Files and Pillow images are turned upright, as their EXIF orientation says; arrays are used as they are.

    Raises:
        InputError: an unreadable file, or an array that is no image; the message says how to convert it.

    Example:
        >>> import torch
        >>> as_rgb(torch.ones(3, 2, 1)).tolist()
        [[[255, 255, 255]], [[255, 255, 255]]]
    """
    if isinstance(image, str | Path):
        return read_image(image, upright=True)
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise InputError(f"a Pillow image of mode {image.mode} has no agreed range: scale it to 8 bits (L or RGB)")
        return np.array(turn_upright(image).convert("RGB"))
    if isinstance(image, Tensor):
        return _of_tensor(image.detach().cpu())
    if not isinstance(image, np.ndarray):
        raise InputError(f"expected an image (path, Pillow image, array or tensor), got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"array of an image: expected uint8 (H, W, 3) RGB, got {image.dtype} {image.shape}; scale floats by 255, "
            "move channels to the end, repeat grey three times"
        )
    return image if image.flags.writeable else image.copy()  # torch warns about read-only arrays


def _of_tensor(image: Tensor) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise InputError(f"tensor of an image: expected (3, H, W) RGB, got {tuple(image.shape)}")
    values = image.numpy()
    if image.is_floating_point():
        if not (values.min() >= 0 and values.max() <= 1):
            raise InputError(
                f"tensor of an image: floats are expected in [0, 1], got {values.min():.3g} to {values.max():.3g}; "
                "give pixels, not the output of a network's preprocessing"
            )
        values = np.rint(values.astype(np.float64) * 255)
    elif values.dtype != np.uint8:
        raise InputError(f"tensor of an image: expected uint8, or float in [0, 1], got {image.dtype}")
    return np.ascontiguousarray(values.transpose(1, 2, 0), dtype=np.uint8)
