"""Read image files as uint8 RGB arrays, in all formats that published datasets use; convert images of Python programs.

Plain 8-bit grey and colour JPEGs, which nearly all files are, are decoded by OpenCV, everything else by Pillow. On 323
photographs of CUB-200-2011 the two (5.0 and 13.0, both on libjpeg-turbo) gave the same pixels to the last bit, OpenCV
in 0.8 of the time.

Conventions: EXIF orientation is ignored unless ``upright`` is set. The boxes of published datasets are annotated on
the pixels as stored, while people and annotation tools see their own photographs upright. An alpha channel is dropped,
keeping the colours stored beneath it, as `torchvision.datasets.ImageFolder` does; 16-bit values are scaled to 8 bits
(v / 257), not clipped; only the first frame of an animation is read.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from wsol.data.regular_files import open_regular, read_regular
from wsol.errors import InputError

_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_BROKEN_FILE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Errors that Pillow raises for broken files; they have no documented common class."""

ImageInput = str | Path | Image.Image | np.ndarray | Tensor
"""A path, a Pillow image, an array uint8 (H, W, 3) RGB, or a tensor (3, H, W), uint8 or float in [0, 1]."""


class BadImage(InputError):
    """An image file that cannot be read."""


def read_image(path: str | Path, upright: bool = False) -> np.ndarray:
    """Read an image file of any common format: uint8 (H, W, 3) RGB.

    Args:
        path: the file.
        upright: turn the image as its EXIF orientation says; False for the pixels as stored.

    Raises:
        BadImage: naming the file, if it is missing, empty, truncated, not an image, or has floating-point pixels.
    """
    data = _read(path)
    if _is_plain_jpeg(data) and not (upright and _turn(data) != 1):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
        if image is not None:
            return image
    return _decode(path, data, "RGB", upright)


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


def read_grey(path: str | Path, upright: bool = False) -> np.ndarray:
    """Read a mask file: uint8 (H, W). One-bit files give 0 and 255, 8-bit grey ones the values stored.

    Args:
        path: the file.
        upright: as in `read_image`.

    Raises:
        BadImage: as `read_image`.
    """
    return _decode(path, _read(path), "L", upright)


def image_size(path: str | Path, upright: bool = False) -> tuple[int, int]:
    """Return width and height of an image file, from its header.

    Args:
        path: the file.
        upright: as in `read_image`.

    Raises:
        InputError: naming the file, if it is missing, no regular file or not an image.
    """
    try:
        with open_regular(path) as file, Image.open(file) as image:
            return image.size[::-1] if upright and orientation(image) > 4 else image.size
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except _BROKEN_FILE as error:
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else _reason(error)
        raise InputError(f"{path}: not a readable image ({reason})") from error


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8; those above 4 swap width and height.

    It is 1, "as stored", if the file has none or an invalid one, and for TIFF files, which Pillow turns by itself.
    """
    if image.format == "TIFF":
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN_FILE:
        return 1
    return value if value in range(1, 9) else 1


def file_orientation(path: str | Path) -> int:
    """Return the `orientation` of an image file; 1 if it cannot be read."""
    try:
        return _turn(_read(path))
    except BadImage:
        return 1


def turn_upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF orientation says."""
    return ImageOps.exif_transpose(image) if orientation(image) != 1 else image


def decoded_size(path: str | Path, upright: bool = False) -> tuple[int, int]:
    """Return width and height of an image file after decoding all pixels; a warning of libjpeg counts as damage.

    Most damaged JPEGs still decode, to grey or noise from the damage on. This finds data that end too early, bytes
    between segments and broken codes; a changed byte that leaves the codes valid cannot be found.

    Args:
        path: the file.
        upright: as in `read_image`.

    Raises:
        BadImage: as `read_image`, and for damaged data of a plain JPEG.
    """
    data = _read(path)
    if _is_plain_jpeg(data):
        try:
            height, width, _ = simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True).shape
            return (height, width) if upright and _turn(data) > 4 else (width, height)
        except ValueError as error:
            read_image(path)  # training can read it, but sees wrong pixels
            raise BadImage(f"{path}: damaged, its pixels are partly wrong ({error}); replace the file") from error
    height, width = read_image(path, upright).shape[:2]
    return width, height


def _read(path: str | Path) -> bytes:
    try:
        data = read_regular(path)
    except FileNotFoundError as error:
        raise _bad(path, "no such file") from error
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    if not data:
        raise _bad(path, "the file is empty")
    return data


def _turn(data: bytes) -> int:
    """Return the `orientation` of a file's bytes; 1 if they are no image."""
    if data[:2] == b"\xff\xd8" and b"Exif\0" not in data[: 2**17]:  # a JPEG has it at its start
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            return orientation(image)
    except _BROKEN_FILE:
        return 1


def _decode(path: str | Path, data: bytes, mode: str, upright: bool = False) -> np.ndarray:
    """Decode by Pillow to ``mode``, RGB or L."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            file = turn_upright(opened) if upright else opened
            file.info.pop("transparency", None)  # otherwise convert() warns before dropping it
            if file.mode.startswith("I"):
                return np.array(Image.fromarray(_to_8_bits(np.asarray(file))).convert(mode))
            if file.mode != "F":
                return np.array(file.convert(mode))
    except _BROKEN_FILE as error:
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else _reason(error)
        raise _bad(path, f"truncated or unreadable ({reason})") from error
    raise _bad(path, "floating-point pixels have no agreed range; store it with 8 or 16 bits")


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale 0..65535 to 0..255, rounding; Pillow would clip at 255."""
    return ((np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)


def _is_plain_jpeg(data: bytes) -> bool:
    """Return whether these bytes are a complete baseline or progressive JPEG of 8 bits and 1 or 3 channels.

    Complete means that it has its end marker: without it OpenCV silently fills the rest with grey.
    After the first scan's header, 0xFFD9 has no other meaning. Files refused here are read by Pillow.
    """
    at, plain = 2, False
    while data[:2] == b"\xff\xd8" and at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in (0xC0, 0xC1, 0xC2):  # start of frame: precision, height, width, channels
            plain = data[at + 4] == 8 and data[at + 9] in (1, 3)
        if marker == 0xDA:  # start of scan
            return plain and data.rfind(b"\xff\xd9", at) > 0
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


def _bad(path: str | Path, reason: str) -> BadImage:
    return BadImage(f"{path}: {reason}; replace the file")


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
