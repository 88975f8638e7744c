"""Overlap of boxes: intersection over union."""

from __future__ import annotations

import numpy as np

from wsol.functional.box_engine.compiled import plain
from wsol.functional.box_engine.overlap import best_overlaps


def iou(boxes_a: np.ndarray, boxes_b: np.ndarray, *, plus_one: bool) -> np.ndarray:
    """Return the intersection over union of every box of one set with every box of another.

    Args:
        boxes_a: real (A, 4) corners x0, y0, x1, y1.
        boxes_b: real (B, 4), in the same frame.
        plus_one: True if x1, y1 are the last pixel inside, so a box is ``x1 - x0 + 1`` wide (the ILSVRC kit, and most
            WSOL code); False if they are the edge. The boxes must match it; the protocol takes care of that.

    Returns:
        float64 (A, B) in [0, 1]; 0 where both boxes are empty. Integer coordinates are exact up to 2**26, so the
        quotient is that of the integer areas.

    Example:
        The boxes share two pixels of the six that they cover together:

        >>> a, b = np.array([[0, 0, 1, 1]]), np.array([[1, 0, 2, 1]])
        >>> iou(a, b, plus_one=True).round(4).tolist(), iou(a, b, plus_one=False).tolist()
        ([[0.3333]], [[0.0]])
    """
    a = np.asarray(boxes_a, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(boxes_b, dtype=np.float64).reshape(1, -1, 4)
    shared = _area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]), plus_one)
    union = _area(a[..., :2], a[..., 2:], plus_one) + _area(b[..., :2], b[..., 2:], plus_one) - shared
    found: np.ndarray = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return found


def best_iou(boxes_a: np.ndarray, boxes_b: np.ndarray, plus_one: bool) -> np.ndarray:
    """Return the largest IoU of each box of one set with any box of another: ``iou(...).max(axis=1)``, bit for bit.

    Args:
        boxes_a: float64 (A, 4), as in `iou`.
        boxes_b: float64 (B, 4), as in `iou`.
        plus_one: see `iou`.

    Returns:
        float64 (A,); 0 where there is no box to compare with.

    Example:
        >>> best_iou(np.array([[0.0, 0, 1, 1]]), np.array([[5.0, 5, 6, 6], [0, 0, 1, 0]]), plus_one=True).tolist()
        [0.5]
    """
    out = np.zeros(len(boxes_a))
    best_overlaps(plain(boxes_a, np.float64), plain(boxes_b, np.float64), float(plus_one), out)
    return out


def _area(low: np.ndarray, high: np.ndarray, plus_one: bool) -> np.ndarray:
    sides = np.maximum(high - low + plus_one, 0.0)
    found: np.ndarray = sides[..., 0] * sides[..., 1]
    return found
