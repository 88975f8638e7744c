"""Classification error: how often the ground-truth class is not among the k classes of highest score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.functional.metric_inputs import Values, check_index, on_host, to_result
from wsol.functional.ranks import check_ranks, check_topk, errors_of_ranks, ranks_or_invalid
from wsol.metrics._per_image import PerImage


class TopKError(PerImage):
    """Top-k classification errors, percent.

    With the number of classes before the ground-truth class as its rank (`wsol.functional.ranks`), over N images::

        topk_error = 100 / N * #{i : rank_i >= k}

    It stores this rank for each image, 4 bytes.

    Args:
        topk: values of k.
        kwargs: arguments of `torchmetrics.Metric`.

    Raises:
        InputError: see `wsol.functional.ranks.check_topk`; a k above the number of classes is found at the first
            update.

    Example:
        >>> metric = TopKError(topk=(1, 2))
        >>> scores = torch.tensor([[0.1, 0.7, 0.2], [0.6, 0.4, 0.0]])
        >>> metric.update(scores, torch.tensor([2, 0]), index=[0, 1])
        >>> metric.update(scores[:1], [2], index=[0])  # the same image again: it counts once
        >>> {name: error.item() for name, error in metric.compute().items()}
        {'top1_error': 50.0, 'top2_error': 0.0}
    """

    higher_is_better = False

    def __init__(self, topk: Iterable[int] = (1, 5), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.topk = check_topk(topk)
        self.add_rows("ranks", None, torch.int32)

    def update(self, logits: Tensor | np.ndarray, labels: Values, index: Values | None = None) -> None:
        """Add a batch.

        Args:
            logits: real (N, K) class scores, on any monotone scale; a row with NaN predicts nothing.
            labels: integer (N,) ground-truth classes in 0..K-1: a tensor on any device, an array or a list.
            index: integer (N,) position of each image in its split, at least 0, so that an image that comes twice
                counts once; None if every image comes once.

        Raises:
            InputError: other shapes, types or values, or a k above the number of classes.
        """
        found = ranks_or_invalid(logits, labels)
        check_topk(self.topk, logits.shape[1])
        ranks, positions = on_host(found, index)
        check_ranks(ranks, logits.shape[1])
        self.append(check_index(positions, len(ranks)), ranks=ranks)

    def compute(self) -> dict[str, Tensor]:
        """Return ``top1_error`` and so on, 0-d float64 in [0, 100] on the metric's device; NaN before any image."""
        found = errors_of_ranks(self.rows()["ranks"], self.topk)
        return {name: to_result(error, self.device) for name, error in found.items()}
