"""Localization metrics for anybody's loop: score maps and true boxes in, the field's numbers out.

Each of these judges maps under a `wsol.protocols.Protocol` and keeps a few bits for each image (`BoxAccuracy`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.functional.ranks import true_class_ranks
from wsol.metrics.box_accuracy import BoxAccuracy, Curves
from wsol.metrics.localization_rows import localization_rows
from wsol.protocols import Protocol, protocol
from wsol.types import Truth


class LocalizationError(BoxAccuracy):
    """Top-1, top-5 and GT-known localization error, percent.

    Args:
        protocol: how boxes are judged, an object or a name such as ``cam2016``.
        topk: which top-k errors besides GT-known; with none, no class scores are needed.
        kwargs: of `torchmetrics.Metric`.

    Example:
        A map that is hot in the upper left quarter of an image of 40 x 20 pixels, where the object is:

        >>> metric = LocalizationError("choe2020", topk=[1])
        >>> hot = torch.zeros(1, 14, 14); hot[:, :7, :7] = 1.0
        >>> metric.update(hot, [torch.tensor([[0.0, 0.0, 20.0, 10.0]])], sizes=[(40, 20)],
        ...               logits=torch.tensor([[0.2, 0.8]]), labels=torch.tensor([0]))
        >>> metric.compute()
        {'gt_known_error': 0.0, 'top1_error': 100.0}
    """

    higher_is_better = False

    def __init__(self, protocol: Protocol | str = "cam2016", topk: Iterable[int] = (1, 5), **kwargs: Any) -> None:
        self.protocol = _of(protocol)
        template = BoxAccuracy.of(self.protocol, topk)
        super().__init__(
            template.thresholds,
            template.topk,
            ious=template.ious,
            columns=template.columns,
            guesses=template.guesses,
            by_class=template.by_class,
            **kwargs,
        )
        self._seen = 0

    def update(  # type: ignore[override]
        self,
        score_maps: Tensor | np.ndarray | Sequence[np.ndarray],
        boxes: Sequence[Tensor | np.ndarray],
        sizes: Sequence[tuple[int, int]] | Tensor | np.ndarray | None = None,
        *,
        logits: Tensor | None = None,
        labels: Tensor | np.ndarray | Sequence[int] | None = None,
        inclusive: bool = False,
        index: Tensor | np.ndarray | Sequence[int] | None = None,
    ) -> None:
        """Take a batch.

        Args:
            score_maps: N maps (h, w) of each image's true class over the whole image, of any size and scale.
            boxes: N of real (M, 4) true boxes x0, y0, x1, y1 in the stored image's pixels.
            sizes: N of (width, height) of the stored images; None where the maps have the images' size.
            logits: float (N, K), and ...
            labels: ... integer (N,), for top-k errors.
            inclusive: whether x1, y1 of true boxes name the last pixel inside (ILSVRC) or the edge (CUB's x + width).
            index: integer (N,) position of each image in its split, so that one that comes twice counts once; None
                if every image comes once.

        Raises:
            InputError: numbers of maps, boxes and sizes differ, or what the protocol or ``topk`` needs is missing.
        """
        maps = [_array(score_map) for score_map in score_maps]
        images = [score_map.shape[::-1] for score_map in maps] if sizes is None else _pairs(sizes)
        truths = [Truth(_array(of_image).reshape(-1, 4).astype(np.float64), inclusive) for of_image in boxes]
        if not len(maps) == len(truths) == len(images):
            raise InputError(
                f"expected as many maps as boxes and sizes, got {len(maps)}, {len(truths)} and {len(images)}"
            )
        hits = [
            self.protocol.judge(score_map, Geometry(size, score_map.shape[::-1], (0, 0), score_map.shape[::-1]), truth)
            for score_map, truth, size in zip(maps, truths, images, strict=True)
        ]
        ranks = None
        if self.topk:
            if logits is None or labels is None:
                raise InputError(f"topk={list(self.topk)} needs logits and labels; pass them or set topk=[]")
            ranks = true_class_ranks(logits, torch.as_tensor(labels))
        shape = (len(maps), len(self.ious), self.columns)
        super().update(np.array(hits, dtype=bool).reshape(shape), self._positions(index, len(maps)), ranks, labels)

    def compute(self) -> Any:
        """The errors at the protocol's first threshold origin that there is: ``fixed``, else ``oracle``."""
        return self.errors()

    def errors(self, origin: str | None = None, fullsup: Curves | None = None) -> dict[str, float]:
        """The errors at a threshold of a given origin.

        Args:
            origin: ``fixed``, ``oracle`` or ``fullsup``; None: ``fixed`` if the protocol has it, else ``oracle``.
            fullsup: `curves` of the train-fullsup split, for that origin.

        Raises:
            InputError: the threshold can't be had.
        """
        wanted = origin or ("fixed" if "fixed" in self.protocol.origins else "oracle")
        for row in localization_rows(self.protocol, self.curves(), fullsup, origins=[wanted]):
            return {key: value for key, value in row.items() if key.endswith("_error")}
        raise InputError(f"protocol {self.protocol.name!r} has no threshold of origin {wanted!r} here")

    def curves(self) -> Curves:
        """Accuracy at all thresholds, and per image."""
        return super().compute()

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._seen = 0

    def _positions(self, index: Any, count: int) -> Any:
        if index is not None:
            return index
        rank, world = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self._seen += count
        return np.arange(self._seen - count, self._seen) * world + rank


class MaxBoxAcc(LocalizationError):
    """MaxBoxAcc, percent: GT-known accuracy at IoU 0.5 and the best threshold (Choe et al., CVPR 2020).

    Args:
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = MaxBoxAcc()
        >>> metric.update(np.eye(8)[None], [np.array([[0, 0, 8, 8]])])
        >>> metric.compute()
        100.0
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("choe2020", (), **kwargs)

    def compute(self) -> float:  # type: ignore[override]
        """Percent; NaN before any image came."""
        return float(self.curves().gt_known.max(axis=1).mean())


class MaxBoxAccV2(MaxBoxAcc):
    """MaxBoxAccV2, percent: the mean of the best accuracies at IoU 0.3, 0.5 and 0.7, all contours counting.

    Choe et al., "Evaluation for Weakly Supervised Object Localization: Protocol, Metrics, and Datasets", TPAMI 2022.

    Args:
        kwargs: of `torchmetrics.Metric`.
    """

    def __init__(self, **kwargs: Any) -> None:
        LocalizationError.__init__(self, "choe2020-v2", (), **kwargs)


def localization_error(
    score_maps: Any, boxes: Any, sizes: Any = None, *, protocol: Protocol | str = "cam2016", **kwargs: Any
) -> dict[str, float]:
    """The errors of one set; the functional twin of `LocalizationError`, whose arguments these are.

    Example:
        >>> localization_error(np.eye(8)[None], [np.array([[0, 0, 8, 8]])], protocol="choe2020", topk=[])
        {'gt_known_error': 0.0}
    """
    metric = LocalizationError(protocol, kwargs.pop("topk", (1, 5)), sync_on_compute=False)
    metric.update(score_maps, boxes, sizes, **kwargs)
    return metric.compute()


def max_box_acc(score_maps: Any, boxes: Any, sizes: Any = None, *, v2: bool = False, inclusive: bool = False) -> float:
    """MaxBoxAcc of one set, percent, or MaxBoxAccV2; the functional twin of these classes.

    Example:
        >>> max_box_acc(np.eye(8)[None], [np.array([[0, 0, 8, 8]])], v2=True)
        100.0
    """
    metric = (MaxBoxAccV2 if v2 else MaxBoxAcc)(sync_on_compute=False)
    metric.update(score_maps, boxes, sizes, inclusive=inclusive)
    return metric.compute()


def _of(chosen: Protocol | str) -> Protocol:
    return protocol(chosen) if isinstance(chosen, str) else chosen


def _array(values: Any) -> np.ndarray:
    return values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _pairs(sizes: Any) -> list[tuple[int, int]]:
    return [(int(width), int(height)) for width, height in _array(sizes)]
