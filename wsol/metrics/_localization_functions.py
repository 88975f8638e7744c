"""Localization errors of a set as functions: check, find correct boxes, compute. The classes only accumulate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsol.box_evaluation import chunks, evaluate
from wsol.errors import InputError
from wsol.functional import metric_inputs as inputs
from wsol.functional.geometry import Geometry
from wsol.functional.ranks import check_ranks, check_topk, ranks_or_invalid
from wsol.metrics._box_accuracy import BoxRows
from wsol.metrics._curves import Curves
from wsol.metrics._table_rows import localization_rows
from wsol.protocols import LocalizationProtocol, protocol
from wsol.types import GroundTruth


class LocalizationBatch(NamedTuple):
    """N images that `check_batch` has checked."""

    maps: list[np.ndarray]
    """N of real (h, w)."""
    boxes: list[np.ndarray]
    """N of float64 (M, 4)."""
    sizes: list[tuple[int, int]]
    """N pairs (width, height)."""
    ranks: np.ndarray | None
    """int32 (N,) rank of each ground-truth class."""
    labels: np.ndarray | None
    """int64 (N,)."""
    positions: np.ndarray
    """int64 (N,), `wsol.functional.metric_inputs.UNKEYED` for images without a position."""


def check_batch(
    score_maps: Any,
    boxes: Any,
    sizes: Any = None,
    *,
    logits: Any = None,
    labels: Any = None,
    index: Any = None,
    topk: Sequence[int] = (),
    inclusive: bool = False,
) -> LocalizationBatch:
    """Check a batch and copy its tensors from their device once; see `LocalizationError.update`.

    Raises:
        InputError: inputs that can't be evaluated, or an argument that ``topk`` needs is missing.
    """
    if topk and (logits is None or labels is None):
        raise InputError(f"topk={list(topk)} needs logits and labels; pass them or set topk=[]")
    if logits is not None and labels is None:
        raise InputError("logits without labels: also pass the ground-truth classes, integer (N,)")
    found = None if logits is None else ranks_or_invalid(logits, labels)
    if found is not None:
        check_topk(topk, logits.shape[1])
    of_maps, of_boxes, of_sizes, ranks, classes, positions = inputs.on_host(
        score_maps, boxes, sizes, found, labels, index
    )
    maps = inputs.check_maps(of_maps)
    pairs = inputs.check_sizes(of_sizes, maps)
    truths = inputs.check_boxes(of_boxes, pairs, inclusive=inclusive)
    if ranks is not None:
        inputs.check_count("logits", len(ranks), len(maps))
        check_ranks(ranks, logits.shape[1])
    if classes is not None:
        classes = inputs.check_integers(classes, "labels", len(maps), limit=2**31)
    return LocalizationBatch(maps, truths, pairs, ranks, classes, inputs.check_index(positions, len(maps)))


def correct_boxes(evaluated_by: LocalizationProtocol, batch: LocalizationBatch, *, inclusive: bool) -> np.ndarray:
    """Return whether boxes are correct, bool (N, I, G) (overlap, threshold); see `LocalizationProtocol.evaluate`."""
    shapes = [(score_map.shape[1], score_map.shape[0]) for score_map in batch.maps]
    views = [Geometry(size, shape, (0, 0), shape) for size, shape in zip(batch.sizes, shapes, strict=True)]
    truths = [GroundTruth(boxes, inclusive) for boxes in batch.boxes]
    parts = list(chunks(len(views), 1))
    found = [evaluate({"": evaluated_by}, batch.maps[part], views[part], truths[part])[""] for part in parts]
    shape = 0, len(evaluated_by.asked), evaluated_by.num_columns
    return np.concatenate([np.zeros(shape, dtype=bool), *found])


def errors_at(
    evaluated_by: LocalizationProtocol, curves: Curves, origin: str | None = None, fullsup: Curves | None = None
) -> dict[str, float]:
    """Return the errors at a threshold of a given origin, percent; see `LocalizationError.errors`."""
    wanted = origin or ("fixed" if "fixed" in evaluated_by.origins else "oracle")
    for row in localization_rows(evaluated_by, curves, fullsup, origins=[wanted]):
        errors = {key: value for key, value in row.items() if key.endswith("_error")}
        return {key: float("nan") if value is None else value for key, value in errors.items()}
    raise InputError(f"protocol {evaluated_by.name!r} has no threshold of origin {wanted!r} here")


def best_accuracy(curves: Curves) -> float:
    """Return the mean over overlaps of the accuracy at the best threshold of each, percent; NaN without images."""
    return float(curves.gt_known.max(axis=1).mean())


def protocol_of(value: LocalizationProtocol | str) -> LocalizationProtocol:
    """Return a protocol by its name, or the protocol itself."""
    if not isinstance(value, LocalizationProtocol | str):
        raise InputError(f"protocol: expected a name such as 'cam2016' or a protocol, got {type(value).__name__}")
    return protocol(value) if isinstance(value, str) else value


def localization_error(
    score_maps: inputs.Values,
    boxes: inputs.Values,
    sizes: inputs.Values | None = None,
    *,
    protocol: LocalizationProtocol | str = "cam2016",
    topk: Iterable[int] = (1, 5),
    logits: Tensor | np.ndarray | None = None,
    labels: inputs.Values | None = None,
    inclusive: bool = False,
) -> dict[str, Tensor]:
    """Return the localization errors of a set; the function of `LocalizationError`, which documents the arguments.

    Returns:
        ``gt_known_error``, ``top1_error`` and so on, 0-d float64, percent in [0, 100].

    Raises:
        InputError: inputs that can't be evaluated, or an argument that ``topk`` needs is missing.

    Example:
        >>> errors = localization_error(np.eye(8)[None], [[0, 0, 8, 8]], protocol="choe2020", topk=[])
        >>> errors["gt_known_error"].item()
        0.0
    """
    evaluated_by, topk = protocol_of(protocol), check_topk(topk)
    curves = _curves(
        evaluated_by, score_maps, boxes, sizes, logits=logits, labels=labels, topk=topk, inclusive=inclusive
    )
    return {k: inputs.to_result(v, torch.device("cpu")) for k, v in errors_at(evaluated_by, curves).items()}


def max_box_acc(
    score_maps: inputs.Values,
    boxes: inputs.Values,
    sizes: inputs.Values | None = None,
    *,
    v2: bool = False,
    inclusive: bool = False,
) -> Tensor:
    """Return MaxBoxAcc or MaxBoxAccV2 of a set; the function of these classes, which document the arguments.

    Returns:
        0-d float64, percent in [0, 100].

    Raises:
        InputError: inputs that can't be evaluated.

    Example:
        >>> max_box_acc(np.eye(8)[None], [[0, 0, 8, 8]], v2=True).item()
        100.0
    """
    evaluated_by = protocol("choe2020-v2" if v2 else "choe2020")
    curves = _curves(evaluated_by, score_maps, boxes, sizes, topk=(), inclusive=inclusive)
    return inputs.to_result(best_accuracy(curves), torch.device("cpu"))


def _curves(
    evaluated_by: LocalizationProtocol, *values: Any, topk: tuple[int, ...], inclusive: bool, **classes: Any
) -> Curves:
    batch = check_batch(*values, topk=topk, inclusive=inclusive, **classes)
    layout = BoxRows.from_protocol(evaluated_by, topk)
    rows = layout.encode(correct_boxes(evaluated_by, batch, inclusive=inclusive), batch.ranks, batch.labels)
    return layout.curves(rows, np.arange(len(batch.maps)))
