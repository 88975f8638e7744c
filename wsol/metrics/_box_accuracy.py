"""The rows that box accuracy stores per image, and the metric that the engine updates with evaluated boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.errors import InputError
from wsol.functional.ranks import check_topk
from wsol.metrics._curves import Curves, Guesses
from wsol.metrics._per_image import PerImage
from wsol.protocols import LocalizationProtocol


@dataclass(frozen=True)
class BoxRows:
    """The rows of one image: one bit per overlap and threshold, and rank and label where they are needed."""

    thresholds: np.ndarray | None
    """float64 (G,); None for predictions without a threshold."""
    ious: tuple[float, ...]
    """I overlaps."""
    num_thresholds: int
    """G."""
    topk: tuple[int, ...] = ()
    guesses: tuple[Guesses, ...] = ()
    """One per entry of ``topk``, see `LocalizationProtocol.top_guesses`."""
    by_class: bool = False
    """Whether accuracy is the mean over classes."""
    name: str = "correct"
    """Name of the state of bits."""
    topk_apart: bool = False
    """Whether I more rows of bits say what is correct for top-k, see `LocalizationProtocol.boundary_topk`."""
    given: bool = False
    """Whether each image has one box that the network gives, at no threshold; see `Curves.given`."""

    @property
    def num_rows(self) -> int:
        """Rows of bits of an image."""
        return len(self.ious) * (2 if self.topk_apart else 1)

    @classmethod
    def from_protocol(
        cls,
        protocol: LocalizationProtocol,
        topk: Iterable[int] = (1, 5),
        name: str = "correct",
        *,
        given: bool = False,
    ) -> BoxRows:
        """Return the rows for the results of `LocalizationProtocol.evaluate`; or, ``given``, of `evaluate_boxes`."""
        topk, thresholds = check_topk(topk), protocol.thresholds
        return cls(
            thresholds if len(thresholds) and not given else None,
            protocol.iou_thresholds,
            1 if given else protocol.num_columns,
            topk,
            tuple(_first_boxes(k) if given else protocol.top_guesses(k) for k in topk),
            protocol.average == "class",
            name,
            protocol.has_topk_boundary,
            given,
        )

    def declare(self, metric: PerImage) -> None:
        """Declare the rows of a metric."""
        metric.add_rows(self.name, (self.num_rows * self.num_thresholds + 7) // 8, torch.uint8)
        if self.topk:
            metric.add_rows("ranks", None, torch.int32)
        if self.by_class:
            metric.add_rows("labels", None, torch.int32)

    def encode(self, correct: np.ndarray, ranks: Any = None, labels: Any = None) -> dict[str, Any]:
        """Encode the rows of N images.

        Args:
            correct: bool (N, I, G), see `LocalizationProtocol.evaluate`.
            ranks: integer (N,) rank of each ground-truth class; not used if ``topk`` is empty.
            labels: integer (N,) ground-truth classes; not used unless ``by_class``.

        Raises:
            InputError: another shape, or a required argument is missing.
        """
        expected = (self.num_rows, self.num_thresholds)
        if correct.ndim != 3 or correct.shape[1:] != expected:
            raise InputError(f"expected correct of shape (N, {expected[0]}, {expected[1]}), got {correct.shape}")
        bits = correct.reshape(len(correct), expected[0] * expected[1])
        rows: dict[str, Any] = {self.name: np.packbits(bits, axis=1)}
        if self.topk:
            rows["ranks"] = _needed(ranks, f"topk={list(self.topk)} needs ranks; pass them or set topk=[]")
        if self.by_class:
            rows["labels"] = _needed(labels, "the mean over classes needs labels; pass them")
        return rows

    def curves(self, rows: dict[str, Any], positions: np.ndarray) -> Curves:
        """Return the curves over the images of the given rows; ``positions`` int64 (N,)."""
        bits, ranks, labels = rows[self.name], rows.get("ranks"), rows.get("labels")
        return Curves(
            self.thresholds,
            self.ious,
            positions,
            bits,
            self.num_thresholds,
            None if ranks is None else np.asarray(ranks),
            None if labels is None else np.asarray(labels),
            self.topk,
            self.guesses,
            self.topk_apart,
            self.given,
        )


class BoxAccuracy(PerImage):
    """Box accuracy of a split at every threshold. It stores I G / 8 + 12 bytes per image.

    Args:
        thresholds: float64 (G,) for the last axis of ``correct``, such as `LocalizationProtocol.thresholds`; None for
            predictions without a threshold.
        topk: which top-k accuracies to compute besides GT-known; if empty, no ranks are needed.
        ious: the overlaps of the second axis of ``correct``.
        num_thresholds: G where ``thresholds`` is None.
        guesses: for each of ``topk``, see `LocalizationProtocol.top_guesses`; None for the first k classes, one box
            each.
        by_class: whether accuracy is the mean over classes; needs labels.
        topk_apart, given: see `BoxRows`.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = BoxAccuracy(np.array([0.1, 0.2]), topk=[1])
        >>> metric.update(np.array([[[True, False]]]), index=[7], ranks=[0])
        >>> metric.update(np.array([[[True, True]]]), index=[2], ranks=[3])
        >>> metric.compute().gt_known.tolist(), metric.compute().accuracy("top1").tolist()
        ([[100.0, 50.0]], [[50.0, 0.0]])
    """

    higher_is_better = True

    def __init__(
        self,
        thresholds: np.ndarray | None,
        topk: Iterable[int] = (1, 5),
        *,
        ious: Sequence[float] = (0.5,),
        num_thresholds: int = 1,
        guesses: Sequence[Guesses] | None = None,
        by_class: bool = False,
        topk_apart: bool = False,
        given: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        topk = check_topk(topk)
        self.layout = BoxRows(
            thresholds,
            tuple(float(iou) for iou in ious),
            num_thresholds if thresholds is None else len(thresholds),
            topk,
            tuple(guesses or (_first_boxes(k) for k in topk)),
            by_class,
            topk_apart=topk_apart,
            given=given,
        )
        self.layout.declare(self)

    @classmethod
    def from_protocol(
        cls, protocol: LocalizationProtocol, topk: Iterable[int] = (1, 5), *, given: bool = False, **kwargs: Any
    ) -> BoxAccuracy:
        """Return the metric for the results of a protocol; see `BoxRows.from_protocol`."""
        rows = BoxRows.from_protocol(protocol, topk, given=given)
        return cls(
            rows.thresholds,
            rows.topk,
            ious=rows.ious,
            num_thresholds=rows.num_thresholds,
            guesses=rows.guesses,
            by_class=rows.by_class,
            topk_apart=rows.topk_apart,
            given=given,
            **kwargs,
        )

    def update(
        self,
        correct: np.ndarray | Tensor,
        index: np.ndarray | Tensor | Sequence[int],
        ranks: np.ndarray | Tensor | Sequence[int] | None = None,
        labels: np.ndarray | Tensor | Sequence[int] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            correct: bool (N, I, G), see `LocalizationProtocol.evaluate`.
            index: integer (N,) positions in the split.
            ranks: integer (N,) rank of each ground-truth class (`wsol.functional.ranks`); not used if ``topk`` is
                empty.
            labels: integer (N,) ground-truth classes; not used unless ``by_class``.
        """
        bits = np.asarray(correct.cpu() if isinstance(correct, Tensor) else correct, dtype=bool)
        self.append(index, **self.layout.encode(bits, ranks, labels))

    def compute(self) -> Curves:
        """Return the curves over all images so far."""
        rows = self.gathered_rows()
        return self.layout.curves(rows, rows["index"])


def _first_boxes(k: int) -> Guesses:
    """Return the first box of each of the first k classes."""
    return tuple((rank, 0) for rank in range(k))


def _needed(value: Any, otherwise: str) -> Any:
    if value is None:
        raise InputError(otherwise)
    return value
