"""The split of a set's localizations into kinds: right, a part of the object, too large, and so on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from wsol.functional.error_kinds import KINDS, kind_codes, kind_shares
from wsol.functional.metric_inputs import Values, check_index, on_host, to_result
from wsol.metrics._per_image import PerImage


class ErrorSplit(PerImage):
    """Share of each kind of localization, percent; see `wsol.functional.error_kinds`.

    Over N images::

        share(kind) = 100 / N * #{i : kind_i = kind}

    Args:
        kwargs: arguments of `torchmetrics.Metric`.

    Example:
        >>> metric = ErrorSplit()
        >>> metric.update(["right", "part"])
        >>> metric.update(["part", "miss"])
        >>> {kind: share.item() for kind, share in metric.compute().items() if share}
        {'right': 25.0, 'part': 50.0, 'miss': 25.0}
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_rows("kinds", None, torch.uint8)

    def update(self, kinds: Iterable[str], index: Values | None = None) -> None:
        """Add a batch.

        Args:
            kinds: N of `wsol.functional.error_kinds.KINDS`.
            index: integer (N,) position of each image in its split, at least 0, so that an image that comes twice
                counts once; None if every image comes once.

        Raises:
            InputError: an unknown kind, or another number of positions.
        """
        codes = kind_codes(kinds)
        (positions,) = on_host(index)
        self.append(check_index(positions, len(codes)), kinds=codes)

    def compute(self) -> dict[str, Tensor]:
        """Return the percentage of each kind, 0-d float64 in [0, 100] on the metric's device; NaN before any image."""
        shares = kind_shares(self.rows()["kinds"])
        return {kind: to_result(shares[kind], self.device) for kind in KINDS}
