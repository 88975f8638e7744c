"""Linear SVMs on features: how well the features describe images of other classes.

One-vs-rest with squared hinge loss (LIBLINEAR, through scikit-learn), on features scaled to unit length, as is common
with AlexNet's fc7 features. Zhou et al. 2016 (CAM), section 4, tables 4 and 5, compare features this way.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsol.errors import InputError
from wsol.extras import need

log = logging.getLogger("wsol")

FOLDS = 5
"""Number of cross-validation folds for choosing C."""

STEPS = 1_000
"""Maximum number of iterations of the solver, as in LIBLINEAR."""


@dataclass(frozen=True)
class LinearSvm:
    """A linear classifier of K classes.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([3, 5, 8], 20)
        >>> features = np.eye(9)[labels] + 0.1 * rng.random((60, 9))
        >>> svm = fit(features, labels)
        >>> svm.weight.shape, (svm.predict(features) == labels).all()
        ((3, 9), np.True_)
    """

    weight: np.ndarray
    """float64 (K, C)."""
    bias: np.ndarray
    """float64 (K,)."""
    labels: np.ndarray
    """int64 (K,) the labels of the classes."""
    c: float
    """The cost C it was trained with."""
    unit_length: bool
    """Whether features are scaled to length 1 first."""

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return w . F + b, float64 (N, K), for features real (N, C)."""
        return self._scaled(features) @ self.weight.T + self.bias

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the label of the best class of each image, int64 (N,)."""
        return self.labels[self.scores(features).argmax(1)]

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        return unit_length(features) if self.unit_length else features.astype(np.float64)


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    c: float | Sequence[float] = 1.0,
    *,
    scale: bool = True,
    seed: int = 0,
) -> LinearSvm:
    """Train.

    Args:
        features: real (N, C).
        labels: int (N,), at least two classes.
        c: the cost C, above 0; of several, the one with the best cross-validation on these images is used (the smallest
            if equal).
        scale: whether to scale features to length 1.
        seed: seed of the solver and of the split into `FOLDS` folds.

    Raises:
        InputError: a single class, features that are not finite, no or impossible costs, or several costs with a class
            of one image.
    """
    need("sklearn", what="a linear SVM")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.svm import LinearSVC

    choices = costs(c)
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"an SVM needs training images of at least two classes, got {len(classes)}")
    if not np.isfinite(features).all():
        raise InputError("the network returns features that are not finite; check its weights")
    if len(choices) > 1 and counts.min() < 2:
        raise InputError(f"C={choices}: to choose C, every class needs 2 training images, got 1; set a single C")
    rows = unit_length(features) if scale else features.astype(np.float64)
    svm = LinearSVC(C=choices[0], dual="auto", max_iter=STEPS, random_state=seed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ConvergenceWarning)
        if len(choices) > 1:
            parts = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=seed)
            svm = GridSearchCV(svm, {"C": choices}, cv=parts).fit(rows, labels).best_estimator_
        else:
            svm.fit(rows, labels)
    if any(issubclass(each.category, ConvergenceWarning) for each in told):
        log.warning("the SVM's solver did not converge within %d steps for every C; lower C", STEPS)
    weight, bias = svm.coef_, svm.intercept_
    if len(classes) == 2:  # scikit-learn stores only the second class's
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    return LinearSvm(weight, bias, classes.astype(np.int64), float(svm.C), scale)


def costs(c: Any) -> list[float]:
    """Return the costs to choose from, in ascending order.

    Raises:
        InputError: no cost, or a value that is not a number above 0.

    Example:
        >>> costs(1), costs([10, 0.1])
        ([1.0], [0.1, 10.0])
    """
    try:
        found = sorted({float(value) for value in (c if isinstance(c, Iterable) and not isinstance(c, str) else [c])})
    except (TypeError, ValueError):
        found = []
    if not found or not all(0 < value < np.inf for value in found):
        raise InputError(f"C: expected a number above 0, or a list of them to choose from, got {c}")
    return found


def unit_length(features: np.ndarray) -> np.ndarray:
    """Scale each row of real (N, C) to length 1, float64; a row of zeros is unchanged.

    Example:
        >>> unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1.0)


def accuracies(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the accuracy and the mean of the classes' accuracies, percent.

    Example:
        >>> accuracies(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]))
        {'accuracy': 75.0, 'mean_class_accuracy': 50.0}
    """
    right = predicted == labels
    shares = [right[labels == label].mean() for label in np.unique(labels)]
    return {"accuracy": 100 * float(right.mean()), "mean_class_accuracy": 100 * float(np.mean(shares))}
