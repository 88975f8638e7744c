"""PNG files, written so that a full disk raises an error and leaves no incomplete file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wsol.files import UNWRITABLE, errors_naming


def write_png(file: Path, pixels: np.ndarray) -> None:
    """Write an image; OpenCV's own function does not report a full disk.

    Args:
        file: file to create or replace; missing folders are created.
        pixels: uint8 (H, W, 3) RGB, or grey uint8 or uint16 (H, W).

    Raises:
        OSError: the file cannot be written; it does not exist then.
    """
    _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with errors_naming(file):
            file.write_bytes(encoded.tobytes())
    except OSError as error:
        if error.errno in UNWRITABLE:
            file.unlink(missing_ok=True)
        raise
