"""Box accuracy at every threshold of a protocol, and the errors that are read from it.

An image is right GT-known where the box from its true class's map is right; it is right top-k where besides the true
class is among the k predicted ones (a hit needs one predicted class to be the true one *and that class's own* box to be
right: that is the true class's box again, so one row of bits for each image serves all).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsol.errors import InputError
from wsol.functional.ranks import check_topk
from wsol.metrics.per_image import PerImage
from wsol.protocols import Protocol

_CHUNK = 4096


class Curves(NamedTuple):
    """How many images are right, at each of G thresholds."""

    thresholds: np.ndarray | None
    """float64 (G,) ascending; None for a prediction without threshold (G = 1)."""
    images: int
    """How many images were judged."""
    hits: np.ndarray
    """int64 (G,) images right GT-known."""
    topk_hits: dict[int, np.ndarray]
    """int64 (G,) images right top-k, by k."""

    @property
    def gt_known(self) -> np.ndarray:
        """float64 (G,) GT-known accuracy, percent; NaN if there are no images."""
        return self.hits * 100.0 / self.images if self.images else np.full(len(self.hits), np.nan)

    def errors(self, position: int) -> dict[str, float | None]:
        """The errors at one threshold (``gt_known_error``, ``top1_error``, ...) in percent; None without images."""
        counts = {"gt_known": self.hits, **{f"top{k}": hits for k, hits in self.topk_hits.items()}}
        total = self.images
        return {
            f"{name}_error": 100.0 * (total - int(hits[position])) / total if total else None
            for name, hits in counts.items()
        }


def box_accuracy(
    hits: np.ndarray, ranks: np.ndarray | None, thresholds: np.ndarray | None, topk: Sequence[int] = (1, 5)
) -> Curves:
    """The curves of a set of images; the functional twin of `BoxAccuracy`.

    Args:
        hits: bool (N, G), see `wsol.protocols.Protocol.judge`.
        ranks: integer (N,) rank of each true class, see `wsol.functional.ranks`; may be None if ``topk`` is empty.
        thresholds: float64 (G,), or None.
        topk: which curves besides GT-known.

    Example:
        >>> curves = box_accuracy(np.array([[True, False], [True, True]]), np.array([0, 3]), np.array([0.1, 0.2]), [1])
        >>> curves.gt_known.tolist(), curves.errors(0)
        ([100.0, 50.0], {'gt_known_error': 0.0, 'top1_error': 50.0})
    """
    return _curves(np.packbits(hits, axis=1), ranks, hits.shape[1], thresholds, topk)


class BoxAccuracy(PerImage):
    """Box accuracy of a split at every threshold. An image takes G / 8 + 12 bytes.

    Args:
        thresholds: float64 (G,) that the columns of ``hits`` stand for, such as `Protocol.thresholds`; None for a
            prediction without threshold, whose hits are (N, 1).
        topk: which top-k accuracies besides GT-known; with none, no ranks are needed.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = BoxAccuracy(np.array([0.1, 0.2]), topk=[1])
        >>> metric.update(np.array([[True, False]]), torch.tensor([0]), index=torch.tensor([7]))
        >>> metric.update(np.array([[True, True]]), torch.tensor([3]), index=torch.tensor([2]))
        >>> metric.compute().hits.tolist()
        [2, 1]
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, thresholds: np.ndarray | None, topk: Iterable[int] = (1, 5), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thresholds = thresholds
        self.num_thresholds = 1 if thresholds is None else len(thresholds)
        self.topk = check_topk(topk)
        self.add_rows("hits", (self.num_thresholds + 7) // 8, torch.uint8)
        if self.topk:
            self.add_rows("ranks", None, torch.int32)

    def update(self, hits: np.ndarray | Tensor, ranks: np.ndarray | Tensor | None, index: np.ndarray | Tensor) -> None:
        """Take a batch.

        Args:
            hits: bool (N, G).
            ranks: integer (N,) rank of each true class; not looked at if ``topk`` is empty.
            index: integer (N,) positions in the split.
        """
        bits = np.asarray(hits.cpu() if isinstance(hits, Tensor) else hits, dtype=bool)
        if bits.ndim != 2 or bits.shape[1] != self.num_thresholds:
            raise InputError(f"BoxAccuracy: expected hits of shape (N, {self.num_thresholds}), got {bits.shape}")
        if self.topk and ranks is None:
            raise InputError(f"BoxAccuracy: topk={list(self.topk)} needs ranks; pass them or set topk=[]")
        known = {"ranks": ranks} if self.topk and ranks is not None else {}
        self.append(index, hits=np.packbits(bits, axis=1), **known)

    def compute(self) -> Curves:
        """The curves over all images so far."""
        rows = self.rows()
        return _curves(rows["hits"], rows.get("ranks"), self.num_thresholds, self.thresholds, self.topk)


def localization_rows(
    protocol: Protocol, judged: Curves, fullsup: Curves | None = None, *, origins: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Read errors from curves, one row for each origin of the threshold.

    ``oracle`` takes the threshold of highest GT-known accuracy on the judged split, ``fullsup`` that on the
    train-fullsup split (of equal ones the lowest), ``fixed`` the protocol's constant. A prediction without threshold
    gives one row of origin ``none``.

    Args:
        protocol: whose thresholds the curves have.
        judged: of the split that is reported.
        fullsup: of the train-fullsup split; without it there is no row of that origin.
        origins: in place of the protocol's own.

    Returns:
        Rows ``{protocol, threshold_origin, threshold, gt_known_error, top1_error, ..., images}``, errors in percent.

    Raises:
        InputError: the two curves have different thresholds.
    """
    if judged.thresholds is None:
        return [_row(protocol, "none", judged, 0)]
    positions = {"oracle": int(judged.hits.argmax())}
    if fullsup is not None:
        if not np.array_equal(judged.thresholds, fullsup.thresholds if fullsup.thresholds is not None else []):
            raise InputError("the curves of the judged and of the train-fullsup split have different thresholds")
        positions["fullsup"] = int(fullsup.hits.argmax())
    if protocol.fixed_threshold is not None:
        positions["fixed"] = int(np.abs(judged.thresholds - protocol.fixed_threshold).argmin())
    wanted = protocol.origins if origins is None else origins
    return [_row(protocol, origin, judged, positions[origin]) for origin in wanted if origin in positions]


def _row(protocol: Protocol, origin: str, judged: Curves, position: int) -> dict[str, Any]:
    threshold = None if judged.thresholds is None else round(float(judged.thresholds[position]), 12)
    return {
        "protocol": protocol.name,
        "threshold_origin": origin,
        "threshold": threshold,
        **judged.errors(position),
        "images": judged.images,
    }


def _curves(
    packed: np.ndarray, ranks: np.ndarray | None, width: int, thresholds: np.ndarray | None, topk: Sequence[int]
) -> Curves:
    if topk and ranks is None:
        raise InputError(f"topk={list(topk)} needs ranks; pass them or set topk=[]")
    right = {} if ranks is None else {k: _count(packed[np.asarray(ranks) < k], width) for k in topk}
    return Curves(thresholds, len(packed), _count(packed, width), right)


def _count(packed: np.ndarray, width: int) -> np.ndarray:
    """Set bits in each column, int64 (width,); unpacked a few thousand rows at a time to keep memory flat."""
    total = np.zeros(width, dtype=np.int64)
    for start in range(0, len(packed), _CHUNK):
        total += np.unpackbits(packed[start : start + _CHUNK], axis=1, count=width).sum(axis=0, dtype=np.int64)
    return total
