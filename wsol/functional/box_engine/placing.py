"""From a class map to the grey levels of its frame, in compiled code: resizing, scaling, levels.

The result equals `wsol.functional.maps.place` followed by `wsol.functional.boxes.fine_levels`, to the last bit.

**Resizing.** OpenCV resizes rows first and columns afterwards: each pixel of the frame is a weighted sum of 4 (cubic)
neighbouring cells of one row, then of 4 of these sums in a column. Cells beyond the map's edge repeat the edge. The
weights depend only on the sizes and are float32; the sums are float64. OpenCV adds in this order on every processor, so
the results are equal. Its *linear* resize of float64 maps is different (on some processors, Intel's library computes
it): such maps arrive here already resized, with ``TAKEN`` in place of weights.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from wsol.functional.box_engine.compiled import compiled
from wsol.functional.box_engine.quantile import mean, quantile

BY_MAXIMUM, BY_QUANTILES, AS_IT_IS = 0, 1, 2
SCALINGS = {
    "max": BY_MAXIMUM,
    "minmax": BY_QUANTILES,
    "quantiles": BY_QUANTILES,
    "clip": AS_IT_IS,
    "none": AS_IT_IS,
}
"""Codes of `wsol.functional.maps.SCALINGS`; maps that are already scaled are not scaled again."""

LARGEST = 1e300
"""Maps with values beyond this, or values that are not finite, are left to `wsol.functional.maps`."""


class Axis(NamedTuple):
    """Where the pixels along one side of a frame take their values from."""

    cells: np.ndarray
    """int64 (n, 4): cells of the map for each pixel that shows it."""
    weights: np.ndarray
    """float64 (n, 4)."""
    begin: int
    """First pixel of the frame that shows the map."""
    frame: int
    """Length of the frame's side."""


class Placing(NamedTuple):
    """How a map is processed before it is cut into levels."""

    columns: Axis
    rows: Axis
    resized: bool
    """Whether maps come resized already; then the first of each four ``cells`` is the pixel to take."""
    scaling: int
    """See `SCALINGS`; everything is clipped to [0, 1] in the end."""
    low: float
    """The quantile that becomes 0, for `BY_QUANTILES`; ..."""
    high: float
    """... and that which becomes 1."""
    thresholds: np.ndarray
    """float64 (G,): values are cut at these into as many levels, for thresholds of kind ``one`` and ``mean``; else
    empty."""
    of_mean: bool
    """Whether ``thresholds`` are parts of the frame's mean."""


@lru_cache(512)
def axis(cells: int, size: int, begin: int, frame: int, resized: bool) -> Axis:
    """Return the part of a resized map that a frame shows, along one side.

    Args:
        cells: length of the map's side.
        size: the side after resizing.
        begin: the pixel of the frame where the resized map begins; may be negative.
        frame: length of the frame's side.
        resized: whether the map's side already has ``size`` pixels.
    """
    shown = np.arange(max(-begin, 0), min(frame - begin, size))
    if resized:
        found, weights = np.repeat(shown[:, None], 4, axis=1), np.zeros((len(shown), 4))
    else:
        found, weights = _cubic(cells, size)
        found, weights = found[shown], weights[shown]
    return Axis(np.ascontiguousarray(found), np.ascontiguousarray(weights), max(begin, 0), frame)


def _cubic(cells: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells and weights of OpenCV's cubic interpolation: int64 (size, 4), float64 (size, 4)."""
    one, a = np.float32(1), np.float32(-0.75)
    place = ((np.arange(size) + 0.5) * (1.0 / (size / cells)) - 0.5).astype(np.float32)
    cell = np.floor(place).astype(np.int64)
    x = place - cell.astype(np.float32)
    y = one - x
    first = ((a * (x + one) - np.float32(5) * a) * (x + one) + np.float32(8) * a) * (x + one) - np.float32(4) * a
    second = ((a + np.float32(2)) * x - (a + np.float32(3))) * x * x + one
    third = ((a + np.float32(2)) * y - (a + np.float32(3))) * y * y + one
    weights = np.stack([first, second, third, one - first - second - third], axis=1)
    return np.clip(cell[:, None] + np.arange(-1, 3), 0, cells - 1), weights.astype(np.float64)


@compiled
def place_levels(score_map, placing, row_sums, values, levels):
    """Fill in the levels of a map's frame.

    Args:
        score_map: float64 (h, w).
        placing: see `Placing`.
        row_sums: float64 (>= h * W,) work space.
        values: float64 (>= H * W,) work space.
        levels: uint16 (H, W); the upper byte is the level.

    Returns:
        Whether this was possible; see `LARGEST`.
    """
    for y in range(score_map.shape[0]):
        for x in range(score_map.shape[1]):
            if not abs(score_map[y, x]) < LARGEST:
                return False
    columns, rows = placing.columns, placing.rows
    shown = values[: len(rows.cells) * len(columns.cells)].reshape(len(rows.cells), len(columns.cells))
    if placing.resized:
        _take(score_map, columns.cells, rows.cells, shown)
    else:
        _resize(score_map, columns, rows, row_sums, shown)
    low, peak = _scale(shown, placing)
    top, left = rows.begin, columns.begin
    if len(shown) < levels.shape[0] or shown.shape[1] < levels.shape[1] or not peak > 0:
        levels[:] = 0
    if peak > 0:
        if len(placing.thresholds):
            _cut_at(shown, low, peak, placing, levels, top, left)
        else:
            _cut(shown, low, peak, levels, top, left)
    return True


@compiled
def _scale(shown, placing):
    """Return the value that becomes 0, and how far above it the value lies that becomes 1."""
    if placing.scaling == AS_IT_IS:
        return 0.0, 1.0
    least, greatest = _range(shown)
    if placing.scaling == BY_MAXIMUM:
        return 0.0, greatest
    low, high = least, greatest
    if placing.low > 0.0 or placing.high < 1.0:
        flat = shown.ravel()
        low, high = quantile(flat, placing.low), quantile(flat, placing.high)
    return low, high - low


@compiled
def _take(score_map, columns, rows, out):
    for y in range(len(rows)):
        source, row, left = score_map[rows[y, 0]], out[y], columns[0, 0]
        for x in range(len(row)):
            row[x] = source[left + x]


@compiled
def _resize(score_map, columns, rows, row_sums, out):
    """Resize rows first, columns afterwards, as OpenCV does."""
    width = len(columns.cells)
    cells, weights = columns.cells, columns.weights
    sums = row_sums[: score_map.shape[0] * width].reshape(score_map.shape[0], width)
    for y in range(score_map.shape[0]):
        source, row = score_map[y], sums[y]
        for x in range(width):
            row[x] = (
                source[cells[x, 0]] * weights[x, 0]
                + source[cells[x, 1]] * weights[x, 1]
                + source[cells[x, 2]] * weights[x, 2]
                + source[cells[x, 3]] * weights[x, 3]
            )
    cells, weights = rows.cells, rows.weights
    for y in range(len(cells)):
        a, b, c, d = sums[cells[y, 0]], sums[cells[y, 1]], sums[cells[y, 2]], sums[cells[y, 3]]
        in_a, in_b, in_c, in_d = weights[y, 0], weights[y, 1], weights[y, 2], weights[y, 3]
        row = out[y]
        for x in range(width):
            row[x] = a[x] * in_a + b[x] * in_b + c[x] * in_c + d[x] * in_d


@compiled
def _range(values):
    """Return the least and the largest value; column by column first, which the processor vectorizes."""
    least, greatest = values[0].copy(), values[0].copy()
    for y in range(1, values.shape[0]):
        row = values[y]
        for x in range(len(row)):
            least[x] = row[x] if row[x] < least[x] else least[x]
            greatest[x] = row[x] if row[x] > greatest[x] else greatest[x]
    return least.min(), greatest.max()


@compiled
def _cut(values, low, peak, levels, top, left):
    """Fill in 256 times as many levels as thresholds use, as `wsol.functional.boxes.fine_levels` does."""
    for y in range(values.shape[0]):
        source, row = values[y], levels[top + y][left : left + values.shape[1]]
        for x in range(len(source)):
            row[x] = np.uint16(np.int32(min(max(source[x] - low, 0.0) / peak, 1.0) * 65280.0))


@compiled
def _cut_at(values, low, peak, placing, levels, top, left):
    """Return the number of thresholds below each value, in the upper byte; the lower one marks the highest pixel."""
    height, width = values.shape
    for y in range(height):
        source = values[y]
        for x in range(width):
            source[x] = min(max(source[x] - low, 0.0) / peak, 1.0)
    edges = placing.thresholds * (mean(values, levels.size) if placing.of_mean else 1.0)
    greatest, highest_y, highest_x = 0.0, 0, 0
    for y in range(height):
        source, row = values[y], levels[top + y][left : left + width]
        if len(edges) == 1:
            for x in range(width):
                row[x] = np.uint16(source[x] > edges[0]) << 8
        else:
            for x in range(width):
                row[x] = np.uint16(np.searchsorted(edges, source[x]) << 8)
        most = 0.0
        for x in range(width):
            most = max(most, source[x])
        if most > greatest:
            greatest, highest_y, highest_x = most, top + y, left + np.argmax(source)
    if greatest > 0.0:
        levels[highest_y, highest_x] += np.uint16(1)
