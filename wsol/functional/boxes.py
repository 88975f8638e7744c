"""Boxes around the bright parts of a map, at all thresholds.

For a map of grey levels ``q`` (uint8), a threshold t in [0, 1] keeps the pixels strictly above ``T = int(t * max(q))``
(Choe et al. 2020, MaxBoxAcc). Regardless of the number of thresholds, T takes at most 255 different values that leave
any pixel; they are called *cuts*, and only they are evaluated. The boxes at a cut are of one of these kinds:

===================  ================================================================================================
``largest_pixels``   the 8-connected component of most pixels; if equal, the one that is first in reading order
``largest_contour``  the OpenCV contour of largest ``contourArea``; if equal, OpenCV's first (MaxBoxAcc)
``all_contours``     every OpenCV contour, outer ones and those around holes (MaxBoxAccV2)
``peak``             the 4-connected component of the map's highest pixel, the first in reading order (LOST, TokenCut)
===================  ================================================================================================

Where no pixel is above the cut there is one box, (0, 0, 0, 0), as in the reference code (where it still has an
overlap).

`box_spans` hides the engine: it returns which boxes exist at which cuts, and knows nothing about ground truth, overlap
or protocol. There are two engines, and they agree:

- ``tree`` follows the components of a map through all cuts at once, see `wsol.functional.box_engine.component_tree`
  and `wsol.functional.box_engine.spans`. Outer contours are the 8-connected components of the foreground. Contours
  around holes are the 4-connected components of the background that do not reach the frame; OpenCV draws them on the
  foreground around, so their boxes are larger by one pixel on each side. The largest are found by
  `wsol.functional.box_engine.contour_area` and `wsol.functional.box_engine.component_sizes`, or at few cuts by
  `wsol.functional.box_engine.runs`.
- ``opencv`` calls OpenCV once for each cut, see `wsol.functional.box_engine.opencv_boxes`. Tests compare ``tree`` with
  it, and it replaces ``tree`` where numba can't be imported.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from wsol.errors import InputError, unknown
from wsol.functional.box_engine.compiled import AVAILABLE, compiled, plain
from wsol.functional.box_engine.opencv_boxes import COMPONENTS
from wsol.functional.box_engine.overlap import best_at_cuts
from wsol.functional.box_engine.quantile import level_quantile
from wsol.functional.box_engine.spans import KINDS, Limits, distinct_cuts, find_spans, room
from wsol.functional.maps import to_levels

ENGINES = ("tree", "opencv")

LIMITS = Limits()


class Spans(NamedTuple):
    """Boxes, and the cuts at which each exists: all from ``first`` to ``last``, both included."""

    boxes: np.ndarray
    """int64 (B, 4) x, y, width, height in pixels of the map."""
    first: np.ndarray
    """int64 (B,) positions in the array of cuts."""
    last: np.ndarray
    """int64 (B,), >= first."""

    def best(self, values: np.ndarray, num_cuts: int) -> np.ndarray:
        """Return the largest value among the boxes at each cut.

        Args:
            values: float64 (B,), one for each box, not negative.
            num_cuts: length of the array of cuts that the spans refer to.

        Returns:
            float64 (num_cuts,).

        Example:
            >>> spans = Spans(np.zeros((2, 4), np.int64), np.array([0, 1]), np.array([2, 1]))
            >>> spans.best(np.array([0.3, 0.5]), 3).tolist()
            [0.3, 0.5, 0.3]
        """
        out = np.zeros(num_cuts)
        best_at_cuts(plain(self.first, np.int64), plain(self.last, np.int64), plain(values, np.float64), out)
        return out


def fine_levels(score_map: np.ndarray) -> np.ndarray:
    """Cut a map in [0, 1] into 256 times as many levels as `wsol.functional.maps.to_levels` does.

    Args:
        score_map: real (H, W).

    Returns:
        uint16 (H, W), ``map * 255`` in float64, times 256, truncated. The upper byte is the grey level; the lower one
        orders the pixels of a level, which changes no box but makes the search faster.

    Raises:
        InputError: values outside [0, 1], or NaN.

    Example:
        >>> fine = fine_levels(np.array([[0.0, 0.5, 1.0]]))
        >>> fine.tolist(), (fine >> 8).tolist()
        ([[0, 32640, 65280]], [[0, 127, 255]])
    """
    values = plain(score_map, np.float64)
    out = np.empty(values.shape, np.uint16)
    if values.ndim != 2 or not values.size or not _fine_levels(values, out):
        to_levels(values)  # raises with the reason
    return out


def cuts_of(levels: np.ndarray, thresholds: np.ndarray, share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct cuts ``int(t * max)`` of a map at thresholds t.

    Args:
        levels: uint8 (H, W), or uint16 from `fine_levels`.
        thresholds: float64 (G,) in [0, 1].
        share: in place of the maximum, which quantile of the levels thresholds are parts of.

    Returns:
        Cuts, int64 (L,) ascending; and for each threshold the position of its cut, int64 (G,).

    Example:
        >>> cuts, position = cuts_of(np.array([[0, 4]], np.uint8), np.array([0.0, 0.2, 0.5, 0.6, 0.9]))
        >>> cuts.tolist(), position.tolist()
        ([0, 2, 3], [0, 0, 1, 1, 2])
    """
    fine = levels.astype(np.uint16) << 8 if levels.dtype == np.uint8 else plain(levels, np.uint16)
    return distinct_cuts(plain(thresholds, np.float64), level_quantile(fine, float(share)))


def boxes_at(levels: np.ndarray, cut: int, components: str) -> np.ndarray:
    """Return the boxes at one cut.

    Args:
        levels: uint8 (H, W), or uint16 from `fine_levels`.
        cut: grey level; pixels strictly above it count.
        components: see the module's table.

    Returns:
        int64 (B, 4) x, y, width, height; B >= 1, and 1 for the ``largest_`` kinds.

    Example:
        >>> boxes_at(np.array([[9, 0, 7, 7]], np.uint8), 5, "largest_pixels").tolist()
        [[2, 0, 2, 1]]
    """
    return box_spans(levels, np.array([cut]), components, "opencv").boxes


def box_spans(levels: np.ndarray, cuts: np.ndarray, components: str, engine: str = "tree") -> Spans:
    """Return the boxes at each of several cuts.

    Args:
        levels: uint8 (H, W), or uint16 from `fine_levels`.
        cuts: int64 (L,), ascending and distinct, see `cuts_of`.
        components: see the module's table.
        engine: ``tree`` or ``opencv``; both return the same boxes at a cut, but maybe different spans.

    Returns:
        Spans over ``cuts``; every cut has at least one box.

    Example:
        >>> spans = box_spans(np.array([[9, 0, 7, 7]], np.uint8), np.arange(9), "largest_pixels")
        >>> spans.boxes[[6, 7]].tolist()
        [[2, 0, 2, 1], [0, 0, 1, 1]]
    """
    if components not in COMPONENTS:
        raise unknown("components", components, COMPONENTS)
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if levels.dtype not in (np.uint8, np.uint16) or levels.ndim != 2 or not levels.size:
        raise InputError(
            f"expected grey levels (H, W), uint8 or uint16, got {levels.dtype} {levels.shape}; see to_levels()"
        )
    if engine == "opencv" or not AVAILABLE:
        return _opencv_spans(levels, cuts, components)
    fine = levels.astype(np.uint16) << 8 if levels.dtype == np.uint8 else plain(levels, np.uint16)
    return _tree_spans(fine, np.asarray(cuts), components)


def half_open(boxes: np.ndarray) -> np.ndarray:
    """Return the corners of boxes, the upper ones (x1, y1) just outside.

    Args:
        boxes: int64 (B, 4) x, y, width, height.

    Returns:
        float64 (B, 4) x0, y0, x1, y1.

    Example:
        >>> half_open(np.array([[2, 3, 10, 1]])).tolist()
        [[2.0, 3.0, 12.0, 4.0]]
    """
    out = np.empty((len(boxes), 4))
    _half_open(plain(boxes, np.int64), out)
    return out


def largest_box(corners: np.ndarray) -> np.ndarray | None:
    """Return the box of largest area, the first if several are equal; None if no box has an area.

    Args:
        corners: real (B, 4) x0, y0, x1, y1, half-open, with x1 >= x0 and y1 >= y0.

    Returns:
        real (4,).

    Example:
        >>> largest_box(np.array([[0, 0, 2, 2], [1, 1, 5, 2], [0, 0, 3, 2]])).tolist()
        [0, 0, 3, 2]
        >>> largest_box(np.zeros((1, 4))) is None
        True
    """
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    found: np.ndarray | None = corners[areas.argmax()] if areas.max(initial=0) > 0 else None
    return found


def _opencv_spans(levels: np.ndarray, cuts: np.ndarray, components: str) -> Spans:
    grey = (levels >> 8).astype(np.uint8) if levels.dtype == np.uint16 else levels
    found = []
    for cut in cuts:
        boxes = COMPONENTS[components](cv2.threshold(grey, int(cut), 255, cv2.THRESH_BINARY)[1], levels)
        found.append(boxes if len(boxes) else np.zeros((1, 4), np.int64))
    position = np.repeat(np.arange(len(cuts)), [len(boxes) for boxes in found])
    return Spans(np.concatenate(found), position, position)


def _tree_spans(levels: np.ndarray, cuts: np.ndarray, components: str) -> Spans:
    found = room(levels.shape)
    num = find_spans(levels, plain(cuts, np.int64), KINDS[components], LIMITS, found)
    return Spans(found.boxes[:num].copy(), found.first[:num].copy(), found.last[:num].copy())


@compiled
def _fine_levels(values, out):
    """Fill in the levels. Returns whether all values lie in [0, 1]."""
    fine = True
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            value = values[y, x]
            fine &= (value >= 0.0) & (value <= 1.0)
            out[y, x] = np.uint16(np.int32(value * 65280.0))  # rounds as value * 255.0 does, then times 256
    return fine


@compiled
def _half_open(boxes, out):
    for i in range(len(boxes)):
        out[i, 0], out[i, 1] = boxes[i, 0], boxes[i, 1]
        out[i, 2], out[i, 3] = boxes[i, 0] + boxes[i, 2], boxes[i, 1] + boxes[i, 3]
