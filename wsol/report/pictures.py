"""Small images and small maps for the page."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.functional.maps import place, to_levels
from wsol.protocols import LocalizationProtocol

MAP_SIDE = 40
"""Longer side of the maps that the browser draws over the images; it smooths them when enlarging."""

QUALITY = 82


def write_picture(file: Path, image: np.ndarray, side: int) -> None:
    """Write uint8 (H, W, 3) RGB as a JPEG whose longer side is at most ``side``.

    Raises:
        InputError: it can't be written.
    """
    size = _within(image.shape[1], image.shape[0], side)
    if size != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    try:
        if not done:
            raise OSError(0, "OpenCV cannot encode it as JPEG")
        file.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); choose another folder with out=...") from error


def small_map(score_map: np.ndarray, view: Geometry, protocol: LocalizationProtocol) -> np.ndarray:
    """Return the map over the whole image, scaled by the protocol: uint8 grey levels, longer side `MAP_SIDE`.

    Args:
        score_map: real (h, w), not scaled.
        view: the part of the image that it shows.
        protocol: defines scaling and interpolation.

    Example:
        >>> from wsol.protocols import protocol
        >>> small_map(np.eye(2), Geometry.whole((200, 100)), protocol("cam2016")).shape
        (20, 40)
    """
    size = view.image_size
    fine = _within(*size, 4 * MAP_SIDE)  # finer first, so that no peak of a large map is skipped
    frame = Geometry(size, fine, (0, 0), fine)
    placed = place(
        score_map,
        view,
        frame,
        interpolation=protocol.interpolation,
        scaling=protocol.scaling,
        scale_first=protocol.scale_first,
    )
    return to_levels(cv2.resize(placed, _within(*size, MAP_SIDE), interpolation=cv2.INTER_AREA).clip(0, 1))


def _within(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the size (width, height) reduced to at most ``side`` pixels, keeping the aspect ratio."""
    scale = min(side / max(width, height), 1.0)
    return max(round(width * scale), 1), max(round(height * scale), 1)
