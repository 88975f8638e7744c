"""Small images and small maps for the page."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wsol.errors import InputError
from wsol.functional.drawing import fitted_size, resize_to_fit
from wsol.functional.geometry import Geometry
from wsol.functional.maps import place, to_levels
from wsol.interop.image_file import write_jpeg
from wsol.protocols import LocalizationProtocol

MAP_SIDE = 40
"""Longer side of the maps that the browser draws over the images; it smooths them when enlarging."""


def write_picture(file: Path, image: np.ndarray, side: int) -> None:
    """Write uint8 (H, W, 3) RGB as a JPEG whose longer side is at most ``side``.

    Raises:
        InputError: it can't be written.
    """
    try:
        write_jpeg(file, resize_to_fit(image, side, enlarge=False))
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
    # finer first, so that no peak of a map of many pixels is stepped over
    fine, small = (fitted_size(*size, side, enlarge=False) for side in (4 * MAP_SIDE, MAP_SIDE))
    frame = Geometry(size, fine, (0, 0), fine)
    placed = place(
        score_map,
        view,
        frame,
        interpolation=protocol.interpolation,
        scaling=protocol.scaling,
        quantiles=protocol.quantiles,
        scale_first=protocol.scale_first,
    )
    return to_levels(cv2.resize(placed, small, interpolation=cv2.INTER_AREA).clip(0, 1))
