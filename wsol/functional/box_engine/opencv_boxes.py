"""The boxes of a thresholded map from OpenCV: the reference for `wsol.functional.boxes`, and its slow engine."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np


def largest_pixels(binary: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the box of the largest 8-connected component, the first in reading order if tied: int64 (0 or 1, 4)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    if not len(sizes):
        return np.zeros((0, 4), dtype=np.int64)
    largest = 1 + np.flatnonzero(sizes == sizes.max())
    # OpenCV numbers components by blocks of pixels, not in reading order.
    chosen = largest[0] if len(largest) == 1 else labels.ravel()[np.isin(labels, largest).argmax()]
    return stats[chosen, :4].astype(np.int64).reshape(1, 4)


def largest_contour(binary: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the box of the contour of largest ``contourArea``, OpenCV's first if tied: int64 (0 or 1, 4)."""
    contours = _contours(binary)
    return _rectangles([max(contours, key=cv2.contourArea)] if contours else [])


def all_contours(binary: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the boxes of all contours: int64 (B, 4)."""
    return _rectangles(_contours(binary))


def peak(binary: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the box of the 4-connected component of the first pixel of the highest level: int64 (0 or 1, 4)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=4)
    chosen = labels.ravel()[levels.argmax()]
    return stats[chosen, :4].astype(np.int64).reshape(1, 4) if chosen else np.zeros((0, 4), dtype=np.int64)


def _contours(binary: np.ndarray) -> list[np.ndarray]:
    return list(cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0])


def _rectangles(contours: list[np.ndarray]) -> np.ndarray:
    return np.array([cv2.boundingRect(contour) for contour in contours], dtype=np.int64).reshape(-1, 4)


COMPONENTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "largest_pixels": largest_pixels,
    "largest_contour": largest_contour,
    "all_contours": all_contours,
    "peak": peak,
}
"""From uint8 (H, W), 0 or 255, and the levels (H, W) it was cut from, to boxes x, y, width, height."""
