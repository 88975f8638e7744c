"""Concepts: a linear SVM separates images with a concept from images without it, and localizes it in an image.

Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 5.2: an SVM on the pooled features F
of a network detects a concept that the network was never trained on, and its weights, in place of a class's, make the
class activation map of the concept. With features scaled to unit length::

    score = w . F / |F| + b,    map M(x, y) = sum_k w_k f_k(x, y) / |F|,    mean of M = score - b
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsol.data.source import FileSplit
from wsol.errors import InputError
from wsol.features.extract import FeatureBatch, linear_maps
from wsol.features.svm import LinearSvm, accuracies

NEGATIVE, POSITIVE = 0, 1


def files_as_split(name: str, files: Sequence[Path], labels: Sequence[int]) -> FileSplit:
    """Return image files as a split; their absolute paths are their ids.

    Raises:
        InputError: no files, or a duplicate.
    """
    paths = [str(file.resolve()) for file in files]
    return FileSplit(name, paths, labels, "/", paths, upright=True)


def hold_out(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Select the images that the SVM does not learn from: the same share of each class, rounded, at least one image.

    Args:
        labels: int (N,).
        share: in (0, 1).
        seed: seed of the random selection.

    Returns:
        bool (N,).

    Raises:
        InputError: the share is out of its range, or a class has too few images.

    Example:
        >>> hold_out(np.array([0, 0, 0, 0, 1, 1]), 0.25).sum()
        np.int64(2)
    """
    if not 0 < share < 1:
        raise InputError(f"held_out: expected a share strictly between 0 and 1, got {share}")
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = max(round(share * len(of_class)), 1)
        if count >= len(of_class):
            which = "positives" if label == POSITIVE else "negatives"
            raise InputError(
                f"{which}: {len(of_class)} images, {count} of them held out, leave none to learn from; add images, or "
                "lower held_out"
            )
        held[rng.choice(of_class, count, replace=False)] = True
    return held


def concept_maps(seen: FeatureBatch, svm: LinearSvm) -> Tensor:
    """Return the maps of the positive class, float32 (N, V, h, w); their mean plus the bias is the SVM's score."""
    weight = torch.from_numpy(svm.weight[POSITIVE]).to(seen.cells)
    maps = linear_maps(seen.cells, weight.expand(len(seen.cells), -1))
    if not svm.unit_length:
        return maps
    lengths = seen.features.norm(dim=1)
    return maps / torch.where(lengths > 0, lengths, torch.ones_like(lengths)).view(-1, 1, 1, 1)


def classification_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return accuracy, mean accuracy of positives and negatives, and average precision, percent.

    Args:
        scores: real (N,) of the positive class; correct if above 0 for positives, and not above 0 for negatives.
        labels: int (N,), `POSITIVE` or `NEGATIVE`.

    Example:
        >>> classification_metrics(np.array([2.0, -1.0, -3.0, -4.0]), np.array([1, 1, 0, 0]))
        {'accuracy': 75.0, 'mean_class_accuracy': 75.0, 'average_precision': 100.0}
    """
    found = accuracies(np.where(scores > 0, POSITIVE, NEGATIVE), labels)
    from sklearn.metrics import average_precision_score

    return {**found, "average_precision": 100 * float(average_precision_score(labels == POSITIVE, scores))}
