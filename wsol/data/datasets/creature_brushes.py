"""Drawing functions of `wsol.data.datasets.creatures`, in NumPy only: noise, patterns, ellipses with soft edges.

A canvas is float32 (3, S, S) RGB in [0, 1] (values may leave that range until the end) and is painted in place. Parts
are drawn in their own *object frame*: u along their axis and v across it, both 0 at their centre and 1 at their length.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

PATTERNS = (
    lambda u, v: np.sin(u),
    lambda u, v: np.sin(v),
    lambda u, v: np.sin(0.7 * (u + v)),
    lambda u, v: 1.6 * np.sin(u) * np.sin(v),
    lambda u, v: np.sin(np.hypot(u, v)),
    lambda u, v: np.sin(u + 1.5 * np.sin(v)),
    lambda u, v: np.sin(u) + np.sin(v),
    lambda u, v: np.sin(2 * u) * np.sign(np.sin(v)),
)
"""Stripes across, along and diagonal, checks, rings, waves, dots, bricks: about [-1, 1] over phases u and v."""


@dataclass(frozen=True)
class Frame:
    """The object frame of a part: its place on the canvas."""

    centre: tuple[float, float]
    """x, y of its centre, pixels."""
    angle: float
    """Angle from the canvas's x axis to the part's axis, radians."""
    length: float
    """Pixels per unit of u and v."""

    def window(self, reach: float, size: int) -> tuple[slice, slice]:
        """Rows and columns of a ``size`` x ``size`` canvas within ``reach`` units of the centre; at least one each."""

        def span(at: float) -> slice:
            """Return the pixels within reach of a coordinate, at least one."""
            start = min(max(int(at - reach * self.length), 0), size - 1)
            return slice(start, min(max(int(at + reach * self.length) + 2, start + 1), size))

        return span(self.centre[1]), span(self.centre[0])

    def coordinates(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """Return u and v at the pixel centres of a window: float32 (h, w) each."""
        rows, columns = window
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - self.centre[1])[:, None] / self.length
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - self.centre[0])[None] / self.length
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        return x * cos + y * sin, y * cos - x * sin


def noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth coloured noise: random values on a grid, linear between them. float32 (3, size, size) in [0, 1]."""
    grid = rng.random((3, cells + 1, cells + 1), dtype=np.float32)
    at = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(cells / size)
    cell = at.astype(int)
    share = at - cell
    rows = grid[:, cell] * (1 - share)[:, None] + grid[:, cell + 1] * share[:, None]
    return rows[..., cell] * (1 - share) + rows[..., cell + 1] * share


def pattern(kind: int, u: np.ndarray, v: np.ndarray, frequency: float, phase: float) -> np.ndarray:
    """Return a pattern with sharp but not jagged edges: float32 of u's shape in [0, 1].

    Args:
        kind: which of `PATTERNS`.
        u: along the thing, in its units.
        v: across it.
        frequency: radians per unit.
        phase: where it starts, radians.
    """
    waves = PATTERNS[kind](u * np.float32(frequency) + np.float32(phase), v * np.float32(frequency) + np.float32(phase))
    return 1 / (1 + np.exp(-4 * waves))


def ellipse(u: np.ndarray, v: np.ndarray, centre: float, along: float, across: float, softness: float) -> np.ndarray:
    """Return how much an ellipse covers each pixel: float32 of u's shape, 1 inside, 0 outside.

    Args:
        u: along the thing, in its units.
        v: across it.
        centre: position of the ellipse on the axis.
        along: its half-axis in u.
        across: its half-axis in v.
        softness: width of the edge; one pixel is 1 / length.
    """
    radius = np.hypot((u - np.float32(centre)) / np.float32(along), v / np.float32(across))
    distance = (radius - 1) * np.float32(min(along, across))
    return np.clip(0.5 - distance / np.float32(softness), 0, 1)


def paint(canvas: np.ndarray, window: tuple[slice, slice], cover: np.ndarray, colour: np.ndarray) -> None:
    """Lay a colour over part of the canvas, as much as ``cover`` says.

    Args:
        canvas: float32 (3, S, S), changed.
        window: rows and columns of the canvas.
        cover: float32 (h, w) in [0, 1].
        colour: float32 (3, h, w) or (3, 1, 1).
    """
    below = canvas[:, *window]
    below += cover * (colour - below)


def two_tone(share: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mix two colours (3,) by a pattern (h, w): float32 (3, h, w), ``first`` where the pattern is 1."""
    return second[:, None, None] + share * (first - second)[:, None, None]


def rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """Return a colour as float32 (3,) RGB; hues repeat with period 1."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)
