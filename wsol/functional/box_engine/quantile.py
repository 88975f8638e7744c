"""Quantiles of a map's values and of its grey levels, the same to the last bit in compiled code and outside of it."""

from __future__ import annotations

import numpy as np

from wsol.functional.box_engine.compiled import compiled


@compiled
def quantile(values, share):
    """Return the quantile of float64 (n,), between two values linearly: `numpy.quantile`, in O(n).

    Args:
        values: float64 (n,), finite, n at least 1.
        share: in [0, 1]; 0 is the least value and 1 the largest.
    """
    place = share * (len(values) - 1)
    below = int(place)
    if below >= len(values) - 1:
        return values.max()
    if place == 0.0:
        return values.min()
    work = values.copy()
    low = _smallest(work, below)
    return _between(low, work[below + 1 :].min(), place - below)


@compiled
def level_quantile(levels, share):
    """Return the quantile of the upper bytes of uint16 (H, W): a float64, between two levels linearly."""
    if share == 1.0:
        return float(levels.max() >> 8)
    counts = np.zeros(256, np.int64)
    for y in range(levels.shape[0]):
        for x in range(levels.shape[1]):
            counts[levels[y, x] >> 8] += 1
    place = share * (levels.size - 1)
    below = int(place)
    level, seen = 0, counts[0]
    while seen <= below:
        level += 1
        seen += counts[level]
    following = level
    if seen <= below + 1 and below + 1 < levels.size:
        following = level + 1
        while counts[following] == 0:
            following += 1
    return _between(float(level), float(following), place - below)


@compiled
def mean(values, pixels):
    """Return the mean over ``pixels`` pixels: float64 (h, w), summed row by row from left to right, and zeros."""
    total = 0.0
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            total += values[y, x]
    return total / pixels


@compiled
def _between(low, high, part):
    """Interpolate between two values, rounded like `numpy.quantile`."""
    return high - (high - low) * (1.0 - part) if part >= 0.5 else low + (high - low) * part


@compiled
def _smallest(values, k):
    """Reorder values so that the k-th smallest, which is returned, comes after smaller ones and before greater ones."""
    first, last = 0, len(values) - 1
    while first < last:
        pivot, i, j = values[(first + last) // 2], first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if k <= j:
            last = j
        elif k >= i:
            first = i
        else:
            break
    return values[k]
