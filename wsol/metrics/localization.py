"""Localization metrics: from score maps and ground-truth boxes to errors and accuracies.

Each evaluates maps under a `wsol.protocols.LocalizationProtocol` and stores a few bits per image: whether its box is
correct at each overlap and threshold.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from wsol.functional.metric_inputs import Values, to_result
from wsol.functional.ranks import check_topk
from wsol.metrics._box_accuracy import BoxRows
from wsol.metrics._curves import Curves
from wsol.metrics._localization_functions import best_accuracy, check_batch, correct_boxes, errors_at, protocol_of
from wsol.metrics._per_image import PerImage
from wsol.protocols import LocalizationProtocol


class _BoxMetric(PerImage):
    """Stores whether the boxes of each image are correct under a protocol.

    The name of that state contains the protocol, because `torchmetrics.MetricCollection` merges metrics whose states
    have equal names and values.

    Args:
        protocol: an object or a name.
        topk: which top-k errors need ranks.
        inclusive: whether x1, y1 of ground-truth boxes are the last pixel inside.
        kwargs: arguments of `torchmetrics.Metric`.
    """

    def __init__(
        self, protocol: LocalizationProtocol | str, topk: Iterable[int], inclusive: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.protocol, self.inclusive, self.topk = protocol_of(protocol), inclusive, check_topk(topk)
        self._layout = BoxRows.from_protocol(self.protocol, self.topk, _state_name(self.protocol, inclusive))
        self._layout.declare(self)

    def update(
        self,
        score_maps: Values,
        boxes: Values,
        sizes: Values | None = None,
        *,
        logits: Tensor | np.ndarray | None = None,
        labels: Values | None = None,
        index: Values | None = None,
    ) -> None:
        """Add a batch. Tensors on another device are copied once.

        Args:
            score_maps: N maps (h, w) of each image's ground-truth class over the whole image, of any size: a tensor, an
                array, or a list of either. Real numbers or integers of any scale (in [0, 1] if the protocol's
                ``scaling`` is ``none``); a map with NaN or infinity counts as a map of zeros.
            boxes: N arrays real (M, 4), ground-truth boxes x0, y0, x1, y1 in the stored image's pixels, M at least 1.
            sizes: N pairs (width, height) of the stored images, pixels; None if the maps have the images' size.
            logits: real (N, K) class scores, for top-k errors.
            labels: integer (N,) ground-truth classes, for top-k errors and protocols whose accuracy is a mean over
                classes: a tensor on any device, an array or a list.
            index: integer (N,) position of each image in its split, at least 0, so that an image that comes twice
                counts once; None if every image comes once.

        Raises:
            InputError: inputs that can't be evaluated (shapes, types, numbers of entries; boxes that are empty, not
                finite or outside their image), or an argument that the protocol or ``topk`` needs is missing.
        """
        batch = check_batch(
            score_maps,
            boxes,
            sizes,
            logits=logits,
            labels=labels,
            index=index,
            topk=self.topk,
            inclusive=self.inclusive,
        )
        correct = correct_boxes(self.protocol, batch, inclusive=self.inclusive)
        self.append(batch.positions, **self._layout.encode(correct, batch.ranks, batch.labels))

    def curves(self) -> Curves:
        """Return accuracy at all thresholds, over all processes; each must call it."""
        rows = self.gathered_rows()
        return self._layout.curves(rows, rows["index"])


class LocalizationError(_BoxMetric):
    """GT-known, top-1 and top-5 localization error, percent.

    With the box b_i(t) at threshold t from the map of the ground-truth class, the ground-truth boxes g_i, the overlap d
    that the protocol requires, and the rank of the ground-truth class (`wsol.functional.ranks`), over N images::

        gt_known_error = 100 / N * #{i : IoU(b_i(t), g_i) < d}
        topk_error     = 100 / N * #{i : IoU(b_i(t), g_i) < d or rank_i >= k}

    The protocol defines how boxes are made and compared, and whether t is fixed or the best one.

    Args:
        protocol: how boxes are evaluated, an object or a name such as ``cam2016``.
        topk: which top-k errors to compute besides GT-known; if empty, no class scores are needed.
        inclusive: whether x1, y1 of ground-truth boxes are the last pixel inside (ILSVRC) or the edge (CUB's x +
            width).
        kwargs: arguments of `torchmetrics.Metric`.

    Example:
        A map with high values in the upper left quarter of an image of 40 x 20 pixels, where the object is:

        >>> import torch
        >>> metric = LocalizationError("choe2020", topk=[1])
        >>> hot = torch.zeros(1, 14, 14); hot[:, :7, :7] = 1.0
        >>> metric.update(hot, [torch.tensor([[0.0, 0.0, 20.0, 10.0]])], sizes=[(40, 20)],
        ...               logits=torch.tensor([[0.2, 0.8]]), labels=[0])
        >>> {name: error.item() for name, error in metric.compute().items()}
        {'gt_known_error': 0.0, 'top1_error': 100.0}
    """

    higher_is_better = False

    def __init__(
        self,
        protocol: LocalizationProtocol | str = "cam2016",
        topk: Iterable[int] = (1, 5),
        *,
        inclusive: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol, topk, inclusive, **kwargs)

    def compute(self) -> dict[str, Tensor]:
        """Return the errors at the protocol's fixed threshold, or at the best one (``oracle``) if it has none.

        Returns:
            ``gt_known_error``, ``top1_error`` and so on, 0-d float64 in [0, 100] on the metric's device; NaN before any
            image.
        """
        return self.errors()

    def errors(self, origin: str | None = None, fullsup: Curves | None = None) -> dict[str, Tensor]:
        """Return the errors at a threshold of a given origin, like `compute`.

        Args:
            origin: ``fixed``, ``oracle`` or ``fullsup``; None: ``fixed`` if the protocol has it, otherwise ``oracle``.
            fullsup: `curves` of the train-fullsup split, for that origin.

        Raises:
            InputError: there is no threshold of this origin.
        """
        found = errors_at(self.protocol, self.curves(), origin, fullsup)
        return {name: to_result(error, self.device) for name, error in found.items()}


class MaxBoxAcc(_BoxMetric):
    """MaxBoxAcc, percent: GT-known accuracy at IoU 0.5 and the best threshold (Choe et al., CVPR 2020).

    With the box b_i(t) of the largest contour at threshold t and the ground-truth boxes g_i, over N images::

        MaxBoxAcc = 100 / N * max over t of #{i : IoU(b_i(t), g_i) >= 0.5}

    Args:
        inclusive: whether x1, y1 of ground-truth boxes are the last pixel inside (ILSVRC) or the edge (CUB's x +
            width).
        kwargs: arguments of `torchmetrics.Metric`.

    Example:
        >>> metric = MaxBoxAcc()
        >>> metric.update(np.eye(8)[None], [np.array([[0, 0, 8, 8]])])
        >>> metric.compute().item()
        100.0
    """

    higher_is_better = True

    def __init__(self, *, inclusive: bool = False, **kwargs: Any) -> None:
        super().__init__("choe2020", (), inclusive, **kwargs)

    def compute(self) -> Tensor:
        """Return MaxBoxAcc, 0-d float64 in [0, 100] on the metric's device; NaN before any image."""
        return to_result(best_accuracy(self.curves()), self.device)


class MaxBoxAccV2(_BoxMetric):
    """MaxBoxAccV2, percent: the mean of the best accuracies at IoU 0.3, 0.5 and 0.7, where any contour counts.

    Choe et al., "Evaluation for Weakly Supervised Object Localization: Protocol, Metrics, and Datasets", TPAMI 2022.
    With the boxes b_ic(t) of all contours c at threshold t and the ground-truth boxes g_i, over N images::

        accuracy(d) = 100 / N * max over t of #{i : max over c of IoU(b_ic(t), g_i) >= d}
        MaxBoxAccV2 = (accuracy(0.3) + accuracy(0.5) + accuracy(0.7)) / 3

    Args:
        inclusive: whether x1, y1 of ground-truth boxes are the last pixel inside (ILSVRC) or the edge (CUB's x +
            width).
        kwargs: arguments of `torchmetrics.Metric`.

    Example:
        >>> metric = MaxBoxAccV2()
        >>> metric.update(np.eye(8)[None], [np.array([[0, 0, 8, 8]])])
        >>> metric.compute().item()
        100.0
    """

    higher_is_better = True

    def __init__(self, *, inclusive: bool = False, **kwargs: Any) -> None:
        super().__init__("choe2020-v2", (), inclusive, **kwargs)

    def compute(self) -> Tensor:
        """Return MaxBoxAccV2, 0-d float64 in [0, 100] on the metric's device; NaN before any image."""
        return to_result(best_accuracy(self.curves()), self.device)


def _state_name(protocol: LocalizationProtocol, inclusive: bool) -> str:
    fields = json.dumps([dataclasses.asdict(protocol), inclusive], sort_keys=True, default=str)
    name = re.sub(r"\W", "_", protocol.name)
    return f"correct_{name}_{hashlib.sha256(fields.encode()).hexdigest()[:8]}"
