"""One run's saved maps, evaluated for the page at every threshold, or the boxes that its network gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from wsol.data.source import Split
from wsol.engine.chunk_evaluator import GivenBox
from wsol.functional.protocol_fields import MAX_LEVELS, RANKED
from wsol.functional.thresholds import OF_LEVELS
from wsol.interop.maps import Maps
from wsol.metrics._box_accuracy import BoxAccuracy
from wsol.metrics._curves import Curves
from wsol.protocols import LocalizationProtocol
from wsol.report.pictures import small_map
from wsol.report.steps import Steps, given_step, steps

OVERLAPS = (0.3, 0.5, 0.7)
"""Overlaps for which every report has curves."""


class EvaluatedImage(NamedTuple):
    """One image's evaluated map, or the box that the network gave."""

    steps: Steps
    small: np.ndarray | None
    """uint8 (h, w), see `wsol.report.pictures.small_map`; None without a map."""
    hits: np.ndarray
    """bool (I, G), see `LocalizationProtocol.evaluate`, G is 1 of a given box; all False without a ground-truth box."""


def at_all_thresholds(protocol: LocalizationProtocol) -> LocalizationProtocol:
    """Return the protocol with a threshold for every position of the slider, evaluated at `OVERLAPS` besides its own.

    Its results at its own thresholds do not change. Ranked boxes still have no threshold.

    Example:
        >>> from wsol.protocols import protocol
        >>> len(protocol("cam2016").thresholds), len(at_all_thresholds(protocol("cam2016")).thresholds)
        (1, 1000)
    """
    changes: dict[str, Any] = {"iou_thresholds": tuple(sorted({*protocol.iou_thresholds, *OVERLAPS}))}
    if protocol.components != RANKED:
        changes["origins"] = (*protocol.origins, *({"oracle"} - set(protocol.origins)))
        if not protocol.chooses and protocol.threshold_of not in OF_LEVELS:
            low, high = protocol.threshold_range
            changes["threshold_step"] = max(protocol.threshold_step, (high - low) / (MAX_LEVELS - 5))
    return replace(protocol, **changes)


def evaluate(
    split: Split, found: Maps | Mapping[str, GivenBox], protocol: LocalizationProtocol, pool: Executor, chunk: int
) -> Iterator[tuple[range, list[EvaluatedImage | None]]]:
    """Yield positions of some images and the evaluated ones, None without a map or box.

    Args:
        split: the evaluated split.
        found: maps of its images, or by image id the boxes that the network gave; others may be present.
        protocol: from `at_all_thresholds`.
        pool: thread pool.
        chunk: number of images at a time.
    """
    one = (
        partial(_of_map, split, found, frozenset(found.ids), protocol)
        if isinstance(found, Maps)
        else (partial(_of_box, split, found, protocol))
    )
    for start in range(0, len(split), chunk):
        positions = range(start, min(start + chunk, len(split)))
        yield positions, list(pool.map(one, positions))


def _of_map(
    split: Split, maps: Maps, there: frozenset[str], protocol: LocalizationProtocol, position: int
) -> EvaluatedImage | None:
    """Evaluate the map of one image; None if it has no map."""
    name, truth = split.ids[position], split.truth(position)
    if name not in there:
        return None
    score_map, view = protocol.merge(*maps.read(name, split.size(position)))
    found = protocol.find(score_map, view)
    hits = np.zeros((len(protocol.asked), protocol.num_columns), dtype=bool)
    if truth is not None and len(found.spans.boxes):
        hits = protocol.evaluate_found(found, view, truth)
    return EvaluatedImage(steps(protocol, found, view, truth), small_map(score_map, view, protocol), hits)


def _of_box(
    split: Split, boxes: Mapping[str, GivenBox], protocol: LocalizationProtocol, position: int
) -> EvaluatedImage | None:
    """Evaluate the box that the network gave for one image; None if it gave none. One that is not finite is a miss."""
    given, truth = boxes.get(split.ids[position]), split.truth(position)
    if given is None:
        return None
    box = np.where(np.isfinite(given.box).all(), given.box, 0.0)[None]
    hits = np.zeros((len(protocol.asked), 1), dtype=bool)
    if truth is not None:
        hits = protocol.evaluate_boxes(box, given.view, truth)
    return EvaluatedImage(given_step(protocol, box, given.view, truth), None, hits)


class Accuracy:
    """Collects the curves of a run; only images that a protocol evaluates count.

    Args:
        split: the evaluated split.
        protocol: from `at_all_thresholds`.
        ranks: int (N,) rank of each ground-truth class; None if classes are unknown.
        given: whether the network gave one box per image, at no threshold.
    """

    def __init__(
        self, split: Split, protocol: LocalizationProtocol, ranks: np.ndarray | None, *, given: bool = False
    ) -> None:
        self.split, self.ranks = split, ranks
        marked = np.array([split.truth(i) is not None for i in range(len(split))])
        left_out = split.blacklist if protocol.blacklist and split.blacklist is not None else np.zeros_like(marked)
        self.counts = marked & ~left_out
        """bool (N,) which images the protocol evaluates, if they have a map or box."""
        self._metric = BoxAccuracy.from_protocol(protocol, () if ranks is None else (1,), given=given)

    def add(self, positions: Sequence[int], evaluated: Sequence[EvaluatedImage | None]) -> None:
        """Add some images; an image without a map or box is not evaluated."""
        found = {at: one for at, one in zip(positions, evaluated, strict=True) if one is not None}
        self.counts[[at for at in positions if at not in found]] = False
        at = np.array([i for i in found if self.counts[i]], dtype=np.int64)
        if len(at):
            hits = np.stack([found[i].hits for i in at.tolist()])
            self._metric.update(hits, at, None if self.ranks is None else self.ranks[at], self.split.labels[at])

    def curves(self) -> Curves:
        """Return accuracy at every threshold and overlap."""
        return self._metric.compute()
