"""The boxes of one map at all its cuts, in one compiled function that joins the parts of the engine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsol.functional.box_engine.compiled import Scratch, compiled
from wsol.functional.box_engine.component_sizes import Sizes, largest, sizes_for
from wsol.functional.box_engine.component_tree import BACKGROUND, FOREGROUND, Side, Work, grow_trees, work_for
from wsol.functional.box_engine.contour_area import STEPS_A_PIXEL, Bounds, largest_contours
from wsol.functional.box_engine.padded_map import PaddedMap, fill, room_for
from wsol.functional.box_engine.peak import around_peak
from wsol.functional.box_engine.runs import largest_above

LARGEST_PIXELS, LARGEST_CONTOUR, ALL_CONTOURS, PEAK = 0, 1, 2, 3
KINDS = {
    "largest_pixels": LARGEST_PIXELS,
    "largest_contour": LARGEST_CONTOUR,
    "all_contours": ALL_CONTOURS,
    "peak": PEAK,
}
"""The numbers of the words in `wsol.functional.boxes`."""

FEW_CUTS = 4
"""Up to this many cuts, components are found one cut at a time, from runs: 20 to 60 us per cut at 224 x 224."""

MANY_EVENTS = 0.4
"""If more than this share of a map's pixels are events, adding up all areas is the fastest way to the largest."""


class Limits(NamedTuple):
    """When each algorithm is used; the choice changes no box."""

    few_cuts: int = FEW_CUTS
    many_events: float = MANY_EVENTS
    steps_a_pixel: int = STEPS_A_PIXEL


class Room(NamedTuple):
    """Work space of the search for boxes in maps of one shape, and its result."""

    padded: PaddedMap
    foreground: Side
    background: Side
    work: Work
    nodes: np.ndarray
    """`NODE`."""
    candidates: np.ndarray
    """int64."""
    bounds: Bounds
    sizes: Sizes
    flags: np.ndarray
    """uint8, work space of `largest_above`."""
    runs: np.ndarray
    """int32 (n, 8), work space of `largest_above`."""
    boxes: np.ndarray
    """int64 (n, 4) x, y, width, height; this and the next two are the result."""
    first: np.ndarray
    """int64 (n,) positions in the array of cuts."""
    last: np.ndarray
    """int64 (n,)."""


MOST_SHAPES = 64
"""For how many shapes each thread keeps the work space."""

_scratch = Scratch()


def room(shape: tuple[int, int]) -> Room:
    """Return work space for a map of some shape (H, W). It belongs to the thread: the next call may return it again."""
    if shape not in _scratch.kept:
        if len(_scratch.kept) >= MOST_SHAPES:
            _scratch.kept.clear()
        _scratch.kept[shape] = _room(shape)
    return _scratch.kept[shape]


def _room(shape: tuple[int, int]) -> Room:
    padded, pixels = room_for(shape, _scratch), shape[0] * shape[1]
    work, nodes = work_for(pixels, _scratch)
    found = 2 * pixels + 256
    return Room(
        padded,
        FOREGROUND,
        BACKGROUND,
        work,
        nodes,
        _scratch.take("candidates", np.int64, len(nodes)),
        Bounds(*(_scratch.take(name, np.int64, len(nodes)) for name in Bounds._fields)),
        sizes_for(padded, _scratch),
        _scratch.take("flags", np.uint8, shape[1] + 16),
        _scratch.take("runs", np.int32, 8 * shape[0] * (shape[1] // 2 + 1)).reshape(-1, 8),
        _scratch.take("found boxes", np.int64, 4 * found).reshape(-1, 4),
        _scratch.take("first", np.int64, found),
        _scratch.take("last", np.int64, found),
    )


@compiled
def find_spans(levels, cuts, kind, limits, room):
    """Find the boxes at each cut.

    Args:
        levels: uint16 (H, W); the upper byte is the level.
        cuts: int64 (L,) ascending.
        kind: see `KINDS`.
        limits: see `Limits`.
        room: of the levels' shape.

    Returns:
        The number of spans, which are stored in ``room.boxes``, ``room.first`` and ``room.last``.
    """
    boxes, num_cuts = room.boxes, len(cuts)
    rank = _rank(cuts)
    if kind == ALL_CONTOURS:
        fill(levels, room.padded)
        num, holes = grow_trees(
            room.padded, room.foreground, room.background, rank, num_cuts, True, room.work, room.nodes
        )
        return _all_spans(room.nodes[:num], room.nodes[num : num + holes], num_cuts, boxes, room.first, room.last)
    boxes = boxes[:num_cuts]
    boxes[:] = 0
    if kind == PEAK:
        around_peak(levels, rank, num_cuts, room.sizes.ranked, room.sizes.following, boxes)
    elif kind == LARGEST_CONTOUR:
        if not _by_search(levels, cuts, rank, limits, room, boxes):
            largest(levels, rank, num_cuts, True, room.padded, room.sizes, boxes)
    elif num_cuts <= limits.few_cuts:
        for k in range(num_cuts):
            largest_above(levels, cuts[k], room.flags, room.runs, boxes[k])
    else:
        largest(levels, rank, num_cuts, False, room.padded, room.sizes, boxes)
    for k in range(num_cuts):
        room.first[k] = room.last[k] = k
    return num_cuts


@compiled
def _by_search(levels, cuts, rank, limits, room, boxes):
    """Fill in the box of the largest contour at each cut, if that is quick. Returns whether it succeeded."""
    padded = room.padded
    if fill(levels, padded) > limits.many_events * levels.size:
        return False
    num, _ = grow_trees(padded, room.foreground, room.background, rank, len(cuts), False, room.work, room.nodes)
    lowest = ((cuts + 1 << 8) + 1)[::-1]  # in padded.values, of the pixels above each cut
    budget = limits.steps_a_pixel * levels.size
    return largest_contours(
        room.nodes[:num], padded.values, padded.ring, lowest, room.candidates, room.bounds, budget, boxes[::-1]
    )


@compiled
def _all_spans(foreground, holes, num_cuts, boxes, first, last):
    """Fill in the spans of all nodes present at some cut, holes with the pixels around them."""
    empty, num = num_cuts - foreground[0].birth if len(foreground) else 0, 0
    if empty < num_cuts:  # no pixel is above the later cuts
        boxes[0], first[0], last[0], num = 0, empty, num_cuts - 1, 1
    for nodes, margin in ((foreground, 0), (holes, 1)):
        for i in range(len(nodes)):
            node = nodes[i]
            if node.birth < node.end:
                boxes[num, 0], boxes[num, 1] = node.x0 - margin, node.y0 - margin
                boxes[num, 2] = node.x1 - node.x0 + 1 + 2 * margin
                boxes[num, 3] = node.y1 - node.y0 + 1 + 2 * margin
                downwards = num_cuts - node.end, num_cuts - 1 - node.birth
                first[num], last[num] = (node.birth, node.end - 1) if margin else downwards
                num += 1
    return num


@compiled
def distinct_cuts(thresholds, highest):
    """Return the distinct ``int(t * highest)``, int64 ascending, and the position of each threshold's among them."""
    there, position = np.zeros(256, np.bool_), np.empty(len(thresholds), np.int64)
    for i in range(len(thresholds)):
        position[i] = np.int64(thresholds[i] * highest)
        there[position[i]] = True
    cuts = np.flatnonzero(there)
    place = np.cumsum(there) - 1
    for i in range(len(position)):
        position[i] = place[position[i]]
    return cuts, position


@compiled
def _rank(cuts):
    """Return the number of cuts that each level is above: int32 (256,)."""
    rank, num = np.empty(256, np.int32), 0
    for level in range(256):
        while num < len(cuts) and cuts[num] < level:
            num += 1
        rank[level] = num
    return rank
