"""Curves of a set of images whose boxes are evaluated already, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from wsol.metrics._box_accuracy import BoxAccuracy
from wsol.metrics._curves import Curves


def box_accuracy(
    correct: np.ndarray, thresholds: Any, ranks: Any = None, topk: Any = (1, 5), *, labels: Any = None, **kwargs: Any
) -> Curves:
    """The curves of `BoxAccuracy` over bool (N, I, G)."""
    metric = BoxAccuracy(thresholds, topk, sync_on_compute=False, **kwargs)
    metric.update(correct, np.arange(len(correct)), ranks, labels)
    return metric.compute()
