"""PNG and JPEG files, written so that a full disk is an error and leaves no cut file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wsol.files import UNWRITABLE, errors_naming

QUALITY = 82
"""Quality of JPEG files, 0 to 100."""


def write_png(file: Path, pixels: np.ndarray) -> None:
    """Write an image; OpenCV's own writing does not notice a full disk.

    Args:
        file: file to create or replace; missing folders are made.
        pixels: uint8 (H, W, 3) RGB, or grey uint8 or uint16 (H, W).

    Raises:
        OSError: the file cannot be written.
    """
    _write(file, to_png(pixels))


def write_jpeg(file: Path, pixels: np.ndarray) -> None:
    """Write an image uint8 (H, W, 3) RGB; see `write_png`."""
    _write(file, _encoded(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY]))


def to_png(pixels: np.ndarray) -> bytes:
    """Return what `write_png` writes."""
    return _encoded(".png", pixels, [])


def _encoded(kind: str, pixels: np.ndarray, settings: list[int]) -> bytes:
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    return cv2.imencode(kind, ordered, settings)[1].tobytes()


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with errors_naming(file):
            file.write_bytes(content)
    except OSError as error:
        if error.errno in UNWRITABLE:
            file.unlink(missing_ok=True)
        raise
