"""Bootstrap intervals: how much a mean over images could vary with another sample of images.

The percentile interval of Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3: sample N of the
N images with replacement, many times, and take the (1 - level) / 2 and (1 + level) / 2 quantiles of the resampled means
(interpolated linearly). The interval covers the variation over images of the same kind, not the variation over training
runs.

Images with equal values are interchangeable, so only their counts are sampled: with few distinct values, one
multinomial sample of a few counts replaces a sample of N images, and its distribution is exactly the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wsol.errors import InputError

_CHUNK = 4_000_000
"""How many numbers are sampled at a time."""

_MULTINOMIAL_COST = 25
"""Measured cost of one multinomial count, relative to sampling one image; affects speed only."""


class Difference(NamedTuple):
    """The difference of two means over the same images."""

    mean: float
    low: float
    high: float


def interval(
    values: ArrayLike, labels: ArrayLike | None = None, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bootstrap interval of a mean over images.

    Args:
        values: real (N,), one per image, or (N, S) for S means over the same resampled images.
        labels: integer (N,) classes, for the mean of the class means instead of the mean over images. A class without
            images in a resample is left out of that resample's mean.
        level: in (0, 1), the confidence level.
        draws: number of resamples.
        seed: seed of the random numbers; equal arguments return equal intervals.

    Returns:
        low and high, float64, each () or (S,); NaN for N = 0.

    Raises:
        InputError: lengths differ, or level or draws is out of range.

    Example:
        80 of 100 images are correct:

        >>> low, high = interval(np.repeat([1.0, 0.0], [80, 20]))
        >>> round(float(low), 2), round(float(high), 2)
        (0.72, 0.88)
    """
    if not 0 < level < 1:
        raise InputError(f"level: expected a number in (0, 1) such as 0.95, got {level}")
    if draws < 1:
        raise InputError(f"draws: expected at least 1, got {draws}")
    grouped = _group(np.asarray(values, dtype=np.float64), labels)
    if not len(grouped.counts):
        nothing = np.full(np.shape(values)[1:], np.nan)
        return nothing, nothing.copy()
    samples = _sample_counts(grouped.counts, draws, np.random.default_rng(seed))
    means = np.concatenate([_means(grouped, counts) for counts in samples])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).reshape(2, *np.shape(values)[1:])
    return low, high


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Return how much greater the mean of ``a`` is than that of ``b``, with its interval; both use the same resamples.

    Args:
        a: real (N,), one per image.
        b: real (N,), for the same images.
        labels: see `interval`.
        level: see `interval`.
        draws: see `interval`.
        seed: see `interval`.

    Raises:
        InputError: see `interval`.

    Example:
        The second is wrong wherever the first is wrong, and on three more of the 100 images:

        >>> a, b = np.repeat([1.0, 0.0], [80, 20]), np.repeat([1.0, 0.0], [77, 23])
        >>> found = paired_difference(a, b)
        >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2)
        (0.03, 0.0, 0.07)
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(f"expected two values per image, got arrays of shapes {first.shape} and {second.shape}")
    low, high = interval(first - second, labels, level=level, draws=draws, seed=seed)
    grouped = _group(first - second, labels)
    mean = _means(grouped, grouped.counts[None])[0, 0] if len(first) else np.nan
    return Difference(float(mean), float(low), float(high))


class _Groups(NamedTuple):
    """The R distinct kinds of image, sorted by class."""

    values: np.ndarray
    """float64 (R, S)."""
    counts: np.ndarray
    """int64 (R,) number of images of each kind."""
    starts: np.ndarray | None
    """int64 (K,) first row of each class that occurs; None where classes do not matter."""


def _group(values: np.ndarray, labels: ArrayLike | None) -> _Groups:
    columns = values.reshape(len(values), int(np.prod(values.shape[1:])))
    if labels is None:
        return _Groups(*_unique(columns), None)
    classes = np.asarray(labels)
    if classes.shape != values.shape[:1]:
        raise InputError(f"expected one label for each of {len(values):,} images, got shape {classes.shape}")
    rows, counts = _unique(np.column_stack([classes, columns]))
    return _Groups(rows[:, 1:], counts, np.unique(rows[:, 0], return_index=True)[1])


def _unique(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows of (N, C), sorted, and their counts."""
    ordered = rows[np.lexsort(rows.T[::-1])]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    return ordered[starts], np.diff(starts, append=len(rows))


def _sample_counts(counts: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the number of images of each kind in each resample: int64 (up to draws, R)."""
    images, kinds = int(counts.sum()), len(counts)
    by_kind = _MULTINOMIAL_COST * kinds <= images
    some = max(1, _CHUNK // (kinds if by_kind else images))
    sizes = [min(some, draws - start) for start in range(0, draws, some)]
    if by_kind:
        yield from (rng.multinomial(images, counts / images, size) for size in sizes)
        return
    kind_of = np.repeat(np.arange(kinds, dtype=np.int32), counts)
    for size in sizes:
        picked = kind_of[rng.integers(images, size=(size, images), dtype=np.int32)]
        of_draw = np.arange(size)[:, None] * kinds
        yield np.bincount((picked + of_draw).ravel(), minlength=size * kinds).reshape(size, kinds)


def _means(grouped: _Groups, counts: np.ndarray) -> np.ndarray:
    """Return the mean of each column in each resample: float64 (D, S) from int64 (D, R)."""
    if grouped.starts is None:
        found: np.ndarray = counts @ grouped.values / counts.sum(axis=1, keepdims=True)
        return found
    images = np.add.reduceat(counts, grouped.starts, axis=1)
    present = images > 0
    sums = (np.add.reduceat(counts * column, grouped.starts, axis=1) for column in grouped.values.T)
    shares = [np.divide(of, images, out=np.zeros(images.shape), where=present).sum(axis=1) for of in sums]
    means: np.ndarray = np.stack(shares, axis=1) / present.sum(axis=1, keepdims=True)
    return means
