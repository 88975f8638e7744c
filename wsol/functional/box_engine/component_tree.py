"""The connected components of a map at all thresholds, with their boxes, from one sweep over few of its pixels.

Pixels are added in the order of `wsol.functional.box_engine.padded_map`. A pixel without an earlier neighbour begins a
component; any other pixel joins the component or components of its earlier neighbours, by union-find. This yields the
*component tree* of the foreground (8-connected). In reverse, the same order adds the pixels of the background. There,
neighbours are 4-connected and everything beyond the frame is one component that exists from the start; all other
components are the holes.

Only events are sorted and swept. Adding an event requires the components of its earlier neighbours, which need not be
events.

**The component of a pixel that is not an event.** One of its row neighbours is earlier. That neighbour, unless it is an
event, has an earlier row neighbour too, which lies further away, because the pixel we come from is later. The walk ends
at an event, at the row peak at the latest; all pixels on the way are earlier and connected. The same holds for columns.

The result is a list of *nodes*, one for each box that a component has had. Time counts the cuts in the order in which a
sweep passes them, downwards for the foreground and upwards for the background. Nodes are in order of birth.

Positions and component numbers are unsigned, so numba does not check for negative indices. (numba turns the sum of an
unsigned and a signed integer into a float, so whatever is added to them is unsigned as well.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsol.functional.box_engine.compiled import Scratch, compiled, inlined
from wsol.functional.box_engine.padded_map import PaddedMap

U = np.uint64

NODE = np.dtype(
    [
        ("x0", np.int32),  # the box, both ends inclusive
        ("y0", np.int32),
        ("x1", np.int32),
        ("y1", np.int32),
        ("birth", np.int32),  # its lifetime: from birth ...
        ("end", np.int32),  # ... until just before this
        ("after", np.int32),  # the node that contains it afterwards
        ("top", np.int32),  # position of one of its pixels in row y0
    ]
)
"""A component while its box stays the same."""


class Side(NamedTuple):
    """What a sweep needs to know of the foreground or the background."""

    flag: np.uint8
    """Bit of this side in `PaddedMap.events`."""
    flip: np.uint8
    """Converts `PaddedMap.earlier` to the mask of neighbours already added: 0, or 255 to invert it."""
    adjacent: np.uint8
    """Mask of the neighbours that are directly connected to the pixel: all, or those that share a side."""
    groups: np.ndarray
    """uint8 (256,): the number of groups in each mask."""
    members: np.ndarray
    """uint8 (256, 4): one directly connected neighbour from each group."""


class Work(NamedTuple):
    """Work arrays for a sweep, with space for every pixel."""

    words: np.ndarray
    """uint32: which 64-bit words (eight pixels) contain events."""
    positions: np.ndarray
    """uint32: positions of the events."""
    keys: np.ndarray
    """uint64: value and position of each event."""
    other: np.ndarray
    """uint64."""
    parent: np.ndarray
    """uint32: the component that each component was merged into, or itself."""
    current: np.ndarray
    """uint32: the current node of each component that still exists."""


def _groups(sides_touch: bool, corners_count: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the tables ``groups`` and ``members`` of `Side`.

    Args:
        sides_touch: whether two neighbours that share a side with the pixel are connected across its corner.
        corners_count: whether a neighbour that touches only a corner counts.
    """
    groups, members = np.zeros(256, np.uint8), np.zeros((256, 4), np.uint8)
    for mask in range(256):
        left = [bit for bit in (0, 2, 4, 6, 1, 3, 5, 7) if mask >> bit & 1]
        while left:
            group = [left.pop(0)]
            for bit in group:  # which grows
                steps = (1, 7, 2, 6) if sides_touch and bit % 2 == 0 else (1, 7)
                near = {(bit + step) % 8 for step in steps} & set(left)
                group += near
                left = [other for other in left if other not in near]
            if corners_count or group[0] % 2 == 0:
                members[mask, groups[mask]] = group[0]
                groups[mask] += 1
    return groups, members


GROUPS_8 = _groups(sides_touch=True, corners_count=True)
GROUPS_4 = _groups(sides_touch=False, corners_count=False)
FOREGROUND = Side(np.uint8(1), np.uint8(0), np.uint8(0xFF), *GROUPS_8)
BACKGROUND = Side(np.uint8(2), np.uint8(0xFF), np.uint8(0x55), *GROUPS_4)
LOWEST = np.array([0, *((mask & -mask).bit_length() - 1 for mask in range(1, 256))], np.uint8)
"""The first neighbour in each mask."""
PLACES = np.array([[*(bit for bit in range(8) if mask >> bit & 1), *[0] * 8][:8] for mask in range(256)], np.uint32)
"""The bits of each mask."""
NUMBER = np.array([mask.bit_count() for mask in range(256)], np.uint32)
"""The number of bits of each mask."""

_scratch = Scratch()


def grow(padded: PaddedMap, rank: np.ndarray, num_cuts: int, holes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Find the components of a map at all cuts.

    Args:
        padded: the map.
        rank: int32 (256,), the number of cuts that the pixels of each level are above.
        num_cuts: number of cuts.
        holes: whether to find the background's components too.

    Returns:
        The nodes, `NODE`, of the foreground, and those of the holes (none unless requested), without the foreground
        pixels around them. The arrays belong to the thread: its next call overwrites them.
    """
    work, nodes = work_for(padded.height * padded.width, _scratch)
    num_above, num_below = grow_trees(padded, FOREGROUND, BACKGROUND, rank, num_cuts, holes, work, nodes)
    return nodes[:num_above], nodes[num_above : num_above + num_below]


def work_for(pixels: int, scratch: Scratch) -> tuple[Work, np.ndarray]:
    """Return work arrays for a sweep over that many pixels and the nodes of both trees; they belong to the scratch."""
    dtypes = (np.uint32, np.uint32, U, U, np.uint32, np.uint32)
    arrays = (scratch.take(name, dtype, pixels + 8) for name, dtype in zip(Work._fields, dtypes, strict=True))
    return Work(*arrays), scratch.take("nodes", NODE, 2 * pixels + 16)


@compiled
def grow_trees(padded, foreground, background, rank, num_cuts, holes, work, nodes):
    """Build both trees, or only the foreground's. Returns the number of nodes of each."""
    num_above = _tree(padded, foreground, num_cuts - rank, num_cuts, work, nodes)
    num_below = _tree(padded, background, rank, num_cuts, work, nodes[num_above:]) if holes else np.uint32(0)
    return num_above, num_below


@compiled
def _tree(padded, side, times, num_cuts, work, nodes):
    """Build one tree; ``times`` says when the pixels of each level are added. Returns its number of nodes."""
    keys = work.keys[: _collect(padded, side.flag, work.words, work.positions)]
    _sort(padded.values, work.positions, keys, work.other)
    order = keys if side.flip == 0 else keys[::-1]
    return _sweep(padded, side, times, num_cuts, order, work.parent, work.current, nodes)


@compiled
def _collect(padded, flag, words, positions):
    """Fill in the positions of the events, in reading order. Returns their number."""
    marks, bit, ones = padded.events.view(U), U(flag >> np.uint8(1)), U(0x0101010101010101)
    flags = ones << bit
    found, num = U(0), U(0)
    for y in range(padded.height):
        begin = U(y + 1 << padded.shift) + U(padded.left)
        for i in range(begin >> U(3), begin + U(padded.width + 7) >> U(3)):
            words[found] = i  # overwritten unless it counts
            found += U(marks[i] & flags != U(0))
    in_row, end = (U(1) << padded.shift) - U(1), U(padded.left + padded.width)
    for i in words[:found]:
        begin = U(i) << U(3)
        mask = (marks[i] >> bit & ones) * U(0x0102040810204080) >> U(56)  # bit k: byte k
        if (begin & in_row) + U(8) > end:
            mask &= (U(1) << (end & U(7))) - U(1)  # not the padding
        for k in range(8):  # all eight, those that count first; the next ones go over the others
            positions[num + U(k)] = np.uint32(begin) + PLACES[mask, k]
        num += U(NUMBER[mask])
    return num


@compiled
def _sort(values, positions, keys, other):
    """Fill in keys (32 bits value, 32 bits position) by falling value; equal ones keep the order of the positions."""
    low, high, one, byte = np.zeros(257, np.uint32), np.zeros(257, np.uint32), np.uint32(1), U(255)
    for i in range(len(keys)):
        value = U(values[positions[i]]) - U(1)
        keys[i] = value << U(32) | U(positions[i])
        low[U(256) - (value & byte)] += one
        high[U(256) - (value >> U(8))] += one
    for i in range(256):
        low[i + 1] += low[i]
        high[i + 1] += high[i]
    for key in keys:
        place = byte - (key >> U(32) & byte)
        other[low[place]] = key
        low[place] += one
    for key in other[: len(keys)]:
        place = byte - (key >> U(40))
        keys[high[place]] = key
        high[place] += one


@compiled
def _sweep(padded, side, times, num_cuts, keys, parent, current, nodes):
    """Add events in order and record nodes. Component 0 is the outside; it has no node. Returns the number of nodes."""
    earlier, events, labels, ring = padded.earlier, padded.events, padded.labels, padded.ring
    flag, flip, adjacent, groups, members = side
    stride, one = U(1) << padded.shift, np.uint32(1)
    parent[0] = 0
    components, num = one, np.uint32(0)
    for key in keys:
        p, now = key & U(0xFFFFFFFF), times[key >> U(40)]
        if now >= num_cuts:
            break
        x, y = np.int32(p & (stride - U(1))) - np.int32(padded.left), np.int32(p >> padded.shift) - np.int32(1)
        mask = earlier[p] ^ flip
        if groups[mask] == 0:
            parent[components], current[components], labels[p] = components, num, components
            _open(nodes[num], x, y, x, y, now, num_cuts, p)
            components, num = components + one, num + one
            continue
        near = _marked(events, p, flag, ring) & mask & adjacent if groups[mask] == 1 else np.uint8(0)
        if near:
            label = labels[p + ring[LOWEST[near]]]
        else:
            label = labels[_walk(earlier, events, p, U(members[mask, 0]), flag, flip, ring)]
        root = _find(parent, label)
        for group in range(1, groups[mask]):
            lost = _find(parent, labels[_walk(earlier, events, p, U(members[mask, group]), flag, flip, ring)])
            if lost == root:
                continue
            if lost == 0 or (root != 0 and _extent(nodes[current[lost]]) > _extent(nodes[current[root]])):
                root, lost = lost, root
            parent[lost] = root
            old = nodes[current[lost]]
            old.end = now
            if root != 0:
                num = _extend(nodes, num, current, root, old.x0, old.y0, old.x1, old.y1, now, num_cuts, old.top)
                old.after = current[root]
        labels[p] = root
        if root != 0:
            num = _extend(nodes, num, current, root, x, y, x, y, now, num_cuts, p)
    return num


@inlined
def _marked(events, p, flag, ring):
    """Return the mask of the neighbours that are events."""
    return np.uint8(
        (events[p + ring[0]] & flag != 0)
        | (events[p + ring[1]] & flag != 0) << 1
        | (events[p + ring[2]] & flag != 0) << 2
        | (events[p + ring[3]] & flag != 0) << 3
        | (events[p + ring[4]] & flag != 0) << 4
        | (events[p + ring[5]] & flag != 0) << 5
        | (events[p + ring[6]] & flag != 0) << 6
        | (events[p + ring[7]] & flag != 0) << 7
    )


@inlined
def _walk(earlier, events, p, direction, flag, flip, ring):
    """Return the event that an earlier neighbour leads to, in the same component, walking across our direction."""
    q = p + ring[direction]
    if not events[q] & flag:
        mask = earlier[q] ^ flip
        if direction & U(3):  # not from the same row
            step = ring[0] if mask & np.uint8(1) else ring[4]
        else:
            step = ring[2] if mask & np.uint8(4) else ring[6]
        q += step
        while not events[q] & flag:
            q += step
    return q


@inlined
def _find(parent, component):
    """Return the component that this one was merged into."""
    while parent[component] != component:
        parent[component] = parent[parent[component]]
        component = parent[component]
    return component


@inlined
def _extent(node):
    return (node.x1 - node.x0) * (node.y1 - node.y0)


@inlined
def _open(node, x0, y0, x1, y1, now, num_cuts, top):
    node.x0, node.y0, node.x1, node.y1 = x0, y0, x1, y1
    node.birth, node.end, node.after, node.top = now, num_cuts, -1, top


@inlined
def _extend(nodes, num, current, component, x0, y0, x1, y1, now, num_cuts, top):
    """Extend a component's box to contain another box. Returns the number of nodes."""
    node = nodes[current[component]]
    outside = (x0 < node.x0) | (y0 < node.y0) | (x1 > node.x1) | (y1 > node.y1)
    if outside & (node.birth < now):  # the box so far was there at some cut
        node.end, node.after = now, num
        current[component] = num
        _open(nodes[num], node.x0, node.y0, node.x1, node.y1, now, num_cuts, node.top)
        node = nodes[num]
        num += np.uint32(1)
    node.top = np.int32(top) if y0 < node.y0 else node.top
    node.x0, node.y0 = min(node.x0, x0), min(node.y0, y0)
    node.x1, node.y1 = max(node.x1, x1), max(node.y1, y1)
    return num
