"""What is wrong with an incorrect box: it covers a part of the object, is too large, covers several objects, or misses.

The kinds and their constants are those of Gao et al., "TS-CAM: Token Semantic Coupled Attention Map for Weakly
Supervised Object Localization", ICCV 2021 (https://arxiv.org/abs/2103.14862), and of their released code: its
multi-instance, part and more errors are ``several objects``, ``part`` and ``too large``; the rest is ``miss``. Two
things differ. They count an image of wrong class as a class error before they look at its box; here the box comes from
the map of the ground-truth class, so ``right box, wrong class`` is a kind and an incorrect box keeps its own kind. And
the protocol decides whether a box is correct, while shares are exact areas in the image frame.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from wsol.errors import InputError, unknown
from wsol.functional.metric_inputs import to_result

RIGHT, WRONG_CLASS, PART, TOO_LARGE, SEVERAL, MISS = KINDS = (
    "right",
    "right box, wrong class",
    "part",
    "too large",
    "several objects",
    "miss",
)
"""All kinds; each image has exactly one."""

SEVERAL_COVERED = 0.3
"""A box that covers more than this share of each of two objects is of kind ``several objects``."""

PART_INSIDE = 0.5
"""An incorrect box with more than this share of itself inside the object is of kind ``part``."""

TOO_LARGE_COVERED = 0.7
"""An incorrect box, mostly outside, that covers at least this share of the object is of kind ``too large``."""


def error_kind(box: np.ndarray, true_boxes: np.ndarray, *, box_right: bool, class_right: bool) -> str:
    """Return the kind of one image's localization: the first of these that applies.

    1. The box is correct: ``right``, or ``right box, wrong class``.
    2. It covers more than `SEVERAL_COVERED` of each of two objects or more: ``several objects``.
    3. Of the object with which its IoU is largest, more than `PART_INSIDE` of the box is inside: ``part``;
    4. or the box covers at least `TOO_LARGE_COVERED` of the object: ``too large``.
    5. ``miss``.

    Args:
        box: real (4,) the predicted box, half-open, image frame; a box without area misses.
        true_boxes: real (M, 4), in the same frame; M may be 0.
        box_right: whether the box is correct under the protocol.
        class_right: whether the predicted class is correct; True where no class is predicted.

    Returns:
        One of `KINDS`.

    Example:
        >>> bird = np.array([[10.0, 10.0, 50.0, 40.0]])
        >>> head, tree = np.array([10.0, 10.0, 25.0, 20.0]), np.array([0.0, 0.0, 90.0, 90.0])
        >>> [error_kind(box, bird, box_right=False, class_right=True) for box in (head, tree)]
        ['part', 'too large']
    """
    if box_right:
        return RIGHT if class_right else WRONG_CLASS
    truth = np.asarray(true_boxes, dtype=np.float64).reshape(-1, 4)
    predicted = np.asarray(box, dtype=np.float64)
    if not len(truth):
        return MISS
    shared = _area(np.maximum(truth[:, :2], predicted[:2]), np.minimum(truth[:, 2:], predicted[2:]))
    own, of_objects = _area(predicted[:2], predicted[2:]), _area(truth[:, :2], truth[:, 2:])
    covered = _share(shared, of_objects)
    if (covered > SEVERAL_COVERED).sum() > 1:
        return SEVERAL
    best = _share(shared, own + of_objects - shared).argmax()
    if _share(shared, own)[best] > PART_INSIDE:
        return PART
    return TOO_LARGE if covered[best] >= TOO_LARGE_COVERED else MISS


def kind_codes(kinds: Iterable[str]) -> np.ndarray:
    """Return the positions of N kinds in `KINDS`: uint8 (N,).

    Raises:
        InputError: an unknown kind, or not a list of kinds.
    """
    if isinstance(kinds, str) or not isinstance(kinds, Iterable):
        raise InputError(f"kinds: expected a list of kinds of localization, got {kinds!r}")
    words = list(kinds)
    for word in words:
        if word not in KINDS:
            raise unknown("kind of localization", str(word), KINDS)
    return np.array([KINDS.index(word) for word in words], dtype=np.uint8)


def kind_shares(codes: np.ndarray) -> dict[str, float]:
    """Return the percentage of each kind, from positions in `KINDS`, uint8 (N,); NaN where N is 0."""
    return {kind: 100.0 * float(np.mean(codes == i)) if len(codes) else np.nan for i, kind in enumerate(KINDS)}


def error_split(kinds: Iterable[str]) -> dict[str, Tensor]:
    """Return the share of each kind in a set; the function of `wsol.metrics.ErrorSplit`.

    Args:
        kinds: N of `KINDS`.

    Returns:
        0-d float64 by kind, percent; NaN where N is 0.

    Raises:
        InputError: an unknown kind.

    Example:
        >>> round(error_split(["right", "right", "miss"])["miss"].item(), 2)
        33.33
    """
    return {kind: to_result(share, torch.device("cpu")) for kind, share in kind_shares(kind_codes(kinds)).items()}


def _area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.maximum(high - low, 0.0).prod(axis=-1)
    return found


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``; 0 where whole is 0."""
    found: np.ndarray = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return found
