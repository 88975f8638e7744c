"""The box of a map as a step function of the threshold, encoded as bytes that the page's slider looks up.

If there are several boxes at a threshold (protocols that count every contour), the one that counts is used: that of
largest IoU with a ground-truth box. Neighbouring thresholds mostly have the same box, so a map of a thousand
thresholds takes about a hundred steps of 5 to 7 bytes. Overlaps are not stored: the page computes them from the corners
with the arithmetic of `wsol.functional.iou`, in the same double precision, so its results equal Python's to the last
bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsol.functional.geometry import Geometry
from wsol.functional.iou import best_iou
from wsol.protocols import FoundBoxes, LocalizationProtocol
from wsol.types import GroundTruth


class Steps(NamedTuple):
    """The boxes of one map, one after another as the threshold rises."""

    first: np.ndarray
    """int64 (S,) position of the first threshold of each box; it is valid until the next one's."""
    boxes: np.ndarray
    """int64 (S, 4) x0, y0, x1, y1 in the protocol's frame, half-open; without area if no pixel is above. float64 if the
    network gave the box, which then need not be whole."""
    frame: Geometry
    """The frame in which the boxes are evaluated."""
    true_corners: np.ndarray
    """float64 (M, 4) ground truth in that frame, with ends as the protocol counts them."""

    def numbers(self) -> np.ndarray:
        """Everything except the ground-truth corners, as the page reads it: int64: counts, frame, then 5 per step.

        A box that the network gave is truncated: the page has its corners besides, in double precision.
        """
        (width, height), (x, y) = self.frame.resized, self.frame.offset
        head = [len(self.first), len(self.true_corners), width, height, *zigzag(np.array([x, y])).tolist()]
        rise = np.diff(self.first, prepend=0)
        moved = zigzag(np.diff(self.boxes.astype(np.int64), axis=0, prepend=0))
        return np.concatenate([head, self.frame.input_size, np.column_stack([rise, moved]).ravel()]).astype(np.int64)


def steps(protocol: LocalizationProtocol, found: FoundBoxes, view: Geometry, truth: GroundTruth | None) -> Steps:
    """Return the box that counts at every threshold.

    Args:
        protocol: protocol that found the boxes.
        found: result of `LocalizationProtocol.find`.
        view: view of the map.
        truth: ground truth of the image; None if there is none, then the largest box counts.

    Example:
        >>> from wsol.protocols import protocol
        >>> mine, view = protocol("cam2016", interpolation="linear", origins=["oracle"]), Geometry.square((4, 1), 4)
        >>> found = mine.find(np.array([[0.0, 0.5, 1.0, 0.7]]), view)
        >>> mine = steps(mine, found, view, None)
        >>> mine.first.tolist(), mine.boxes.tolist()
        ([0, 499, 699], [[1, 0, 4, 1], [2, 0, 4, 1], [2, 0, 3, 1]])
    """
    frame = protocol.frame_of(view)
    true = np.zeros((0, 4)) if truth is None else protocol.true_corners(frame, truth)
    boxes = found.spans.boxes.copy()
    value = boxes[:, 2] * boxes[:, 3] if truth is None else best_iou(found.corners, true, plus_one=protocol.plus_one)
    boxes[:, 2:] += boxes[:, :2]
    if not len(boxes):  # ranked boxes may be empty
        return Steps(np.zeros(0, np.int64), boxes, frame, true)
    best = np.zeros(int(found.position.max()) + 1, np.int64)
    for i in np.argsort(value, kind="stable"):  # the largest comes last and remains
        best[found.spans.first[i] : found.spans.last[i] + 1] = i
    at = boxes[best[found.position]]
    first = np.flatnonzero(np.append(True, (at[1:] != at[:-1]).any(axis=1)))
    return Steps(first, at[first], frame, true)


def given_step(protocol: LocalizationProtocol, box: np.ndarray, view: Geometry, truth: GroundTruth | None) -> Steps:
    """Return the box that a network gave, valid at every threshold.

    Args:
        protocol: protocol that evaluates it, see `LocalizationProtocol.evaluate_boxes`.
        box: float64 (1, 4) half-open, image frame.
        view: what part of the image the network saw.
        truth: ground truth of the image; None if there is none.

    Example:
        >>> from wsol.protocols import protocol
        >>> mine = given_step(protocol("cam2016"), np.array([[0.5, 0.0, 2.0, 1.0]]), Geometry.square((4, 1), 4), None)
        >>> mine.first.tolist(), mine.boxes.tolist()
        ([0], [[0.5, 0.0, 2.0, 1.0]])
    """
    frame = protocol.frame_of(view)
    true = np.zeros((0, 4)) if truth is None else protocol.true_corners(frame, truth)
    framed = frame.to_input(box).clip(0, np.tile(frame.input_size, 2))
    return Steps(np.zeros(1, np.int64), framed, frame, true)


def zigzag(values: np.ndarray) -> np.ndarray:
    """Map small numbers of either sign to small numbers from 0 on: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    return np.where(values < 0, -2 * values - 1, 2 * values)


def varints(values: np.ndarray) -> bytes:
    """Encode numbers below 2**28: seven bits per byte, the lowest first, the eighth bit set if another byte follows.

    Args:
        values: int64 (n,), not negative.

    Example:
        >>> list(varints(np.array([5, 300])))
        [5, 172, 2]
    """
    count = 1 + (values >= 1 << 7) + (values >= 1 << 14) + (values >= 1 << 21)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    rest = np.repeat(values, count) >> (7 * place)
    more = place < np.repeat(count, count) - 1
    return ((rest & 127) | (more * 128)).astype(np.uint8).tobytes()
