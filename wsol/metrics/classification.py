"""Classification error: how often the true class is not among the k classes of highest score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.functional.ranks import check_topk, true_class_ranks
from wsol.metrics.per_image import PerImage


def classification_error(logits: Tensor, labels: Tensor, topk: Iterable[int] = (1, 5)) -> dict[str, float]:
    """The errors of one batch or of a whole set; the functional twin of `ClassificationError`.

    Args:
        logits: float (N, K).
        labels: int64 (N,).
        topk: which errors.

    Returns:
        ``top1_error`` and so on, percent.

    Example:
        >>> classification_error(torch.tensor([[0.1, 0.7, 0.2], [0.6, 0.4, 0.0]]), torch.tensor([2, 0]), (1, 2))
        {'top1_error': 50.0, 'top2_error': 0.0}
    """
    numbers = check_topk(topk, logits.shape[1])
    return _errors(true_class_ranks(logits, labels).cpu().numpy(), numbers)


class ClassificationError(PerImage):
    """Top-k classification errors of a split, percent. Of an image the rank of its true class is kept, 4 bytes.

    Args:
        topk: which errors.
        kwargs: of `torchmetrics.Metric`.

    Raises:
        InputError: see `wsol.functional.ranks.check_topk`; top-k of fewer than k classes is found at the first update.

    Example:
        >>> metric = ClassificationError(topk=(1, 2))
        >>> scores = torch.tensor([[0.1, 0.7, 0.2], [0.6, 0.4, 0.0]])
        >>> metric.update(scores, torch.tensor([2, 0]), index=torch.tensor([0, 1]))
        >>> metric.update(scores[:1], torch.tensor([2]), index=torch.tensor([0]))  # again: counts once
        >>> metric.compute()
        {'top1_error': 50.0, 'top2_error': 0.0}
    """

    is_differentiable = False
    higher_is_better = False

    def __init__(self, topk: Iterable[int] = (1, 5), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.topk = check_topk(topk)
        self.add_rows("ranks", None, torch.int32)

    def update(self, logits: Tensor, labels: Tensor, index: Tensor) -> None:
        """Take a batch: logits float (N, K), labels int64 (N,), positions in the split int64 (N,)."""
        check_topk(self.topk, logits.shape[1])
        self.append(index, ranks=true_class_ranks(logits, labels))

    def compute(self) -> dict[str, float]:
        """``top1_error`` and so on, percent; NaN before any image came."""
        return _errors(self.rows()["ranks"], self.topk)


def _errors(ranks: np.ndarray, topk: tuple[int, ...]) -> dict[str, float]:
    images = len(ranks)
    return {f"top{k}_error": 100.0 * int((ranks >= k).sum()) / images if images else float("nan") for k in topk}
