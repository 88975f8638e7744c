"""The largest component at each cut, from one sweep over all pixels that adds up sizes.

Pixels are added in order of falling level as in `wsol.functional.box_engine.padded_map`, and each adds its share to the
size of its component: one pixel, or some area. Twice the area of the polygon through the centres of the border pixels
of a component *without holes* is a sum over all blocks of 2 x 2 pixels: 1 for a block with three pixels in the
component, 2 for a block with all four. So a pixel adds one for each of the four blocks around it in which two or three
of the others were added earlier.

Filling the holes of all components is a flood fill from the border: each pixel is raised to the lowest level at which
water from outside reaches it through side neighbours. The flooded map has no holes, and its components at every cut are
the filled components of the original map that are not inside a hole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsol.functional.box_engine.compiled import Scratch, compiled, inlined
from wsol.functional.box_engine.component_tree import GROUPS_8
from wsol.functional.box_engine.padded_map import PaddedMap, compare, fill

U = np.uint64

PIXELS = np.ones(256, np.uint32)
"""What a pixel adds to the number of pixels, for each mask of earlier neighbours."""

AREA = np.array(
    [sum((mask * 257 >> corner & 7).bit_count() >= 2 for corner in (0, 2, 4, 6)) for mask in range(256)], np.uint32
)
"""What a pixel adds to twice the area, for each mask of earlier neighbours."""


class Sizes(NamedTuple):
    """Work arrays for a sweep, with space for every pixel."""

    ranked: np.ndarray
    """uint16 (H W,): the number of cuts that each pixel is above."""
    following: np.ndarray
    """uint32 (as `PaddedMap.values`): linked lists of pixels still to be flooded."""
    order: np.ndarray
    """uint32: positions in order of falling value."""
    parent: np.ndarray
    """uint32: the component that each component was merged into, or itself."""
    total: np.ndarray
    """uint32: size of each component."""
    begins: np.ndarray
    """uint32: first position of each component in reading order."""
    boxes: np.ndarray
    """int32 (H W, 4): box of each component, both ends inclusive."""
    groups: np.ndarray
    """uint8 (256,); with the next one, (256, 4), see `wsol.functional.box_engine.component_tree.Side`."""
    members: np.ndarray
    pixels: np.ndarray
    """uint32 (256,): `PIXELS`; the next one is `AREA`."""
    area: np.ndarray


def sizes_for(padded: PaddedMap, scratch: Scratch) -> Sizes:
    """Return the arrays for a padded map; they belong to the scratch."""
    pixels = padded.height * padded.width
    names = ("order", "parent", "total", "begins")
    order, parent, total, begins = (scratch.take(name, np.uint32, pixels + 1) for name in names)
    ranked = scratch.take("ranked", np.uint16, pixels)
    following = scratch.take("following", np.uint32, len(padded.values))
    boxes = scratch.take("boxes", np.int32, 4 * pixels).reshape(-1, 4)
    return Sizes(ranked, following, order, parent, total, begins, boxes, *GROUPS_8, PIXELS, AREA)


@compiled
def largest(levels, rank, num_cuts, by_area, padded, sizes, out):
    """Fill in the box of the largest component at each cut.

    Args:
        levels: uint16 (H, W); the upper byte is the level.
        rank: int32 (256,), the number of cuts that the pixels of each level are above.
        num_cuts: number of cuts.
        by_area: True if size is the area inside the outer contour (of equal components, the one that begins last in
            reading order wins); False if it is the number of pixels (the one that begins first wins).
        padded: work space for the map.
        sizes: work arrays.
        out: int64 (L, 4) x, y, width, height for each cut; zeros where no pixel is above the cut.
    """
    ranked = sizes.ranked[: levels.size].reshape(levels.shape)
    for y in range(levels.shape[0]):
        for x in range(levels.shape[1]):
            ranked[y, x] = rank[levels[y, x] >> 8]
    fill(ranked, padded)  # values are now 1 + the number of cuts below
    if by_area:
        _flood(padded, num_cuts, sizes.following)
        compare(padded)
    out[:] = 0
    ends = _sort(padded, num_cuts, sizes.order)
    _sweep(padded, sizes, sizes.area if by_area else sizes.pixels, by_area, ends, out)


@compiled
def _flood(padded, num_cuts, following):
    """Raise each pixel to the lowest value at which water reaches it from outside."""
    values, reached, ring, last = padded.values, padded.earlier, padded.ring, padded.height - 1
    wet = np.zeros(num_cuts + 2, np.uint32)  # for each value, the first of a linked list of pixels to flood from
    for y in range(padded.height):
        begin = (y + 1 << np.int64(padded.shift)) + padded.left
        end = begin + padded.width
        reached[begin:end] = 0
        for p in range(begin, end):
            if y == 0 or y == last or p == begin or p == end - 1:
                reached[p], following[p], wet[values[p]] = 1, wet[values[p]], p
    for value in range(1, num_cuts + 2):
        while wet[value]:
            position = U(wet[value])
            wet[value] = following[position]
            for side in (0, 2, 4, 6):
                q = position + ring[side]
                if not reached[q]:
                    values[q] = max(values[q], value)
                    reached[q], following[q], wet[values[q]] = 1, wet[values[q]], q


@compiled
def _sort(padded, num_cuts, order):
    """Fill in positions by falling value, equal ones in reading order. Returns where each value's pixels end."""
    ends = np.zeros(num_cuts + 2, np.int64)
    for y in range(padded.height):
        begin = (y + 1 << np.int64(padded.shift)) + padded.left
        for value in padded.values[begin : begin + padded.width]:
            ends[num_cuts + 2 - value] += 1
    for i in range(1, num_cuts + 2):
        ends[i] += ends[i - 1]
    for y in range(padded.height):
        begin = (y + 1 << np.int64(padded.shift)) + padded.left
        for p in range(begin, begin + padded.width):
            i = num_cuts + 1 - padded.values[p]
            order[ends[i]] = p
            ends[i] += 1
    return ends


@compiled
def _sweep(padded, sizes, gain, last_wins, ends, out):
    """Add pixels, and fill in the box of the largest component at each cut."""
    order, parent, total, begins, boxes = sizes.order, sizes.parent, sizes.total, sizes.begins, sizes.boxes
    groups, members = sizes.groups, sizes.members
    earlier, labels, ring, stride, one = padded.earlier, padded.labels, padded.ring, U(1) << padded.shift, np.uint32(1)
    components, winner, most, tied, done = np.uint32(0), np.uint32(0), np.int64(-1), False, 0
    for k in range(len(out)):
        for i in range(done, ends[k]):
            p = U(order[i])
            x, y = np.int32(p & (stride - U(1))) - np.int32(padded.left), np.int32(p >> padded.shift) - np.int32(1)
            mask = earlier[p]
            if groups[mask] == 0:
                root, components = components, components + one
                parent[root], total[root], begins[root] = root, 0, p
                boxes[root, 0], boxes[root, 1], boxes[root, 2], boxes[root, 3] = x, y, x, y
            else:
                root = _find(parent, labels[p + ring[members[mask, 0]]])
            for group in range(1, groups[mask]):
                lost = _find(parent, labels[p + ring[members[mask, group]]])
                if lost != root:
                    if total[lost] > total[root]:
                        root, lost = lost, root
                    parent[lost] = root
                    winner = root if winner == lost else winner
                    total[root] += total[lost]
                    begins[root] = min(begins[root], begins[lost])
                    _extend(boxes[root], boxes[lost, 0], boxes[lost, 1], boxes[lost, 2], boxes[lost, 3])
            labels[p] = root
            total[root] += gain[mask]
            begins[root] = min(begins[root], p)
            _extend(boxes[root], x, y, x, y)
            if total[root] > most:
                winner, most, tied = root, np.int64(total[root]), False
            elif total[root] == most and root != winner:
                tied = True
        done = ends[k]
        if tied:
            tied = False
            for other in range(components):
                if parent[other] == other and total[other] == most and other != winner:
                    tied = True
                    if (begins[other] > begins[winner]) == last_wins:
                        winner = np.uint32(other)
        if done:
            box, row = boxes[winner], out[len(out) - 1 - k]
            row[0], row[1], row[2], row[3] = box[0], box[1], box[2] - box[0] + 1, box[3] - box[1] + 1


@inlined
def _find(parent, component):
    """Return the component that this one was merged into."""
    while parent[component] != component:
        parent[component] = parent[parent[component]]
        component = parent[component]
    return component


@inlined
def _extend(box, x0, y0, x1, y1):
    box[0], box[1], box[2], box[3] = min(box[0], x0), min(box[1], y0), max(box[2], x1), max(box[3], y1)
