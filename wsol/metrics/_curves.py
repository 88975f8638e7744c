"""Box accuracy at every threshold of a protocol, and the choice of a threshold.

An image is correct GT-known where the box from the map of its ground-truth class is correct. It is correct top-k where
the ground-truth class is also among the k predicted classes. A top-k localization requires that one predicted class is
the ground-truth class and that *the box of that class* is correct: this is again the box of the ground-truth class, so
one row of bits per image is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wsol.errors import InputError
from wsol.functional.protocol_fields import ORIGINS
from wsol.protocols import LocalizationProtocol

_CHUNK = 4096

Guesses = Sequence[tuple[int, int]]
"""The guesses of a top-k error: ranks of the class and of its box, from 0."""


class Curves(NamedTuple):
    """Whether each image is correct at each of I overlaps and G thresholds."""

    thresholds: np.ndarray | None
    """float64 (G,) ascending; None for predictions without a threshold."""
    ious: tuple[float, ...]
    """The I overlaps (IoU thresholds)."""
    positions: np.ndarray
    """int64 (N,) positions of the evaluated images in their split, ascending."""
    packed: np.ndarray
    """uint8 (N, ceil(I G / 8)) one bit for each overlap and threshold, row by row; see ``topk_apart``."""
    num_thresholds: int
    """G."""
    ranks: np.ndarray | None = None
    """int32 (N,) rank of each ground-truth class."""
    labels: np.ndarray | None = None
    """int32 (N,) ground-truth classes if accuracy is the mean over classes; None if it is the mean over images."""
    topk: tuple[int, ...] = ()
    guesses: tuple[Guesses, ...] = ()
    """For each of ``topk``."""
    topk_apart: bool = False
    """Whether ``packed`` has I more rows: GT-known is correct by the first I, top-k by the last."""
    given: bool = False
    """Whether the network gives the boxes itself, so that no threshold makes them, not even a fixed one."""

    @property
    def images(self) -> int:
        """Number of evaluated images."""
        return len(self.packed)

    @property
    def gt_known(self) -> np.ndarray:
        """GT-known accuracy, float64 (I, G), percent; NaN if there are no images."""
        return self.accuracy("gt_known")

    def names(self) -> tuple[str, ...]:
        """Return names of the accuracies: ``gt_known``, ``top1``, ..."""
        return ("gt_known", *(f"top{k}" for k in self.topk))

    def accuracy(self, name: str) -> np.ndarray:
        """Return accuracy float64 (I, G), percent, by one of `names`; NaN if there are no images."""
        packed = self._packed(name)
        if not self.images:
            return np.full((len(self.ious), self.num_thresholds), np.nan)
        if self.labels is None:
            return self._count(packed) * 100.0 / self.images
        shares = [
            self._count(packed[of]) / of.sum() for of in (self.labels == label for label in np.unique(self.labels))
        ]
        found: np.ndarray = np.mean(shares, axis=0) * 100.0
        return found

    def best(self) -> np.ndarray:
        """Return int64 (I,) the threshold of highest GT-known accuracy for each overlap; the lowest if equal."""
        found: np.ndarray = self.gt_known.argmax(axis=1)
        return found

    def correct(self, name: str, thresholds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the share of the overlaps at which each image is correct: float64 (N,).

        Args:
            name: one of `names`.
            thresholds: I columns, the threshold for each overlap.
        """
        found: np.ndarray = np.mean([self.at(i, int(column), name) for i, column in enumerate(thresholds)], axis=0)
        return found

    def at(self, overlap: int, column: int, name: str = "gt_known") -> np.ndarray:
        """Return whether each image is correct at one overlap and threshold: bool (N,)."""
        bit = overlap * self.num_thresholds + column
        return (self._packed(name)[:, bit // 8] >> (7 - bit % 8) & 1).astype(bool)

    def per_class(self, name: str, thresholds: Sequence[int] | np.ndarray, labels: np.ndarray) -> dict[int, float]:
        """Return the accuracy of each class in percent, by class.

        Args:
            name: one of `names`.
            thresholds: I columns, the threshold for each overlap.
            labels: integer, for all images of the split.
        """
        correct, of = self.correct(name, thresholds), np.asarray(labels)[self.positions]
        return {int(label): 100.0 * float(correct[of == label].mean()) for label in np.unique(of)}

    def error(self, name: str, thresholds: Sequence[int] | np.ndarray) -> float | None:
        """Return the error in percent, averaged over the overlaps, each at its own threshold; None without images."""
        if not self.images:
            return None
        accuracy = self.accuracy(name)[np.arange(len(self.ious)), thresholds]
        return float(np.mean(100.0 - accuracy))

    def _packed(self, name: str) -> np.ndarray:
        """Return the bits of ``name``; for top-k, they are cleared where no guess is the ground-truth class."""
        if name == "gt_known":
            return self._half(0) if self.topk_apart else self.packed
        if self.ranks is None:
            raise InputError(f"topk={list(self.topk)} needs ranks; pass them or set topk=[]")
        packed = self._half(1) if self.topk_apart else self.packed
        guesses = dict(zip(self.names()[1:], self.guesses, strict=True))[name]
        if all(column == 0 for _, column in guesses):
            named = np.isin(self.ranks, [rank for rank, _ in guesses])
            return packed * named[:, None]
        bits = np.unpackbits(packed, axis=1, count=len(self.ious) * self.num_thresholds)
        bits = bits.reshape(self.images, len(self.ious), self.num_thresholds)
        right = np.zeros_like(bits)
        for rank, column in guesses:
            right |= (bits[:, :, column] & (self.ranks == rank)[:, None])[:, :, None]
        return np.packbits(right.reshape(self.images, -1), axis=1)

    def _half(self, which: int) -> np.ndarray:
        """Return the first (0) or the last (1) I rows of bits."""
        size = len(self.ious) * self.num_thresholds
        bits = np.unpackbits(self.packed, axis=1, count=2 * size)
        return np.packbits(bits[:, which * size : (which + 1) * size], axis=1)

    def _count(self, packed: np.ndarray) -> np.ndarray:
        """Count correct images at each overlap and threshold, int64 (I, G), in chunks of a few thousand."""
        total = np.zeros(len(self.ious) * self.num_thresholds, dtype=np.int64)
        for start in range(0, len(packed), _CHUNK):
            some = np.unpackbits(packed[start : start + _CHUNK], axis=1, count=len(total))
            total += some.sum(axis=0, dtype=np.int64)
        return total.reshape(len(self.ious), self.num_thresholds)


def choose_thresholds(
    protocol: LocalizationProtocol,
    evaluated: Curves,
    fullsup: Curves | None = None,
    origins: Sequence[str] | None = None,
    pseudo: Curves | None = None,
) -> dict[str, np.ndarray]:
    """Choose the threshold for each overlap: its position, int64 (I,), by the threshold's origin.

    ``oracle`` takes the threshold of highest GT-known accuracy on the evaluated split (of equal ones the lowest),
    ``fullsup`` that on the train-fullsup split, ``pseudo`` that on the val split with pseudo boxes, and
    ``fixed`` the protocol's constant. Predictions without threshold are ``fixed`` where the protocol's are (ranked
    boxes), else of origin ``none``; so are boxes that a network gives.
    """
    first = np.zeros(len(evaluated.ious), dtype=np.int64)
    wanted = protocol.origins if origins is None else origins
    if pseudo is not None and protocol.chooses and origins is None:
        wanted = [origin for origin in ORIGINS if origin in {*wanted, "pseudo"}]
    if evaluated.thresholds is None:
        return {"fixed" if "fixed" in wanted and not evaluated.given else "none": first}
    positions: dict[str, np.ndarray] = {"oracle": evaluated.best()}
    for origin, curves in (("fullsup", fullsup), ("pseudo", pseudo)):
        if curves is not None:
            if not np.array_equal(evaluated.thresholds, [] if curves.thresholds is None else curves.thresholds):
                raise InputError(f"the curves of the evaluated split and of origin {origin} have different thresholds")
            positions[origin] = curves.best()
    if protocol.fixed_threshold is not None:
        positions["fixed"] = first + int(np.abs(evaluated.thresholds - protocol.fixed_threshold).argmin())
    return {origin: positions[origin] for origin in wanted if origin in positions}
