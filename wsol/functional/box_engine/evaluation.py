"""Whether boxes are correct at every threshold, for many maps in one compiled call that holds no interpreter lock.

Protocols that cut the same levels, that is, that place and scale maps alike, are evaluated together: a map is placed
once, components are looked for once for each kind and set of thresholds (a *question*), and overlaps are computed for
each protocol (a *rule*).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsol.functional.box_engine.compiled import Scratch, compiled
from wsol.functional.box_engine.overlap import best_at_cuts, best_overlaps
from wsol.functional.box_engine.placing import place_levels
from wsol.functional.box_engine.quantile import level_quantile
from wsol.functional.box_engine.spans import Room, distinct_cuts, find_spans, room

ENDS = {"one_past": 0, "last_pixel": 1, "one_past_clipped": 2}
"""The numbers of the words for ``LocalizationProtocol.predicted_end``, ..."""

NOTHING = {"zeros": 0, "first_pixel": 1, "frame": 2}
"""... and for ``LocalizationProtocol.nothing_found``."""


class Questions(NamedTuple):
    """What is looked for in the levels of a map."""

    kinds: np.ndarray
    """int64 (Q,), see `wsol.functional.box_engine.spans.KINDS`."""
    thresholds: np.ndarray
    """float64 (T,) of all questions, one after the other."""
    begin: np.ndarray
    """int64 (Q + 1,) where those of each question begin."""
    of_levels: bool
    """Whether a threshold is a fraction of a quantile of the levels; else each threshold is the next level."""
    quantiles: np.ndarray
    """float64 (Q,) that quantile for each question; 1 is the maximum."""


class Rules(NamedTuple):
    """When a box is correct, for each of P protocols."""

    question: np.ndarray
    """int64 (P,), ascending."""
    end: np.ndarray
    """int64 (P,), see `ENDS`."""
    nothing: np.ndarray
    """int64 (P,), see `NOTHING`."""
    more: np.ndarray
    """float64 (P,): 1 where x1, y1 name the last pixel inside, else 0."""
    first_only: np.ndarray
    """bool (P,): whether only the first true box counts."""
    ious: np.ndarray
    """float64 (I,) least overlaps that are correct, those of all protocols one after the other."""
    begin: np.ndarray
    """int64 (P + 1,) where those of each protocol begin."""


class Annotation(NamedTuple):
    """The true boxes of N images."""

    corners: np.ndarray
    """float64 (P, M, 4) in each protocol's frame, ends as it counts them; of all images one after the other."""
    begin: np.ndarray
    """int64 (N + 1,) where those of each image begin."""


class Work(NamedTuple):
    """What a map is evaluated in."""

    row_sums: np.ndarray
    values: np.ndarray
    levels: np.ndarray
    """uint16 (H, W)."""
    corners: np.ndarray
    """float64 (n, 4)."""
    overlaps: np.ndarray
    """float64 (n,)."""
    room: Room


_scratch = Scratch()


def work(shape: tuple[int, int], map_height: int) -> Work:
    """Return this thread's arrays for evaluating maps of this height in a frame of this shape (H, W)."""
    pixels, found = shape[0] * shape[1], room(shape)
    return Work(
        _scratch.take("row sums", np.float64, map_height * shape[1]),
        _scratch.take("values", np.float64, pixels),
        _scratch.take("levels", np.uint16, pixels).reshape(shape),
        _scratch.take("corners", np.float64, 4 * len(found.boxes)).reshape(-1, 4),
        _scratch.take("overlaps", np.float64, len(found.boxes)),
        found,
    )


def resized(count: int, size: tuple[int, int]) -> np.ndarray:
    """Room for resized maps, float64 (count, height, width). It is the thread's."""
    return _scratch.take("resized", np.float64, count * size[0] * size[1]).reshape(count, size[1], size[0])


@compiled
def evaluate_maps(maps, placing, questions, rules, truth, limits, work, done, correct):
    """Evaluate the maps of N images.

    Args:
        maps: float64 (N, h, w), or (N, H, W) resized already.
        placing: see `wsol.functional.box_engine.placing.Placing`.
        questions: see `Questions`.
        rules: see `Rules`.
        truth: see `Annotation`.
        limits: see `wsol.functional.box_engine.spans.Limits`.
        work: see `work`.
        done: bool (N,), filled in: whether the map could be evaluated; where not, its row of ``correct`` is not filled
            in.
        correct: bool (N, C), filled in: for each protocol I x G values, protocols one after the other.
    """
    for i in range(len(maps)):
        done[i] = place_levels(maps[i], placing, work.row_sums, work.values, work.levels)
        if not done[i]:
            continue
        rule, column = 0, 0
        for q in range(len(questions.kinds)):
            thresholds = questions.thresholds[questions.begin[q] : questions.begin[q + 1]]
            if questions.of_levels:
                highest = level_quantile(work.levels, questions.quantiles[q])
                cuts, position = distinct_cuts(thresholds, highest)
            else:
                cuts = np.arange(len(thresholds))
                position = cuts
            num = find_spans(work.levels, cuts, questions.kinds[q], limits, work.room)
            best = np.empty(len(cuts))
            while rule < len(rules.question) and rules.question[rule] == q:
                begin, end = truth.begin[i], truth.begin[i + 1]
                end = min(end, begin + 1) if rules.first_only[rule] else end
                corners, overlaps = work.corners[:num], work.overlaps[:num]
                _corners(work.room.boxes, rules.end[rule], rules.nothing[rule], work.levels.shape, corners)
                overlaps[:] = 0.0
                best_overlaps(corners, truth.corners[rule][begin:end], rules.more[rule], overlaps)
                best[:] = 0.0
                best_at_cuts(work.room.first, work.room.last, overlaps, best)
                for k in range(rules.begin[rule], rules.begin[rule + 1]):
                    for g in range(len(position)):
                        correct[i, column + g] = best[position[g]] >= rules.ious[k]
                    column += len(position)
                rule += 1


@compiled
def _corners(boxes, end, nothing, shape, out):
    """Corners of x, y, width, height with their ends as a protocol counts them; see `wsol.protocols`."""
    height, width = float(shape[0]), float(shape[1])
    for i in range(len(out)):
        x0, y0 = float(boxes[i, 0]), float(boxes[i, 1])
        x1, y1 = x0 + float(boxes[i, 2]), y0 + float(boxes[i, 3])
        if x1 == x0 and nothing == 1:
            x1 = y1 = 1.0
        elif x1 == x0 and nothing == 2:
            x1, y1 = width, height
        elif end == 1:
            x1, y1 = x1 - 1.0, y1 - 1.0
        elif end == 2:
            x1, y1 = min(x1, width - 1.0), min(y1, height - 1.0)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = x0, y0, x1, y1


@compiled
def evaluate_spans(corners, first, last, num_cuts, position, true_corners, begin, more, ious, correct):
    """Evaluate the same boxes on N images.

    Args:
        corners: float64 (B, 4) with their ends as the protocol counts them.
        first: int64 (B,) and
        last: int64 (B,): at which of the cuts each is there.
        num_cuts: number of cuts.
        position: int64 (G,) the cut of each threshold.
        true_corners: float64 (M, 4) true boxes, of all images one after the other.
        begin: int64 (N + 1,) where those of each image begin.
        more: see `Rules`.
        ious: float64 (I,), see `Rules`.
        correct: bool (N, I, G), filled in.
    """
    overlaps, best = np.empty(len(corners)), np.empty(num_cuts)
    for i in range(len(correct)):
        overlaps[:] = 0.0
        best[:] = 0.0
        best_overlaps(corners, true_corners[begin[i] : begin[i + 1]], more, overlaps)
        best_at_cuts(first, last, overlaps, best)
        for k in range(len(ious)):
            for g in range(len(position)):
                correct[i, k, g] = best[position[g]] >= ious[k]


@compiled
def evaluate_boxes(corners, true_corners, begin, more, ious, correct):
    """Evaluate B boxes of each of N images, float64 (N, B, 4); the other arguments are those of `evaluate_spans`."""
    overlaps = np.empty(corners.shape[1])
    for i in range(len(correct)):
        overlaps[:] = 0.0
        best_overlaps(corners[i], true_corners[begin[i] : begin[i + 1]], more, overlaps)
        for k in range(len(ious)):
            for g in range(len(overlaps)):
                correct[i, k, g] = overlaps[g] >= ious[k]
