"""Which component has the contour of largest area at each cut, usually without tracing any contour.

``cv2.contourArea`` of an outer contour is the area of the polygon through the centres of the component's border pixels,
with holes filled. The contour around a hole never wins: it is inside the outer contour of its component, which is at
least as large and comes first. Of equal contours OpenCV's first wins, which belongs to the component whose first pixel
in reading order comes **last** (OpenCV prepends each contour that it finds).

The search looks for the node of largest area among the nodes of `wsol.functional.box_engine.component_tree` that are
alive at a cut. Areas are bounded

- above by the area of the box, ``(x1 - x0) (y1 - y0)``;
- above by the area that the component, or the one it was merged into, has at a later cut;
- below, for the largest, by the area of the largest at an earlier cut: components only grow.

Contours are traced only where more than one node may be the largest. A tie counts as such, so each trace also records
the position in reading order. Where nearly every pixel is a component of its own, this takes longer than adding up all
areas (`wsol.functional.box_engine.component_sizes`): the search gives up when its budget of steps is spent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsol.functional.box_engine.compiled import compiled

U = np.uint64

DX, DY = np.array([1, 1, 0, -1, -1, -1, 0, 1]), np.array([0, -1, -1, -1, 0, 1, 1, 1])
"""Steps to the eight neighbours, as numbered in `wsol.functional.box_engine.padded_map.PaddedMap`."""

FARTHEST = 128
"""Maximum number of cuts to look ahead for an area."""

STEPS_A_PIXEL = 4
"""Budget of steps per pixel of the map."""


class Bounds(NamedTuple):
    """Bounds of the area of each node, int64."""

    ceiling: np.ndarray
    """Twice the area is at most this ..."""
    until: np.ndarray
    """... up to and including this time, for the node itself and for the node that contains it then."""
    ahead: np.ndarray
    """How many cuts to look ahead next."""


@compiled
def largest_contours(nodes, values, ring, lowest, candidates, bounds, budget, boxes):
    """Fill in the box around the contour of largest area at each time.

    Args:
        nodes: the foreground's nodes, see `wsol.functional.box_engine.component_tree.grow_trees`.
        values: of the padded map.
        ring: of the padded map.
        lowest: int64 (L,) the lowest value present at each time.
        candidates: int64, space for every node.
        bounds: space for every node.
        budget: number of steps, see `STEPS_A_PIXEL`.
        boxes: int64 (L, 4) x, y, width, height; unchanged where there is no component.

    Returns:
        Whether the budget sufficed.
    """
    born, num, leader, most = 0, 0, -1, 0  # twice the area of the largest is `most` or more, from now on
    for now in range(len(lowest)):
        while born < len(nodes) and nodes[born].birth == now:
            candidates[num], bounds.until[born], bounds.ahead[born] = born, -1, 4
            born, num = born + 1, num + 1
        leader = _alive(nodes, leader, now)
        num, awake, last = _renew(nodes, candidates, num, bounds, now, most)
        if awake == 1 or leader < 0:
            leader = last
        if awake > 1:
            top = candidates[:num]
            leader, most, steps = _compare(nodes, values, ring, lowest, top, bounds, now, leader, most)
            budget -= steps
        budget -= num
        if budget < 0:
            return False
        if leader >= 0:
            node, box = nodes[leader], boxes[now]
            box[0], box[1], box[2], box[3] = node.x0, node.y0, node.x1 - node.x0 + 1, node.y1 - node.y0 + 1
    return True


@compiled
def _renew(nodes, candidates, num, bounds, now, most):
    """Drop candidates that ended or stay too small. Returns how many remain, how many may lead, and one of these."""
    for part in candidates[:num]:
        whole = _alive(nodes, part, now)
        if whole != part and bounds.until[part] > bounds.until[whole]:
            bounds.until[whole], bounds.ceiling[whole] = bounds.until[part], bounds.ceiling[part]
            bounds.ahead[whole] = bounds.ahead[part]
    kept, awake, last = 0, 0, -1
    for node in candidates[:num]:
        if nodes[node].end > now and _box_area(nodes[node]) >= most:
            candidates[kept] = node
            kept += 1
            if bounds.until[node] < now or bounds.ceiling[node] >= most:
                awake, last = awake + 1, node
    return kept, awake, last


@compiled
def _compare(nodes, values, ring, lowest, candidates, bounds, now, leader, most):
    """Find the largest by tracing. Returns it, twice its area and the number of steps."""
    most, first, total = _trace(values, ring, U(nodes[leader].top), lowest[now])
    for node in candidates:
        if node == leader or _box_area(nodes[node]) < most:
            continue
        if bounds.until[node] >= now and bounds.ceiling[node] < most:
            continue
        then, top = min(now + bounds.ahead[node], len(lowest) - 1), U(nodes[node].top)
        area, _, steps = _trace(values, ring, top, lowest[then])
        total += steps
        if 0 <= area < most:
            bounds.until[node], bounds.ceiling[node] = then, area
            bounds.ahead[node] = min(2 * bounds.ahead[node], FARTHEST)
            continue
        bounds.ahead[node] = max(bounds.ahead[node] // 2, 1)
        area, begin, steps = _trace(values, ring, top, lowest[now])
        total += steps
        if area > most or (area == most and begin > first):
            leader, most, first = node, area, begin
    return leader, most, total


@compiled
def _box_area(node):
    """Return twice the area of the box: no contour inside it has more."""
    return 2 * np.int64(node.x1 - node.x0) * np.int64(node.y1 - node.y0)


@compiled
def _alive(nodes, node, now):
    """Return the node that contains this one now."""
    while node >= 0 and nodes[node].end <= now:
        node = nodes[node].after
    return node


@compiled
def _trace(values, ring, pixel, lowest):
    """Follow the border above a pixel, counterclockwise.

    Args:
        values: of the padded map.
        ring: of the padded map.
        pixel: its position. If the pixel above it counts as well, that one is taken, and so on.
        lowest: the lowest value that counts.

    Returns:
        Twice the area within the border, negative for the border of a hole; the first position on it in reading order;
        the number of steps.
    """
    seven, steps = U(7), 1
    while values[pixel + ring[2]] >= lowest:
        pixel, steps = pixel + ring[2], steps + 1
    start, direction = pixel, U(3)
    while values[pixel + ring[direction & seven]] < lowest:
        direction += U(1)
        if direction == U(10):  # all around
            return 0, pixel, steps
    direction &= seven
    first, first_direction, y, area = pixel, direction, 0, 0
    while True:
        dx, dy = DX[direction], DY[direction]
        area += (2 * y + dy) * dx
        y, pixel, steps = y + dy, pixel + ring[direction], steps + 1
        first = min(first, pixel)
        direction = direction + seven - (direction & U(1)) & seven  # the preceding pixels are known to be lower
        while values[pixel + ring[direction]] < lowest:
            direction = direction + U(1) & seven
        if pixel == start and direction == first_direction:
            return area, first, steps
