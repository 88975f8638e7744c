"""Boxes from their definitions: flood fills in plain Python, slow and without OpenCV."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

Region = list[tuple[int, int]]

FOUR = [(-1, 0), (0, -1), (0, 1), (1, 0)]
EIGHT = [*FOUR, (-1, -1), (-1, 1), (1, -1), (1, 1)]


def regions(binary: np.ndarray, neighbours: list[tuple[int, int]]) -> Iterator[Region]:
    """Connected regions of True as lists of (y, x), in reading order of their first pixels."""
    height, width = binary.shape
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(binary), strict=True)}
    for start in itertools.product(range(height), range(width)):
        if start in left:
            left.discard(start)
            region, stack = [start], [start]
            while stack:
                y, x = stack.pop()
                for dy, dx in neighbours:
                    if (y + dy, x + dx) in left:
                        left.discard((y + dy, x + dx))
                        region.append((y + dy, x + dx))
                        stack.append((y + dy, x + dx))
            yield region


def box(region: Region, grow: int = 0) -> tuple[int, int, int, int]:
    ys, xs = [y for y, _ in region], [x for _, x in region]
    return (
        min(xs) - grow,
        min(ys) - grow,
        max(xs) - min(xs) + 1 + 2 * grow,
        max(ys) - min(ys) + 1 + 2 * grow,
    )


def holes(binary: np.ndarray) -> Iterator[Region]:
    height, width = binary.shape
    for region in regions(~binary, FOUR):
        if all(0 < y < height - 1 and 0 < x < width - 1 for y, x in region):
            yield region


def all_contours(binary: np.ndarray, levels: np.ndarray | None = None) -> list[tuple[int, int, int, int]]:
    return [box(r) for r in regions(binary, EIGHT)] + [box(r, grow=1) for r in holes(binary)]


def largest_pixels(binary: np.ndarray, levels: np.ndarray) -> list[tuple[int, int, int, int]]:
    return [box(r) for r in sorted(regions(binary, EIGHT), key=len, reverse=True)[:1]]  # a stable sort


def largest_contour(binary: np.ndarray, levels: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The polygon's area through pixel centres is a sum over 2x2 blocks; of ties the region that begins last wins."""
    filled = binary.copy()
    for region in holes(binary):
        for y, x in region:
            filled[y, x] = True
    best, best_area = None, -1
    for region in regions(filled, EIGHT):
        inside = set(region)
        blocks = {(y - dy, x - dx) for y, x in region for dy in (0, 1) for dx in (0, 1)}
        counts = [sum((y + dy, x + dx) in inside for dy in (0, 1) for dx in (0, 1)) for y, x in blocks]
        area = sum({3: 1, 4: 2}.get(count, 0) for count in counts)
        if area >= best_area:
            best, best_area = region, area
    return [box(best)] if best else []


def peak(binary: np.ndarray, levels: np.ndarray) -> list[tuple[int, int, int, int]]:
    flat = levels.ravel().tolist()
    top = divmod(flat.index(max(flat)), levels.shape[1])
    return [box(region) for region in regions(binary, FOUR) if top in region]


SLOW = {
    "largest_pixels": largest_pixels,
    "largest_contour": largest_contour,
    "all_contours": all_contours,
    "peak": peak,
}
