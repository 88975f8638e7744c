"""Which component has the contour of largest area, at each cut, mostly without looking at a contour.

``cv2.contourArea`` of an outer contour is that of the polygon through the centres of the component's border pixels,
holes filled in. The contour around a hole never wins: it lies within the outer contour of the component that it is a hole
of, which is at least as large and comes first. Of equal ones OpenCV's first wins, which is that of the component whose
first pixel in reading order comes **last** (OpenCV prepends what it finds).

Between the nodes of `wsol.functional.component_tree` alive at a cut, area decides, and is bounded by

- above, ``(x1 - x0) (y1 - y0)``, the area of the box;
- above, the area that the component, or what it has become part of, is found to have at a later cut;
- below, for the largest, the area that the largest had at an earlier cut: components only grow.

Contours are traced only where more than one node could be the largest. Where nearly everything is a component of its
own, that takes longer than another way (`wsol.functional.component_sizes`): the search gives up when its budget of traced
pixels is spent.
"""

from __future__ import annotations

import numpy as np

from wsol.functional.compiled import Scratch, compiled
from wsol.functional.component_tree import Padded

U = np.uint64

DX, DY = np.array([1, 1, 0, -1, -1, -1, 0, 1]), np.array([0, -1, -1, -1, 0, 1, 1, 1])
"""The eight neighbours, as numbered in `wsol.functional.component_tree.Padded`."""

FARTHEST = 128
"""Cuts that a bound from a later cut may reach ahead."""

_scratch = Scratch()


def largest_contours(nodes: np.ndarray, padded: Padded, cuts: np.ndarray) -> np.ndarray | None:
    """The box around the contour of largest area at each cut.

    Args:
        nodes: the foreground's, from `wsol.functional.component_tree.grow`.
        padded: from there.
        cuts: int64 (L,) ascending.

    Returns:
        int64 (L, 4) x, y, width, height, zeros where no pixel is above the cut; or None: the budget is spent.
    """
    boxes = np.zeros((len(cuts), 4), np.int64)
    work = (_scratch.take(name, np.int64, len(nodes)) for name in ("candidates", "ceiling", "until", "step"))
    lowest = (cuts + 1 << 8) + 1  # in padded.values, of what is above each cut
    found = _search(nodes, padded.values, padded.ring, lowest[::-1], *work, 4 * padded.height * padded.width, boxes[::-1])
    return boxes if found else None


@compiled
def _search(nodes, values, ring, lowest, candidates, ceiling, until, step, budget, boxes):
    """Fill in the box at each time. ``lowest``: value of the lowest pixels added by then. Returns whether all are found."""
    born, num, leader, most = 0, 0, -1, 0  # most: the largest area is at least this
    for now in range(len(lowest)):
        while born < len(nodes) and nodes[born].birth == now:
            candidates[num], until[born], step[born] = born, -1, 4
            num += 1
            born += 1
        leader = _alive(nodes, leader, now)
        for i in range(num):  # what holds for a part of a component holds for the whole
            part = candidates[i]
            whole = _alive(nodes, part, now)
            if whole != part and until[part] > until[whole]:
                until[whole], ceiling[whole], step[whole] = until[part], ceiling[part], step[part]
        num = _keep(candidates, num, nodes, now, most)
        awake, last = 0, -1
        for i in range(num):
            node = candidates[i]
            if until[node] < now or ceiling[node] >= most:
                awake, last = awake + 1, node
        if awake == 1 or leader < 0:
            leader = last
        if awake > 1:
            most, first, steps = _trace(values, ring, U(nodes[leader].top), lowest[now])
            budget -= steps
            for i in range(num):
                node = candidates[i]
                if node == leader or _bound(nodes[node]) < most or (until[node] >= now and ceiling[node] < most):
                    continue
                ahead = min(now + step[node], len(lowest) - 1)
                area, _, steps = _trace(values, ring, U(nodes[node].top), lowest[ahead])
                budget -= steps
                if 0 <= area < most:
                    until[node], ceiling[node], step[node] = ahead, area, min(2 * step[node], FARTHEST)
                    continue
                step[node] = max(step[node] // 2, 1)
                area, start, steps = _trace(values, ring, U(nodes[node].top), lowest[now])
                budget -= steps
                if area > most or (area == most and start > first):
                    leader, most, first = node, area, start
        budget -= num
        if budget < 0:
            return False
        if leader >= 0:
            node = nodes[leader]
            box = boxes[now]
            box[0], box[1], box[2], box[3] = node.x0, node.y0, node.x1 - node.x0 + 1, node.y1 - node.y0 + 1
    return True


@compiled
def _bound(node):
    """Twice the area of the box: no contour in it has more."""
    return 2 * np.int64(node.x1 - node.x0) * np.int64(node.y1 - node.y0)


@compiled
def _alive(nodes, node, now):
    """The node that contains this one now."""
    while node >= 0 and nodes[node].end <= now:
        node = nodes[node].after
    return node


@compiled
def _keep(candidates, num, nodes, now, most):
    """Drop the candidates that are no more, or too small for ever. Returns how many are left."""
    kept = 0
    for i in range(num):
        node = candidates[i]
        if nodes[node].end > now and _bound(nodes[node]) >= most:
            candidates[kept] = node
            kept += 1
    return kept


@compiled
def _trace(values, ring, pixel, lowest):
    """Follow the border above a pixel of a component, counterclockwise.

    Args:
        values: of the padded map.
        ring: offsets of neighbours.
        pixel: its position. Where the pixel above it counts as well, that one's border is followed, and so on.
        lowest: value of the lowest pixels that count.

    Returns:
        Twice the area within the border, negative if it is one around a hole; the first position on it in reading order;
        the number of steps.
    """
    seven, steps = U(7), 0
    while values[pixel + ring[2]] >= lowest:
        pixel += ring[2]
        steps += 1
    begin, begin_direction = pixel, U(3)
    while values[begin + ring[begin_direction & seven]] < lowest:
        begin_direction += U(1)
        if begin_direction > U(9):
            return 0, begin, steps
    first, direction, x, y, area = begin, begin_direction & seven, 0, 0, 0
    begin_direction = direction
    while True:
        dx, dy = DX[direction], DY[direction]
        area += y * dx - x * dy
        x, y, pixel, steps = x + dx, y + dy, pixel + ring[direction], steps + 1
        first = min(first, pixel)
        direction = direction + U(5) & seven
        while values[pixel + ring[direction]] < lowest:
            direction = direction + U(1) & seven
        if pixel == begin and direction == begin_direction:
            return area, first, steps
