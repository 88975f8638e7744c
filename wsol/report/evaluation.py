"""One run's saved maps, evaluated for the page at every threshold, a few hundred images at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from wsol.data.source import Split
from wsol.functional.protocol_fields import MAX_LEVELS, RANKED
from wsol.functional.thresholds import OF_LEVELS
from wsol.interop.maps import Maps
from wsol.metrics._box_accuracy import BoxAccuracy
from wsol.metrics._curves import Curves
from wsol.protocols import LocalizationProtocol
from wsol.report.pictures import small_map
from wsol.report.steps import Steps, steps

OVERLAPS = (0.3, 0.5, 0.7)
"""Overlaps for which every report has curves."""


class EvaluatedMaps(NamedTuple):
    """One image's evaluated map."""

    steps: Steps
    small: np.ndarray
    """uint8 (h, w), see `wsol.report.pictures.small_map`."""
    hits: np.ndarray
    """bool (I, G), see `LocalizationProtocol.evaluate`; all False without a ground-truth box."""


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
    split: Split, maps: Maps, protocol: LocalizationProtocol, pool: Executor, chunk: int
) -> Iterator[tuple[range, list[EvaluatedMaps | None]]]:
    """Yield positions of some images and their evaluated maps, None without a map.

    Args:
        split: the evaluated split.
        maps: maps of its images; others may be present.
        protocol: from `at_all_thresholds`.
        pool: thread pool.
        chunk: number of images at a time.
    """
    there = frozenset(maps.ids)

    def one(position: int) -> EvaluatedMaps | None:
        """Evaluate one image; None if it has no map."""
        name, truth = split.ids[position], split.truth(position)
        if name not in there:
            return None
        score_map, view = protocol.merge(*maps.read(name, split.size(position)))
        found = protocol.find(score_map, view)
        hits = np.zeros((len(protocol.asked), protocol.num_columns), dtype=bool)
        if truth is not None and len(found.spans.boxes):
            hits = protocol.evaluate_found(found, view, truth)
        return EvaluatedMaps(steps(protocol, found, view, truth), small_map(score_map, view, protocol), hits)

    for start in range(0, len(split), chunk):
        positions = range(start, min(start + chunk, len(split)))
        yield positions, list(pool.map(one, positions))


class Accuracy:
    """Collects the curves of a run; only images that a protocol evaluates count.

    Args:
        split: the evaluated split.
        protocol: from `at_all_thresholds`.
        ranks: int (N,) rank of each ground-truth class; None if classes are unknown.
    """

    def __init__(self, split: Split, protocol: LocalizationProtocol, ranks: np.ndarray | None) -> None:
        self.split, self.ranks = split, ranks
        marked = np.array([split.truth(i) is not None for i in range(len(split))])
        left_out = split.blacklist if protocol.blacklist and split.blacklist is not None else np.zeros_like(marked)
        self.counts = marked & ~left_out
        """bool (N,) which images the protocol evaluates, if they have a map."""
        self._metric = BoxAccuracy.from_protocol(protocol, () if ranks is None else (1,))

    def add(self, positions: Sequence[int], evaluated: Sequence[EvaluatedMaps | None]) -> None:
        """Add some images; an image without a map is not evaluated."""
        found = {at: one for at, one in zip(positions, evaluated, strict=True) if one is not None}
        self.counts[[at for at in positions if at not in found]] = False
        at = np.array([i for i in found if self.counts[i]], dtype=np.int64)
        if len(at):
            hits = np.stack([found[i].hits for i in at.tolist()])
            self._metric.update(hits, at, None if self.ranks is None else self.ranks[at], self.split.labels[at])

    def curves(self) -> Curves:
        """Return accuracy at every threshold and overlap."""
        return self._metric.compute()
