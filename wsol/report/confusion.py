"""Which classes are confused with which."""

from __future__ import annotations

from typing import Any

import numpy as np

CLASSES = 12
"""Number of the most confused classes in the matrix."""
PAIRS = 30
"""Number of pairs in the list."""


def confusion(labels: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Return the most confused classes of a split.

    Args:
        labels: int64 (N,) ground-truth classes.
        predicted: int64 (N,) top predicted classes; -1 if unknown, such images are left out.

    Returns:
        ``pairs``: [ground truth, predicted, images] of the most frequent errors, falling; ``classes``: those with most
        errors, as ground truth or prediction, ascending; ``matrix``: images by ground-truth (row) and predicted class
        of these, and in a last column those predicted as any other class.

    Example:
        >>> confusion(np.array([0, 0, 0, 1, 2]), np.array([1, 1, 0, 1, 0]))["pairs"]
        [[0, 1, 2], [2, 0, 1]]
    """
    known = predicted >= 0
    pairs, counts = np.unique(np.column_stack([labels, predicted])[known], axis=0, return_counts=True)
    wrong = pairs[:, 0] != pairs[:, 1]
    order = np.flatnonzero(wrong)[np.argsort(-counts[wrong], kind="stable")]
    errors = np.bincount(pairs[wrong].ravel(), np.repeat(counts[wrong], 2), minlength=1)
    worst = np.argsort(-errors, kind="stable")[:CLASSES]
    classes = np.sort(worst[errors[worst] > 0])
    matrix = np.zeros((len(classes), len(classes) + 1), np.int64)
    for (true, guess), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        row = np.flatnonzero(classes == true)
        column = np.flatnonzero(classes == guess)
        if len(row):
            matrix[row[0], column[0] if len(column) else -1] += count
    return {
        "pairs": [[*pairs[i].tolist(), int(counts[i])] for i in order[:PAIRS]],
        "classes": classes.tolist(),
        "matrix": matrix.tolist(),
    }
