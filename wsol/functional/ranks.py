"""The rank of the ground-truth class among an image's class scores, which determines every top-k error.

With scores s, ground-truth class y, and classes sorted by falling score, the rank is the number of classes before y::

    rank = #{c : s_c > s_y} + #{c < y : s_c = s_y}
    top-k error = 100 * #{images with rank >= k} / #{images}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.errors import InputError
from wsol.functional.metric_inputs import to_host, to_result

INVALID = -1
"""Rank of an image whose label is not one of the K classes."""


def true_class_ranks(logits: Tensor | np.ndarray, labels: Any) -> Tensor:
    """Count the classes that come before the ground-truth class when classes are sorted by score.

    Of classes with equal scores the one of lower index comes first, as in ``argmax``, so a prediction does not depend
    on how a sort orders ties. A row with NaN predicts nothing: its rank is K.

    Args:
        logits: real (N, K) class scores, on any monotone scale.
        labels: integer (N,) ground-truth classes in 0..K-1: a tensor on any device, an array or a list.

    Returns:
        int32 (N,) in 0..K, on the device of ``logits``; a top-k prediction is correct where the rank is below k.

    Raises:
        InputError: other shapes or types, or a label outside 0..K-1. To check the labels their values are read once,
            which waits for the device.

    Example:
        >>> true_class_ranks(torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0]]), torch.tensor([2, 1])).tolist()
        [1, 1]
    """
    ranks = ranks_or_invalid(logits, labels)
    check_ranks(to_host([ranks])[0], logits.shape[1])
    return ranks


def ranks_or_invalid(logits: Tensor | np.ndarray, labels: Any) -> Tensor:
    """Return `true_class_ranks` without reading values: `INVALID` for a label outside 0..K-1.

    Raises:
        InputError: other shapes or types.
    """
    scores, truth = _validate(logits, labels)
    count = scores.shape[1]
    true = scores.gather(1, truth.clamp(0, count - 1)[:, None])
    before = (scores > true).sum(1)
    earlier = torch.arange(count, device=scores.device) < truth[:, None]
    ranks = before + ((scores == true) & earlier).sum(1)
    ranks = torch.where(scores.isnan().any(1), count, ranks)
    return torch.where((truth < 0) | (truth >= count), INVALID, ranks).to(torch.int32)


def check_ranks(ranks: np.ndarray, num_classes: int) -> np.ndarray:
    """Check and return ranks from `ranks_or_invalid`.

    Raises:
        InputError: one of them is `INVALID`.
    """
    (wrong,) = np.nonzero(ranks == INVALID)
    if len(wrong):
        raise InputError(
            f"labels: expected classes 0 to {num_classes - 1}, as logits has {num_classes} columns; the label of image "
            f"{wrong[0]} of this batch is out of range"
        )
    return ranks


def topk_error(logits: Tensor | np.ndarray, labels: Any, topk: Iterable[int] = (1, 5)) -> dict[str, Tensor]:
    """Return the top-k classification errors of a set; the function of `wsol.metrics.TopKError`.

    Args:
        logits: real (N, K).
        labels: integer (N,) in 0..K-1.
        topk: values of k.

    Returns:
        ``top1_error`` and so on, 0-d float64 on the device of ``logits``, percent in [0, 100]; NaN where N is 0.

    Raises:
        InputError: see `true_class_ranks` and `check_topk`.

    Example:
        >>> errors = topk_error(torch.tensor([[0.1, 0.7, 0.2], [0.6, 0.4, 0.0]]), [2, 0], (1, 2))
        >>> {name: error.item() for name, error in errors.items()}
        {'top1_error': 50.0, 'top2_error': 0.0}
    """
    ranks = true_class_ranks(logits, labels)
    numbers = check_topk(topk, logits.shape[1])
    found = errors_of_ranks(ranks.cpu().numpy(), numbers)
    return {name: to_result(error, ranks.device) for name, error in found.items()}


def errors_of_ranks(ranks: np.ndarray, topk: Iterable[int]) -> dict[str, float]:
    """Return top-k errors in percent from ranks, integer (N,); NaN where N is 0.

    Example:
        >>> errors_of_ranks(np.array([0, 3]), (1, 5))
        {'top1_error': 50.0, 'top5_error': 0.0}
    """
    images = len(ranks)
    return {f"top{k}_error": 100.0 * int((ranks >= k).sum()) / images if images else float("nan") for k in topk}


def check_topk(topk: Iterable[int], num_classes: int | None = None) -> tuple[int, ...]:
    """Check ``topk`` and return it as a tuple.

    Raises:
        InputError: not whole numbers of at least 1, duplicates, or a k greater than the number of classes.

    Example:
        >>> check_topk([1, 5])
        (1, 5)
    """
    numbers = tuple(topk) if isinstance(topk, Iterable) else (None,)
    if any(not isinstance(k, int) or k < 1 for k in numbers) or len(set(numbers)) < len(numbers):
        raise InputError(f"topk: expected distinct whole numbers of at least 1, such as [1, 5], got {topk}")
    if num_classes is not None and numbers and max(numbers) > num_classes:
        fitting = [k for k in numbers if k <= num_classes]
        raise InputError(
            f"topk={list(numbers)}: top-{max(numbers)} of {num_classes} classes; try topk={fitting or [1]}"
        )
    return numbers


def _validate(logits: Any, labels: Any) -> tuple[Tensor, Tensor]:
    scores = _tensor(logits, "logits")
    if scores.ndim != 2 or not scores.shape[1] or scores.is_complex() or scores.dtype == torch.bool:
        raise InputError(f"logits: expected real numbers (N, K), got {scores.dtype} {tuple(scores.shape)}")
    truth = _tensor(labels, "labels", scores.device)
    whole = not (truth.is_floating_point() or truth.is_complex() or truth.dtype == torch.bool)
    if not whole and truth.numel():
        raise InputError(f"labels: expected whole numbers, the classes' indices, got {truth.dtype}")
    if truth.shape != scores.shape[:1]:
        raise InputError(
            f"labels: expected one class for each of the {len(scores)} rows of logits, shape ({len(scores)},), got "
            f"{tuple(truth.shape)}"
        )
    return scores, truth.to(torch.int64)


def _tensor(values: Any, name: str, device: torch.device | None = None) -> Tensor:
    if isinstance(values, Tensor) and (values.device.type == "meta" or values.layout is not torch.strided):
        raise InputError(f"{name}: expected a dense tensor with values, got {values.device}, {values.layout}")
    try:
        return torch.as_tensor(values, device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: expected a tensor, an array or a list of numbers ({error})") from error
