"""The rank of the true class among an image's class scores, from which every top-k error follows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from wsol.errors import InputError


def true_class_ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the true one when classes are sorted by score.

    Of classes with equal scores the one of lower index comes first, as in ``argmax``; so a prediction does not depend
    on the order in which a sort happens to leave ties. A row with NaN predicts nothing: its rank is K.

    Args:
        logits: float (N, K) class scores, any monotone scale.
        labels: int64 (N,) true classes in 0..K-1.

    Returns:
        int32 (N,) in 0..K; the top-k prediction holds the true class where it is below k.

    Example:
        >>> true_class_ranks(torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0]]), torch.tensor([2, 1])).tolist()
        [1, 1]
    """
    true = logits.gather(1, labels[:, None])
    before = (logits > true).sum(1)
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    ranks = before + ((logits == true) & earlier).sum(1)
    return torch.where(logits.isnan().any(1), logits.shape[1], ranks).to(torch.int32)


def check_topk(topk: Iterable[int], num_classes: int | None = None) -> tuple[int, ...]:
    """Return ``topk`` as a tuple.

    Raises:
        InputError: not whole numbers of at least 1, one twice, or more than there are classes.

    Example:
        >>> check_topk([1, 5])
        (1, 5)
    """
    numbers = tuple(topk)
    if any(not isinstance(k, int) or k < 1 for k in numbers) or len(set(numbers)) < len(numbers):
        raise InputError(f"topk: expected different whole numbers of at least 1, such as [1, 5], got {list(numbers)}")
    if num_classes is not None and numbers and max(numbers) > num_classes:
        fitting = [k for k in numbers if k <= num_classes]
        raise InputError(
            f"topk={list(numbers)}: top-{max(numbers)} of {num_classes} classes; try topk={fitting or [1]}"
        )
    return numbers
