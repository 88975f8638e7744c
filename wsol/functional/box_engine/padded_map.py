"""A padded map, the order of its pixels, and the few pixels that can change a box.

**Order.** Sort the pixels of a map by falling value, equal ones in reading order. At any threshold, the foreground is a
prefix of that order. Add one pixel after another: each joins the components of those neighbours that are *earlier*.

**Events.** The earlier neighbours of a pixel form *groups* that are connected around it. A pixel is an *event* if there
is no group (it begins a component) or more than one (it may join components), if neither its left nor its right
neighbour is earlier (a *row peak*), or if neither the upper nor the lower one is (a *column peak*). No other pixel can
change a component's box: it joins a single component, which has a pixel beside it and one above or below it, so the box
already reaches its column and its row. The same holds for the background, whose components have 4 neighbours and add
pixels in the opposite order: there, the "earlier" neighbours are the later ones. A smooth map of 224 x 224 has about
2,000 events of either kind among 50,176 pixels.

Values have 16 bits. Thresholds use the upper 8, the *level*; the order within a level is free. With the next 8 bits of
the map in the lower byte, most plateaus disappear, in which every row would have a peak.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsol.functional.box_engine.compiled import Scratch, compiled

U = np.uint64

LEFT = 8
"""Columns of padding on the left, so that each row begins with a 64-bit word of masks."""


class PaddedMap(NamedTuple):
    """A flattened map with padding: `LEFT` columns on the left and at least one pixel on the other sides.

    A row has ``1 << shift`` pixels: the *position* of a pixel is ``(y + 1 << shift) + x + LEFT``. Neighbours are
    numbered counterclockwise from 0, east; even ones share a side with the pixel. A mask has a bit for each of them.
    """

    height: int
    width: int
    left: int
    shift: np.uint64
    ring: np.ndarray
    """uint64 (8,): the offset from a position to each neighbour's."""
    values: np.ndarray
    """uint16: value + 1; 0 in the padding, which is therefore later than every pixel."""
    earlier: np.ndarray
    """uint8 mask: the neighbours that come earlier in the order of falling values; 255 in the padding."""
    events: np.ndarray
    """uint8: bit 0, event of the foreground's tree; bit 1, event of the background's, set in all padding."""
    labels: np.ndarray
    """uint32: component of each swept event; 0, the outside, in the padding."""


_scratch = Scratch()


def pad(levels: np.ndarray) -> tuple[PaddedMap, float]:
    """Pad a map, compare each pixel with its neighbours, and mark the events of both kinds.

    Args:
        levels: uint16 (H, W).

    Returns:
        The padded map, whose arrays belong to the thread: its next call overwrites them; and the share of the pixels
        that are events of the foreground.
    """
    if levels.shape not in _scratch.kept:
        _scratch.kept = {levels.shape: room_for(levels.shape, _scratch)}
    padded = _scratch.kept[levels.shape]
    return padded, fill(levels, padded) / levels.size


def room_for(shape: tuple[int, int], scratch: Scratch) -> PaddedMap:
    """Return an unfilled padded map of some shape (H, W); its arrays belong to the scratch."""
    height, width = shape
    shift = (width + LEFT).bit_length()
    names = (("values", np.uint16), ("earlier", np.uint8), ("events", np.uint8), ("labels", np.uint32))
    arrays = (scratch.take(name, dtype, (height + 2) << shift) for name, dtype in names)
    return PaddedMap(height, width, LEFT, U(shift), _ring(shift), *arrays)


def _ring(shift: int) -> np.ndarray:
    stride = 1 << shift
    offsets = (1, 1 - stride, -stride, -stride - 1, -1, stride - 1, stride, stride + 1)
    return np.array(offsets, np.int64).astype(U)  # unsigned sums wrap around


@compiled
def fill(levels, padded):
    """Fill in everything except the labels. Returns the number of events of the foreground."""
    height, width = levels.shape
    values, labels, stride = padded.values, padded.labels, np.int64(1 << padded.shift)
    values[:stride] = values[(height + 1) * stride :] = 0
    labels[:stride] = labels[(height + 1) * stride :] = 0
    for y in range(height):
        row = (y + 1) * stride
        begin, end = row + LEFT, row + LEFT + width
        values[row:begin] = values[end : row + stride] = 0
        labels[row:begin] = labels[end : row + stride] = 0
        inside = values[begin:end]
        for x in range(width):
            inside[x] = min(levels[y, x], 65534) + 1  # 65534 and 65535 have the same level
    compare(padded)
    return _mark_events(padded.earlier, padded.events)


@compiled
def compare(padded):
    """Fill in `PaddedMap.earlier`: neighbours of greater value, or of equal value and before it in reading order."""
    values, earlier, width, stride = padded.values, padded.earlier, padded.width, np.int64(1 << padded.shift)
    earlier[:] = 255
    for y in range(padded.height):
        begin = (y + 1) * stride + LEFT
        above = values[begin - stride - 1 : begin - stride + width + 1]
        here = values[begin - 1 : begin + width + 1]
        below = values[begin + stride - 1 : begin + stride + width + 1]
        inside = earlier[begin : begin + width]
        for x in range(width):
            value = here[x + 1]
            inside[x] = (
                np.uint8(here[x + 2] > value)
                | np.uint8(above[x + 2] >= value) << np.uint8(1)
                | np.uint8(above[x + 1] >= value) << np.uint8(2)
                | np.uint8(above[x] >= value) << np.uint8(3)
                | np.uint8(here[x] >= value) << np.uint8(4)
                | np.uint8(below[x] > value) << np.uint8(5)
                | np.uint8(below[x + 1] > value) << np.uint8(6)
                | np.uint8(below[x + 2] > value) << np.uint8(7)
            )


@compiled
def _mark_events(earlier, events):
    """Fill in `PaddedMap.events` from ``earlier``, eight bytes at a time. Returns the number of foreground events."""
    masks, marks, num = earlier.view(U), events.view(U), U(0)
    for i in range(len(masks)):
        above = _is_event(masks[i], True)
        marks[i] = above | _is_event(~masks[i], False) << U(1)
        num += above * U(0x0101010101010101) >> U(56)  # the sum of the bytes
    return num


@compiled
def _is_event(mask, sides_touch):
    """Return 1 for each of eight masks of earlier neighbours if the pixel is an event, else 0."""
    ones, sides = U(0x0101010101010101), U(0x5555555555555555)
    next1 = mask >> U(1) & ~(ones << U(7)) | (mask & ones) << U(7)  # bit k is the neighbour after k
    next2 = next1 >> U(1) & ~(ones << U(7)) | (next1 & ones) << U(7)
    if sides_touch:  # a group begins where a side is absent and one of the next two is there
        begins = ~mask & (next1 | next2) & sides
    else:  # a group ends at a side with a neighbour, unless the next two have one, too
        begins = mask & ~(next1 & next2) & sides
    pairs = (begins & ones * U(17)) + (begins >> U(2) & ones * U(17))
    number = (pairs & ones * U(15)) + (pairs >> U(4) & ones * U(15))
    several = number >> U(1) | number >> U(2)
    no_peak = mask | mask >> U(4) & ones * U(15)  # bit 0: east or west; bit 2: north or south
    return (several | ~no_peak | ~no_peak >> U(2)) & ones
