"""Several boxes per map, best first, as the authors of CAM find them.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016 (https://arxiv.org/abs/1512.04150). The
paper boxes the largest component above 20 % of the maximum; the code released with it
(https://github.com/zhoubolei/CAM, ``bboxgenerator``) does this instead:

1. For each of three fixed grey levels, take the pixels above it and keep the *deep* ones: their Euclidean distance to
   the nearest pixel below, scaled so that the deepest one has 255 and rounded half up, is above 10.
2. Take the bounding rectangles of the outer and inner contours of the result, cut off 5 pixels before the far borders.
3. Sort the rectangles of all three levels by falling area. Each one in turn removes the later ones whose overlap with
   it is more than half of the larger area. (The rectangle after a removed one is skipped in that turn, because
   the released code erases and then increments.)
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from wsol.errors import InputError

MARGIN = 5
"""Rectangles end this many pixels before the right and the lower border."""


def ranked_boxes(levels: np.ndarray, thresholds: Sequence[int] = (20, 100, 110)) -> np.ndarray:
    """Return the boxes of a map, best first.

    Args:
        levels: uint8 (H, W), of a map divided by its maximum.
        thresholds: grey levels; pixels strictly above count.

    Returns:
        int64 (B, 4) x, y, width, height; (0, 4) where no pixel is above any threshold. A rectangle that begins within 5
        pixels of the far border has zero width or height.

    Raises:
        InputError: the levels are not uint8 (H, W).

    Example:
        >>> levels = np.zeros((60, 80), np.uint8)
        >>> levels[10:50, 10:70] = 90
        >>> levels[20:30, 55:65] = 255
        >>> ranked_boxes(levels).tolist()
        [[10, 10, 60, 40], [55, 20, 10, 10]]
    """
    if levels.dtype != np.uint8 or levels.ndim != 2 or not levels.size:
        raise InputError(f"expected grey levels uint8 (H, W), got {levels.dtype} {levels.shape}; see to_levels()")
    rectangles = np.concatenate([_rectangles(_deep(levels > threshold)) for threshold in thresholds])
    by_area = np.argsort(-rectangles[:, 2] * rectangles[:, 3], kind="stable")
    return _distinct(rectangles[by_area]).clip(0)


def _deep(binary: np.ndarray) -> np.ndarray:
    """Return the pixels deep inside: bool (H, W); all of them if there is no pixel outside."""
    if binary.all() or not binary.any():
        return binary
    root = cv2.distanceTransform(binary.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # OpenCV returns float32 roots of whole squared distances: find the least whole number that is deep enough.
    squares = np.arange(round(float(root.max()) ** 2) + 1)
    deep = np.floor(np.sqrt(squares) * (255.0 / np.sqrt(squares[-1])) + 0.5) > 10
    found: np.ndarray = root >= np.float32(np.sqrt(deep.argmax() - 0.5))
    return found


def _rectangles(binary: np.ndarray) -> np.ndarray:
    """Return int64 (B, 4); widths and heights may be negative near the far borders."""
    contours, _ = cv2.findContours(binary.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    out = np.array([cv2.boundingRect(contour) for contour in contours], dtype=np.int64).reshape(-1, 4)
    limits = np.array(binary.shape[::-1]) - MARGIN
    out[:, 2:] = np.minimum(out[:, 2:], limits - out[:, :2])
    out[:, :2] = np.minimum(out[:, :2], limits)
    return out


def _distinct(rectangles: np.ndarray) -> np.ndarray:
    """Apply step 3 to rectangles sorted by falling area."""
    left = list(rectangles)
    for i, larger in enumerate(left):  # `left` shrinks after i, never before it
        j = i + 1
        while j < len(left):
            if _overlaps_much(larger, left[j]):
                del left[j]
            j += 1
    return np.array(left, dtype=np.int64).reshape(-1, 4)


def _overlaps_much(a: np.ndarray, b: np.ndarray) -> bool:
    sides = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    return bool(sides.clip(0).prod() > int(max(a[2] * a[3], b[2] * b[3]) * 0.5))
