"""Box accuracy at every threshold of a protocol.

An image is right GT-known where the box from its true class's map is right; it is right top-k where besides the true
class is among the k predicted ones (a hit needs one predicted class to be the true one *and that class's own* box to be
right: that is the true class's box again, so one row of bits for each image serves all, whosever maps a paper says it
looked at).
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

Guesses = Sequence[tuple[int, int]]
"""The guesses of a top-k error: rank of the class, column of the hits, from 0; see `Protocol.top_guesses`."""


class Curves(NamedTuple):
    """Which images are right, at each of I overlaps and G thresholds."""

    thresholds: np.ndarray | None
    """float64 (G,) ascending; None for predictions without threshold."""
    ious: tuple[float, ...]
    """The I overlaps asked for."""
    positions: np.ndarray
    """int64 (N,) positions of the judged images in their split, ascending."""
    packed: np.ndarray
    """uint8 (N, ceil(I G / 8)) one bit for each overlap and threshold, row by row."""
    columns: int
    """G."""
    ranks: np.ndarray | None = None
    """int32 (N,) rank of each true class."""
    labels: np.ndarray | None = None
    """int32 (N,) true classes, where accuracy is the mean over classes; None where it is the mean over images."""
    topk: tuple[int, ...] = ()
    guesses: tuple[Guesses, ...] = ()
    """For each of ``topk``."""

    @property
    def images(self) -> int:
        """How many images were judged."""
        return len(self.packed)

    @property
    def gt_known(self) -> np.ndarray:
        """float64 (I, G) GT-known accuracy, percent; NaN if there are no images."""
        return self.accuracy("gt_known")

    def names(self) -> tuple[str, ...]:
        """What there is accuracy of: ``gt_known``, ``top1``, ..."""
        return ("gt_known", *(f"top{k}" for k in self.topk))

    def accuracy(self, name: str) -> np.ndarray:
        """float64 (I, G) accuracy, percent, by one of `names`; NaN if there are no images."""
        packed = self._packed(name)
        if not self.images:
            return np.full((len(self.ious), self.columns), np.nan)
        if self.labels is None:
            return self._count(packed) * 100.0 / self.images
        shares = [
            self._count(packed[of]) / of.sum() for of in (self.labels == label for label in np.unique(self.labels))
        ]
        return np.mean(shares, axis=0) * 100.0

    def best(self) -> np.ndarray:
        """int64 (I,) the threshold of highest GT-known accuracy for each overlap; of equal ones the lowest."""
        return self.gt_known.argmax(axis=1)

    def right(self, name: str, thresholds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Share of the overlaps at which each image is right: float64 (N,).

        Args:
            name: one of `names`.
            thresholds: I columns, the threshold for each overlap.
        """
        return np.mean([self.at(i, int(column), name) for i, column in enumerate(thresholds)], axis=0)

    def at(self, overlap: int, column: int, name: str = "gt_known") -> np.ndarray:
        """Whether each image is right at one overlap and threshold: bool (N,)."""
        bit = overlap * self.columns + column
        return (self._packed(name)[:, bit // 8] >> (7 - bit % 8) & 1).astype(bool)

    def per_class(self, name: str, thresholds: Sequence[int] | np.ndarray, labels: np.ndarray) -> dict[int, float]:
        """Accuracy of each class in percent, by class.

        Args:
            name: one of `names`.
            thresholds: I columns, the threshold for each overlap.
            labels: integer, of all images of the split.
        """
        right, of = self.right(name, thresholds), np.asarray(labels)[self.positions]
        return {int(label): 100.0 * float(right[of == label].mean()) for label in np.unique(of)}

    def error(self, name: str, thresholds: Sequence[int] | np.ndarray) -> float | None:
        """Error in percent, mean over the overlaps, each at its own threshold; None without images."""
        if not self.images:
            return None
        accuracy = self.accuracy(name)[np.arange(len(self.ious)), thresholds]
        return float(np.mean(100.0 - accuracy))

    def _packed(self, name: str) -> np.ndarray:
        """The bits of ``name``; those of top-k are cleared where no guess names the true class."""
        if name == "gt_known":
            return self.packed
        if self.ranks is None:
            raise InputError(f"topk={list(self.topk)} needs ranks; pass them or set topk=[]")
        guesses = dict(zip(self.names()[1:], self.guesses, strict=True))[name]
        if all(column == 0 for _, column in guesses):
            named = np.isin(self.ranks, [rank for rank, _ in guesses])
            return self.packed * named[:, None]
        bits = np.unpackbits(self.packed, axis=1, count=len(self.ious) * self.columns)
        bits = bits.reshape(self.images, len(self.ious), self.columns)
        right = np.zeros_like(bits)
        for rank, column in guesses:
            right |= (bits[:, :, column] & (self.ranks == rank)[:, None])[:, :, None]
        return np.packbits(right.reshape(self.images, -1), axis=1)

    def _count(self, packed: np.ndarray) -> np.ndarray:
        """Right images at each overlap and threshold, int64 (I, G); a few thousand at a time to keep memory flat."""
        total = np.zeros(len(self.ious) * self.columns, dtype=np.int64)
        for start in range(0, len(packed), _CHUNK):
            some = np.unpackbits(packed[start : start + _CHUNK], axis=1, count=len(total))
            total += some.sum(axis=0, dtype=np.int64)
        return total.reshape(len(self.ious), self.columns)


class BoxAccuracy(PerImage):
    """Box accuracy of a split at every threshold. An image takes I G / 8 + 12 bytes.

    Args:
        thresholds: float64 (G,) that the columns of ``hits`` stand for, such as `Protocol.thresholds`; None for
            predictions without threshold.
        topk: which top-k accuracies besides GT-known; with none, no ranks are needed.
        ious: the overlaps that the rows of ``hits`` stand for.
        columns: G where ``thresholds`` is None.
        guesses: for each of ``topk``, see `Protocol.top_guesses`; None for the first k classes, one box each.
        by_class: whether accuracy is the mean over classes; needs labels.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = BoxAccuracy(np.array([0.1, 0.2]), topk=[1])
        >>> metric.update(np.array([[[True, False]]]), index=[7], ranks=[0])
        >>> metric.update(np.array([[[True, True]]]), index=[2], ranks=[3])
        >>> metric.compute().gt_known.tolist(), metric.compute().accuracy("top1").tolist()
        ([[100.0, 50.0]], [[50.0, 0.0]])
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(
        self,
        thresholds: np.ndarray | None,
        topk: Iterable[int] = (1, 5),
        *,
        ious: Sequence[float] = (0.5,),
        columns: int = 1,
        guesses: Sequence[Guesses] | None = None,
        by_class: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.thresholds, self.ious = thresholds, tuple(float(iou) for iou in ious)
        self.columns = columns if thresholds is None else len(thresholds)
        self.topk = check_topk(topk)
        self.guesses = tuple(guesses or (tuple((rank, 0) for rank in range(k)) for k in self.topk))
        self.by_class = by_class
        self.add_rows("hits", (len(self.ious) * self.columns + 7) // 8, torch.uint8)
        if self.topk:
            self.add_rows("ranks", None, torch.int32)
        if self.by_class:
            self.add_rows("labels", None, torch.int32)

    @classmethod
    def of(cls, protocol: Protocol, topk: Iterable[int] = (1, 5), **kwargs: Any) -> BoxAccuracy:
        """The metric for the hits of a protocol (`Protocol.judge`)."""
        topk = check_topk(topk)
        grid = protocol.thresholds
        return cls(
            grid if len(grid) else None,
            topk,
            ious=protocol.iou_thresholds,
            columns=protocol.num_columns,
            guesses=[protocol.top_guesses(k) for k in topk],
            by_class=protocol.average == "class",
            **kwargs,
        )

    def update(
        self,
        hits: np.ndarray | Tensor,
        index: np.ndarray | Tensor | Sequence[int],
        ranks: np.ndarray | Tensor | Sequence[int] | None = None,
        labels: np.ndarray | Tensor | Sequence[int] | None = None,
    ) -> None:
        """Take a batch.

        Args:
            hits: bool (N, I, G), see `Protocol.judge`.
            index: integer (N,) positions in the split.
            ranks: integer (N,) rank of each true class (`wsol.functional.ranks`); not looked at if ``topk`` is empty.
            labels: integer (N,) true classes; not looked at unless ``by_class``.
        """
        bits = np.asarray(hits.cpu() if isinstance(hits, Tensor) else hits, dtype=bool)
        expected = (len(self.ious), self.columns)
        if bits.ndim != 3 or bits.shape[1:] != expected:
            raise InputError(f"BoxAccuracy: expected hits of shape (N, {expected[0]}, {expected[1]}), got {bits.shape}")
        rows: dict[str, Any] = {"hits": np.packbits(bits.reshape(len(bits), expected[0] * expected[1]), axis=1)}
        if self.topk:
            rows["ranks"] = _needed(ranks, f"topk={list(self.topk)} needs ranks; pass them or set topk=[]")
        if self.by_class:
            rows["labels"] = _needed(labels, "the mean over classes needs labels; pass them or set by_class=False")
        self.append(index, **rows)

    def compute(self) -> Curves:
        """The curves over all images so far."""
        rows = self.rows()
        return Curves(
            self.thresholds,
            self.ious,
            rows["index"],
            rows["hits"],
            self.columns,
            rows.get("ranks"),
            rows.get("labels"),
            self.topk,
            self.guesses,
        )


def box_accuracy(
    hits: np.ndarray,
    thresholds: np.ndarray | None,
    ranks: np.ndarray | Sequence[int] | None = None,
    topk: Sequence[int] = (1, 5),
    **kwargs: Any,
) -> Curves:
    """The curves of a set of images; the functional twin of `BoxAccuracy`.

    Args:
        hits: bool (N, I, G), see `wsol.protocols.Protocol.judge`.
        thresholds: float64 (G,), or None.
        ranks: integer (N,) rank of each true class; may be None if ``topk`` is empty.
        topk: which curves besides GT-known.
        kwargs: the other arguments of `BoxAccuracy`, and ``labels``.

    Example:
        >>> curves = box_accuracy(np.array([[[True, False]], [[True, True]]]), np.array([0.1, 0.2]), [0, 3], [1])
        >>> curves.gt_known.tolist(), curves.error("top1", [0])
        ([[100.0, 50.0]], 50.0)
    """
    labels = kwargs.pop("labels", None)
    metric = BoxAccuracy(thresholds, topk, sync_on_compute=False, **kwargs)
    metric.update(hits, np.arange(len(hits)), ranks, labels)
    return metric.compute()


def _needed(value: Any, otherwise: str) -> Any:
    if value is None:
        raise InputError(f"BoxAccuracy: {otherwise}")
    return value
