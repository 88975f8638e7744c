"""Evaluates the boxes of many maps under several protocols at once, in compiled code.

The results equal those of `wsol.protocols.LocalizationProtocol.evaluate` for each map, to the last bit, in a fraction
of the time: Python runs once for each group of maps instead of once for each map and protocol, and the compiled code
(`wsol.functional.box_engine.evaluation`) holds no interpreter lock, so that threads evaluate in parallel. Protocols
that place and scale maps in the same way share the placed map, and those that need the same boxes share the boxes.

`LocalizationProtocol.evaluate` evaluates, map by map, what the compiled code does not support: ranked boxes, and maps
with values that are not finite. If numba can't be imported, it evaluates all maps.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from wsol.errors import InputError
from wsol.functional.box_engine import evaluation as engine
from wsol.functional.box_engine.compiled import AVAILABLE, plain
from wsol.functional.box_engine.placing import AS_IT_IS, SCALINGS, Placing, axis
from wsol.functional.box_engine.spans import KINDS
from wsol.functional.boxes import LIMITS
from wsol.functional.geometry import Geometry
from wsol.functional.maps import INTERPOLATIONS, normalize, window
from wsol.functional.protocol_fields import RANKED
from wsol.functional.thresholds import OF_LEVELS
from wsol.protocols import FoundBoxes, LocalizationProtocol
from wsol.types import GroundTruth

CHUNK = 16
"""Images that a thread evaluates at a time."""

AT_ONCE = 1 << 18
"""Pixels of maps that OpenCV resizes before compiled code looks at them; they should stay in the processor's cache."""


class GroundTruthBatch(NamedTuple):
    """The true boxes of N images, M boxes in all."""

    boxes: np.ndarray
    """float64 (M, 4), as annotated."""
    half_open: np.ndarray
    """float64 (M, 4)."""
    begin: np.ndarray
    """int64 (N + 1,) where the boxes of each image begin."""

    @classmethod
    def of(cls, truths: Sequence[GroundTruth]) -> GroundTruthBatch:
        """Return the true boxes of N images as one batch."""
        begin = np.cumsum([0, *(len(truth.boxes) for truth in truths)])
        boxes = np.concatenate([np.zeros((0, 4)), *(truth.boxes for truth in truths)])
        ends = np.repeat([float(truth.inclusive) for truth in truths], np.diff(begin))
        return cls(boxes, boxes + np.array([0.0, 0.0, 1.0, 1.0]) * ends[:, None], begin)

    def some(self, images: Sequence[int]) -> GroundTruthBatch:
        """Return the true boxes of the images at these positions, in this order."""
        if list(images) == list(range(len(self.begin) - 1)):
            return self
        rows = np.concatenate([np.arange(self.begin[i], self.begin[i + 1]) for i in images])
        begin = np.cumsum([0, *(self.begin[i + 1] - self.begin[i] for i in images)])
        return GroundTruthBatch(self.boxes[rows], self.half_open[rows], begin)

    def corners(self, protocol: LocalizationProtocol, frames: Sequence[Geometry]) -> np.ndarray:
        """Return all boxes in the frames of their images, ends as the protocol counts them: float64 (M, 4)."""
        numbers = np.array([(*frame.resized, *frame.image_size, *frame.offset, *frame.input_size) for frame in frames])
        numbers = np.repeat(numbers.reshape(-1, 8).astype(np.float64), np.diff(self.begin), axis=0)
        annotated = self.boxes if protocol.true_end == "annotated" else self.half_open
        resized, stored, offset, inputs = (np.tile(numbers[:, i : i + 2], 2) for i in (0, 2, 4, 6))
        return protocol.true_ends((annotated + protocol.true_shift) * resized / stored - offset, inputs)


def evaluate(
    protocols: Mapping[str, LocalizationProtocol],
    maps: Sequence[np.ndarray],
    views: Sequence[Geometry],
    truths: Sequence[GroundTruth],
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Evaluate the maps of N images.

    Args:
        protocols: protocols by name.
        maps: N of real (h, w), as for `LocalizationProtocol.evaluate`.
        views: N, what part of the image each map is of.
        truths: N.
        names: names of the images, for messages.

    Returns:
        bool (N, I, G) by protocol, see `LocalizationProtocol.evaluate`.

    Raises:
        InputError: a map can't be evaluated.

    Example:
        >>> from wsol.protocols import protocol
        >>> view, truth = Geometry.square((8, 8), 8), GroundTruth(np.array([[0.0, 0.0, 8.0, 8.0]]), inclusive=False)
        >>> correct = evaluate({"mine": protocol("cam2016")}, [np.ones((8, 8))], [view], [truth])
        >>> correct["mine"].tolist()
        [[[True]]]
    """
    annotated = GroundTruthBatch.of(truths)
    correct = {
        name: np.empty((len(maps), len(protocol.asked), protocol.num_columns), dtype=bool)
        for name, protocol in protocols.items()
    }
    for group in groups_of(tuple(protocols.items())):
        done = np.zeros(len(maps), dtype=bool)
        if AVAILABLE and group.compiled:
            frames = [group.first.frame_of(view) for view in views]
            for part in _alike(maps, views, frames):
                found = _evaluate_group(group, part, maps, views, frames, annotated)
                for name, values in found.correct.items():
                    correct[name][part.images] = values
                done[part.images] = found.done
        for i in np.flatnonzero(~done).tolist():
            for name, protocol in group.protocols:
                try:
                    correct[name][i] = protocol.evaluate(maps[i], views[i], truths[i])
                except InputError as error:
                    where = f"{names[i]}, " if names else ""
                    raise InputError(f"{where}protocol {protocol.name!r}: {error}") from error
    return correct


def evaluate_boxes(
    protocol: LocalizationProtocol, boxes: np.ndarray, views: Sequence[Geometry], annotated: GroundTruthBatch
) -> np.ndarray:
    """Evaluate B given boxes of each of N images, float64 (N, B, 4), like `evaluate_boxes` for one: bool (N, I, B)."""
    frames = [protocol.frame_of(view) for view in views]
    numbers = np.array([(*frame.resized, *frame.image_size, *frame.offset, *frame.input_size) for frame in frames])
    resized, stored, offset, inputs = (
        np.tile(numbers[:, i : i + 2], 2).astype(np.float64)[:, None] for i in (0, 2, 4, 6)
    )
    framed = np.clip(boxes * resized / stored - offset, 0, inputs)
    corners = protocol.predicted_ends(framed, inputs)
    out = np.empty((len(boxes), len(protocol.asked), boxes.shape[1]), dtype=bool)
    true, begin = _counted(protocol, annotated.corners(protocol, frames), annotated.begin)
    engine.evaluate_boxes(plain(corners, np.float64), true, begin, *_comparison(protocol), out)
    return out


def evaluate_found(
    protocol: LocalizationProtocol, found: FoundBoxes, frame: Geometry, annotated: GroundTruthBatch
) -> np.ndarray:
    """Evaluate the same boxes on each of N images of one frame, as `evaluate_found` does for one: bool (N, I, G)."""
    images = len(annotated.begin) - 1
    out = np.empty((images, len(protocol.asked), len(found.position)), dtype=bool)
    true, begin = _counted(protocol, annotated.corners(protocol, [frame] * images), annotated.begin)
    spans, position = found.spans, plain(found.position, np.int64)
    num_cuts = int(position.max()) + 1 if len(position) else 0
    first, last = plain(spans.first, np.int64), plain(np.minimum(spans.last, num_cuts - 1), np.int64)
    corners = plain(found.corners, np.float64)
    engine.evaluate_spans(corners, first, last, num_cuts, position, true, begin, *_comparison(protocol), out)
    return out


def threads() -> int:
    """Return how many threads this process may use: the cores, shared among the processes of the launcher."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // max(int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1), 1)


def chunks(count: int, num_threads: int) -> Iterator[slice]:
    """Cut a batch into parts, one for each thread if it has few images.

    Example:
        >>> [(part.start, part.stop) for part in chunks(5, 2)]
        [(0, 3), (3, 5)]
    """
    size = max(min(-(-count // max(num_threads, 1)), CHUNK), 1)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


# -- protocols that share a placed map ---------------------------------------------------------------------------------


class Group(NamedTuple):
    """Protocols under which a map has the same levels."""

    protocols: tuple[tuple[str, LocalizationProtocol], ...]
    questions: engine.Questions
    rules: engine.Rules

    @property
    def first(self) -> LocalizationProtocol:
        """The first protocol; the others place and scale maps in the same way."""
        return self.protocols[0][1]

    @property
    def compiled(self) -> bool:
        """Whether compiled code can evaluate these protocols."""
        return self.first.components != RANKED

    @property
    def scaled_first(self) -> bool:
        """Whether maps are scaled before they are resized."""
        return self.first.scale_first or self.first.scaling == "none"


@lru_cache(64)
def groups_of(protocols: tuple[tuple[str, LocalizationProtocol], ...]) -> tuple[Group, ...]:
    """Gather protocols into groups."""
    alike: dict[tuple, list[tuple[str, LocalizationProtocol]]] = defaultdict(list)
    for name, p in protocols:
        levels = () if p.threshold_of in OF_LEVELS else (p.threshold_of, *p.thresholds)
        frame = p.frame, p.frame_size, p.frame_resize, p.frame_square
        scaling = p.interpolation, p.scaling, p.quantiles, p.scale_first
        alike[(*frame, *scaling, p.components == RANKED, levels)].append((name, p))
    return tuple(_group(members) for members in alike.values())


def _group(members: Iterable[tuple[str, LocalizationProtocol]]) -> Group:
    asked: dict[tuple[str, float, tuple[float, ...]], list[tuple[str, LocalizationProtocol]]] = defaultdict(list)
    for name, protocol in members:
        share = protocol.threshold_quantile if protocol.threshold_of == "percentile" else 1.0
        asked[protocol.components, share, tuple(protocol.thresholds)].append((name, protocol))
    ordered = [(q, *member) for q, of_question in enumerate(asked.values()) for member in of_question]
    found = [protocol for _, _, protocol in ordered]
    questions = engine.Questions(
        np.array([KINDS.get(components, -1) for components, _, _ in asked], np.int64),
        np.array([t for _, _, thresholds in asked for t in thresholds], np.float64),
        np.cumsum([0, *(len(thresholds) for _, _, thresholds in asked)]),
        found[0].threshold_of in OF_LEVELS,
        np.array([share for _, share, _ in asked], np.float64),
    )
    rules = engine.Rules(
        np.array([q for q, _, _ in ordered], np.int64),
        np.array([engine.ENDS[p.predicted_end] for p in found], np.int64),
        np.array([engine.NOTHING[p.nothing_found] for p in found], np.int64),
        np.array([float(p.plus_one) for p in found]),
        np.array([p.true_boxes == "first" for p in found]),
        np.concatenate([p.asked for p in found]),
        np.cumsum([0, *(len(p.asked) for p in found)]),
    )
    return Group(tuple((name, protocol) for _, name, protocol in ordered), questions, rules)


def _comparison(protocol: LocalizationProtocol) -> tuple[float, np.ndarray]:
    return float(protocol.plus_one), plain(protocol.asked, np.float64)


def _counted(protocol: LocalizationProtocol, corners: np.ndarray, begin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the true boxes that count, and where those of each image begin."""
    if protocol.true_boxes == "all":
        return plain(corners, np.float64), plain(begin, np.int64)
    there = np.diff(begin) > 0
    return plain(corners[begin[:-1][there]], np.float64), np.cumsum([0, *there.astype(np.int64)])


# -- maps at the same place in their frames ----------------------------------------------------------------------------


class SameSizeImages(NamedTuple):
    """Images of one batch with maps of one size, at the same place in frames of one size."""

    images: list[int]
    """Positions in the batch."""
    part: tuple[int, int, int, int]
    """Left, top, right and bottom of the map in the frame, see `wsol.functional.maps.window`."""
    frame: tuple[int, int]
    """Width and height."""
    cells: tuple[int, int]
    """Height and width of the maps."""


class EvaluatedMaps(NamedTuple):
    """Results of N maps: bool (N, I, G) by protocol, and bool (N,) which maps were evaluated."""

    correct: dict[str, np.ndarray]
    done: np.ndarray


def _alike(maps: Sequence[np.ndarray], views: Sequence[Geometry], frames: Sequence[Geometry]) -> list[SameSizeImages]:
    found: dict[tuple, SameSizeImages] = {}
    for i, (score_map, view, frame) in enumerate(zip(maps, views, frames, strict=True)):
        part = window(view, frame)
        visible = part[0] < frame.input_size[0] and part[1] < frame.input_size[1] and part[2] > 0 and part[3] > 0
        if not visible or view.image_size != frame.image_size or score_map.ndim != 2 or not score_map.size:
            continue  # `LocalizationProtocol.evaluate` says what is wrong
        key = part, frame.input_size, score_map.shape
        found.setdefault(key, SameSizeImages([], *key)).images.append(i)
    return list(found.values())


def _evaluate_group(
    group: Group,
    part: SameSizeImages,
    maps: Sequence[np.ndarray],
    views: Sequence[Geometry],
    frames: Sequence[Geometry],
    annotated: GroundTruthBatch,
) -> EvaluatedMaps:
    found = [maps[i][:, ::-1] if views[i].mirrored else maps[i] for i in part.images]
    stack = plain(np.stack(found), np.float64)
    bad = np.zeros(len(stack), dtype=bool)
    if group.scaled_first:
        stack, bad = _scaled(stack, group.first)
    true, within = annotated.some(part.images), [frames[i] for i in part.images]
    corners = np.stack([true.corners(protocol, within) for _, protocol in group.protocols])
    columns = [len(p.asked) * p.num_columns for _, p in group.protocols]
    done, correct = np.zeros(len(stack), dtype=bool), np.empty((len(stack), sum(columns)), dtype=bool)
    x0, y0, x1, y1 = part.part
    size, (height, width) = (x1 - x0, y1 - y0), part.cells
    same, enlarged = (width, height) == size, width <= size[0] and height <= size[1]
    by_opencv = not same and not (group.first.interpolation == "cubic" and enlarged)
    placing = Placing(
        axis(width, size[0], x0, part.frame[0], same or by_opencv),
        axis(height, size[1], y0, part.frame[1], same or by_opencv),
        same or by_opencv,
        AS_IT_IS if group.scaled_first else SCALINGS[group.first.scaling],
        float(group.first.quantiles[0]),
        float(group.first.quantiles[1]),
        np.zeros(0) if group.first.threshold_of in OF_LEVELS else group.first.thresholds,
        group.first.threshold_of == "mean",
    )
    work = engine.work(part.frame[::-1], max(height, 1))
    step = max(AT_ONCE // (size[0] * size[1]), 1) if by_opencv else len(stack)
    for start in range(0, len(stack), step):
        rows = slice(start, min(start + step, len(stack)))
        given = _resized(stack[rows], size, group.first.interpolation) if by_opencv else stack[rows]
        truth = engine.Annotation(corners, true.begin[rows.start : rows.stop + 1])
        engine.evaluate_maps(
            given, placing, group.questions, group.rules, truth, LIMITS, work, done[rows], correct[rows]
        )
    ends = np.cumsum(columns)
    return EvaluatedMaps(
        {
            name: correct[:, end - column : end].reshape(len(stack), len(p.asked), p.num_columns)
            for (name, p), column, end in zip(group.protocols, columns, ends, strict=True)
        },
        done & ~bad,
    )


def _scaled(maps: np.ndarray, protocol: LocalizationProtocol) -> tuple[np.ndarray, np.ndarray]:
    """Apply `wsol.functional.maps.normalize` to N maps: float64 (N, h, w), and bool (N,) which can't be scaled."""
    least, greatest = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    if protocol.scaling == "none":
        return maps, ~((least >= 0) & (greatest <= 1))[:, 0, 0]
    if protocol.scaling in ("quantiles", "clip"):
        scaled = np.stack([normalize(one, protocol.scaling, protocol.quantiles) for one in maps])
        return scaled, ~np.isfinite(least + greatest)[:, 0, 0]
    low = least if protocol.scaling == "minmax" else np.zeros_like(least)
    with np.errstate(over="ignore", invalid="ignore"):
        peak = greatest - low
    bad = ~np.isfinite(least + greatest + peak)
    flat = bad | ~(peak > 0)
    out = np.maximum(maps - np.where(bad, 0.0, low), 0.0) / np.where(flat, 1.0, peak)
    return np.where(flat, 0.0, out), bad[:, 0, 0]


def _resized(maps: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Apply `wsol.functional.maps.resize` to N maps."""
    out = engine.resized(len(maps), size)
    for score_map, frame in zip(maps, out, strict=True):
        cv2.resize(score_map, size, dst=frame, interpolation=INTERPOLATIONS[interpolation])
    return out
