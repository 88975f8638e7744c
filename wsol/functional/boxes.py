"""Boxes around the bright parts of a map, at all thresholds of interest.

Of a map of grey levels ``q`` (uint8), a threshold t in [0, 1] keeps the pixels above ``T = int(t * max(q))``, strictly
(Choe et al. 2020, MaxBoxAcc). However many thresholds there are, T takes at most 255 different values, here called
*cuts*: only those are looked at. Which boxes count at a cut is one of

===================  ================================================================================================
``largest_pixels``   the 8-connected component of most pixels; of equal ones that with the first pixel in reading order
``largest_contour``  the OpenCV contour of greatest ``contourArea``; of equal ones OpenCV's first (MaxBoxAcc)
``all_contours``     every OpenCV contour, outer ones and those around holes (MaxBoxAccV2)
===================  ================================================================================================

Where no pixel is above the cut there is one box, (0, 0, 0, 0), as in the reference code (where it still has an
overlap).

`box_spans` is the seam behind which an engine sits: it says which boxes there are at which cuts, and nothing about
truth, overlap or protocol. This engine asks OpenCV once for each cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from wsol.errors import InputError, unknown


class Spans(NamedTuple):
    """Boxes, and at which of the cuts each is there: at all from ``first`` to ``last``, both included."""

    boxes: np.ndarray
    """int64 (B, 4) x, y, width, height in pixels of the map."""
    first: np.ndarray
    """int64 (B,) positions in the array of cuts."""
    last: np.ndarray
    """int64 (B,), >= first."""

    def best(self, values: np.ndarray, num_cuts: int) -> np.ndarray:
        """The greatest value among the boxes at each cut.

        Args:
            values: float64 (B,), one for each box, none negative.
            num_cuts: length of the array of cuts that the spans are about.

        Returns:
            float64 (num_cuts,).

        Example:
            >>> spans = Spans(np.zeros((2, 4), np.int64), np.array([0, 1]), np.array([2, 1]))
            >>> spans.best(np.array([0.3, 0.5]), 3).tolist()
            [0.3, 0.5, 0.3]
        """
        lengths = self.last - self.first + 1
        starts = np.repeat(self.first - np.cumsum(lengths) + lengths, lengths)
        out = np.zeros(num_cuts)
        np.maximum.at(out, starts + np.arange(len(starts)), np.repeat(values, lengths))
        return out


def cuts_of(levels: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct cuts ``int(t * max)`` that thresholds mean for a map.

    Args:
        levels: uint8 (H, W).
        thresholds: float64 (G,) in [0, 1].

    Returns:
        Cuts, int64 (L,) ascending; and for each threshold the position of its cut, int64 (G,).

    Example:
        >>> cuts, position = cuts_of(np.array([[0, 4]], np.uint8), np.array([0.0, 0.2, 0.5, 0.6, 0.9]))
        >>> cuts.tolist(), position.tolist()
        ([0, 2, 3], [0, 0, 1, 1, 2])
    """
    cuts, position = np.unique((thresholds * float(levels.max())).astype(np.int64), return_inverse=True)
    return cuts, position


def boxes_at(levels: np.ndarray, cut: int, components: str) -> np.ndarray:
    """The boxes at one cut.

    Args:
        levels: uint8 (H, W).
        cut: pixels strictly above it count.
        components: see the module's table.

    Returns:
        int64 (B, 4) x, y, width, height; B >= 1, and 1 for the ``largest_`` kinds.

    Example:
        >>> boxes_at(np.array([[9, 0, 7, 7]], np.uint8), 5, "largest_pixels").tolist()
        [[2, 0, 2, 1]]
    """
    if components not in COMPONENTS:
        raise unknown("components", components, COMPONENTS)
    if levels.dtype != np.uint8 or levels.ndim != 2 or not levels.size:
        raise InputError(f"expected grey levels uint8 (H, W), got {levels.dtype} {levels.shape}; see to_levels()")
    _, binary = cv2.threshold(levels, int(cut), 255, cv2.THRESH_BINARY)
    return COMPONENTS[components](binary)


def box_spans(levels: np.ndarray, cuts: np.ndarray, components: str) -> Spans:
    """The boxes at each of several cuts.

    Args:
        levels: uint8 (H, W).
        cuts: int64 (L,), ascending and distinct, see `cuts_of`.
        components: see the module's table.

    Returns:
        Spans over ``cuts``; every cut has at least one box.
    """
    found = [boxes_at(levels, cut, components) for cut in cuts]
    position = np.repeat(np.arange(len(cuts)), [len(boxes) for boxes in found])
    return Spans(np.concatenate(found), position, position)


def _largest_pixels(binary: np.ndarray) -> np.ndarray:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    if not len(sizes):
        return np.zeros((1, 4), dtype=np.int64)
    largest = 1 + np.flatnonzero(sizes == sizes.max())
    # OpenCV numbers components by blocks of pixels, not in reading order.
    chosen = largest[0] if len(largest) == 1 else labels.ravel()[np.isin(labels, largest).argmax()]
    return stats[chosen, :4].astype(np.int64).reshape(1, 4)


def _largest_contour(binary: np.ndarray) -> np.ndarray:
    contours = _contours(binary)
    if len(contours) > 1:
        contours = [max(contours, key=cv2.contourArea)]
    return _rectangles(contours)


def _all_contours(binary: np.ndarray) -> np.ndarray:
    return _rectangles(_contours(binary))


def _contours(binary: np.ndarray) -> list[np.ndarray]:
    return list(cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0])


def _rectangles(contours: list[np.ndarray]) -> np.ndarray:
    return np.array([cv2.boundingRect(contour) for contour in contours] or [(0, 0, 0, 0)], dtype=np.int64)


COMPONENTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "largest_pixels": _largest_pixels,
    "largest_contour": _largest_contour,
    "all_contours": _all_contours,
}
