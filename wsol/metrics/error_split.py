"""The split of a set's localizations into kinds: right, a part of the object, too large, and so on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.errors import unknown
from wsol.functional.error_kinds import KINDS
from wsol.metrics.per_image import PerImage


class ErrorSplit(PerImage):
    """Share of each kind of localization, percent; see `wsol.functional.error_kinds`.

    Args:
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = ErrorSplit()
        >>> metric.update(["right", "part"], index=[0, 1])
        >>> metric.update(["part", "miss"], index=[2, 3])
        >>> {kind: share for kind, share in metric.compute().items() if share}
        {'right': 25.0, 'part': 50.0, 'miss': 25.0}
    """

    is_differentiable = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_rows("kinds", None, torch.uint8)

    def update(self, kinds: Iterable[str], index: np.ndarray | Tensor | Sequence[int]) -> None:
        """Take a batch: N kinds, and integer (N,) positions in the split.

        Raises:
            InputError: a word that is no kind.
        """
        words = list(kinds)
        for word in words:
            if word not in KINDS:
                raise unknown("kind of localization", word, KINDS)
        self.append(index, kinds=np.array([KINDS.index(word) for word in words], dtype=np.uint8))

    def compute(self) -> dict[str, float]:
        """Percent by kind; NaN before any image came."""
        found = self.rows()["kinds"]
        return {kind: 100.0 * float(np.mean(found == i)) if len(found) else np.nan for i, kind in enumerate(KINDS)}


def error_split(kinds: Iterable[str]) -> dict[str, float]:
    """The shares in one set; the functional twin of `ErrorSplit`.

    Example:
        >>> error_split(["right", "right", "miss"])["miss"]
        33.33333333333333
    """
    words, metric = list(kinds), ErrorSplit(sync_on_compute=False)
    metric.update(words, np.arange(len(words)))
    return metric.compute()
