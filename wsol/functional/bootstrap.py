"""How far a mean over images may be off: bootstrap intervals.

The percentile interval of Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3: as many images
as there are, N, are drawn from them with replacement, many times over; the interval reaches from the (1 - level) / 2 to
the (1 + level) / 2 quantile of the means so found (between two of them, linearly). It tells what other images of the
same kind could have given; not what another training run could.

Images of equal values are alike to a mean, so only their numbers are drawn: with few distinct values that is one
multinomial draw of a few numbers in place of N images, and exactly the same distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wsol.errors import InputError

_CHUNK = 4_000_000
"""Numbers drawn at a time."""

_MULTINOMIAL_COST = 25
"""What a number of a multinomial costs, in draws of one image (measured); which way is taken changes speed alone."""


class Difference(NamedTuple):
    """How much greater one mean is than another, over the same images."""

    mean: float
    low: float
    high: float


def interval(
    values: ArrayLike, labels: ArrayLike | None = None, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The bootstrap interval of a mean over images.

    Args:
        values: real (N,), one of each image, or (N, S) for S means from the same draws.
        labels: integer (N,) classes, for the mean over classes of each class's mean in place of the mean over images. A
            class of which a draw holds no image is left out of that draw's mean.
        level: in (0, 1), share of draws whose mean lies inside.
        draws: how many.
        seed: of the draws; equal arguments give equal intervals.

    Returns:
        low and high, float64, each () or (S,); NaN for N = 0.

    Raises:
        InputError: lengths differ, or level or draws out of range.

    Example:
        80 of 100 images right:

        >>> low, high = interval(np.repeat([1.0, 0.0], [80, 20]))
        >>> round(float(low), 2), round(float(high), 2)
        (0.72, 0.88)
    """
    if not 0 < level < 1:
        raise InputError(f"level: expected a number in (0, 1) such as 0.95, got {level}")
    if draws < 1:
        raise InputError(f"draws: expected at least 1, got {draws}")
    alike = _alike(np.asarray(values, dtype=np.float64), labels)
    if not len(alike.counts):
        nothing = np.full(np.shape(values)[1:], np.nan)
        return nothing, nothing.copy()
    means = np.concatenate([_means(alike, drawn) for drawn in _drawn(alike.counts, draws, np.random.default_rng(seed))])
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
    """How much greater the mean of ``a`` is than that of ``b``, and its interval: both are drawn with the same images.

    Args:
        a: real (N,), one of each image.
        b: real (N,), of the same images.
        labels: see `interval`, as are the others.
        level: see there.
        draws: see there.
        seed: see there.

    Raises:
        InputError: as there.

    Example:
        The second is wrong wherever the first is, and on three more of 100 images:

        >>> a, b = np.repeat([1.0, 0.0], [80, 20]), np.repeat([1.0, 0.0], [77, 23])
        >>> found = paired_difference(a, b)
        >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2)
        (0.03, 0.0, 0.07)
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(f"expected two values of each image, got arrays of shapes {first.shape} and {second.shape}")
    low, high = interval(first - second, labels, level=level, draws=draws, seed=seed)
    alike = _alike(first - second, labels)
    mean = _means(alike, alike.counts[None])[0, 0] if len(first) else np.nan
    return Difference(float(mean), float(low), float(high))


class _Alike(NamedTuple):
    """The R distinct kinds of image, classes in order."""

    values: np.ndarray
    """float64 (R, S)."""
    counts: np.ndarray
    """int64 (R,) images of each."""
    starts: np.ndarray | None
    """int64 (K,) the first row of each class that occurs; None where classes don't matter."""


def _alike(values: np.ndarray, labels: ArrayLike | None) -> _Alike:
    columns = values.reshape(len(values), int(np.prod(values.shape[1:])))
    if labels is None:
        return _Alike(*_unique(columns), None)
    classes = np.asarray(labels)
    if classes.shape != values.shape[:1]:
        raise InputError(f"expected a label of each of {len(values):,} images, got an array of shape {classes.shape}")
    rows, counts = _unique(np.column_stack([classes, columns]))
    return _Alike(rows[:, 1:], counts, np.unique(rows[:, 0], return_index=True)[1])


def _unique(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of (N, C) in order and how many there are of each."""
    ordered = rows[np.lexsort(rows.T[::-1])]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    return ordered[starts], np.diff(starts, append=len(rows))


def _drawn(counts: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How many images of each kind are in each draw: int64 (some draws, R), until all are given."""
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


def _means(alike: _Alike, drawn: np.ndarray) -> np.ndarray:
    """The mean of each column in each draw: float64 (D, S) from int64 (D, R)."""
    if alike.starts is None:
        found: np.ndarray = drawn @ alike.values / drawn.sum(axis=1, keepdims=True)
        return found
    images = np.add.reduceat(drawn, alike.starts, axis=1)
    present = images > 0
    sums = (np.add.reduceat(drawn * column, alike.starts, axis=1) for column in alike.values.T)
    shares = [np.divide(of, images, out=np.zeros(images.shape), where=present).sum(axis=1) for of in sums]
    means: np.ndarray = np.stack(shares, axis=1) / present.sum(axis=1, keepdims=True)
    return means
