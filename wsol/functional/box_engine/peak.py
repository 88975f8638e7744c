"""The component around a map's peak at each cut, from one flood that starts there.

The peak is the first pixel, in reading order, of the highest fine level. Components are 4-connected, as those of LOST
and TokenCut are. A pixel belongs to the peak's component above all cuts up to the lowest level on the best path between
the two, which the flood finds by always going on from the highest pixel that it has reached.
"""

from __future__ import annotations

import numpy as np

from wsol.functional.box_engine.compiled import compiled

REACHED = 65535


@compiled
def around_peak(levels, rank, num_cuts, ranked, following, out):
    """Fill in the box of the peak's component at each cut.

    Args:
        levels: uint16 (H, W); the upper byte is the level, the lower one orders pixels within it.
        rank: int32 (256,), above how many of the cuts the pixels of each level are.
        num_cuts: how many cuts there are.
        ranked: uint16 (>= H W,) to work in.
        following: uint32 (>= H W + 1,) to work in: chains of pixels to flow on from.
        out: int64 (L, 4) x, y, width, height for each cut; zeros where no pixel is above it.
    """
    height, width = levels.shape
    peak, highest = 0, -1
    for y in range(height):
        for x in range(width):
            ranked[y * width + x] = rank[levels[y, x] >> 8]
            if levels[y, x] > highest:
                peak, highest = y * width + x, int(levels[y, x])
    wet = np.zeros(num_cuts + 1, np.uint32)  # for each rank the first of a chain, positions counted from 1
    wet[ranked[peak]], following[peak + 1] = peak + 1, 0
    ranked[peak] = REACHED
    x0, y0, x1, y1 = width, height, -1, -1
    for value in range(num_cuts, 0, -1):
        while wet[value]:
            position = np.int64(wet[value]) - 1
            wet[value] = following[position + 1]
            y, x = position // width, position % width
            x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x), max(y1, y)
            for side in range(4):
                column, row = x + (side == 0) - (side == 1), y + (side == 2) - (side == 3)
                if 0 <= column < width and 0 <= row < height:
                    q = row * width + column
                    if ranked[q] != REACHED:
                        reached = min(int(ranked[q]), value)
                        following[q + 1], wet[reached] = wet[reached], q + 1
                        ranked[q] = REACHED
        box = out[value - 1]
        box[:] = 0
        if x1 >= 0:
            box[0], box[1], box[2], box[3] = x0, y0, x1 - x0 + 1, y1 - y0 + 1
