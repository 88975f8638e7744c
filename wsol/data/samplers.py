"""Samplers choose the images of a process and their order: training shuffles and pads, evaluation does neither."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from wsol.errors import InputError

Key = tuple[int, ...]
"""Position of an image in its split (`NOTHING` for none), and the epoch, from which its augmentation is drawn; for
samplers that repeat images within an epoch, also the number of earlier repetitions."""
SAMPLERS = ("uniform", "balanced")
"""Each image once an epoch; or each class equally often, its images in turn."""
NOTHING = -1


class TrainSampler(Sampler[Key]):
    """A permutation drawn from (seed, epoch), dealt out to the processes; padded so that all get the same number.

    Args:
        count: number of images in the split.
        seed: seed of the order.
        rank: number of this process, from 0.
        world: number of processes.
        used: number of images in an epoch, over all processes; None for all of them.
        taken: an epoch, and how many of its images this process has taken already; None for none. Iterating over that
            epoch starts after them.
        labels: int (count,) classes of the images, to draw each class equally often: images of small classes come
            several times an epoch, and each time with another augmentation. None for each image once.

    Example:
        >>> sampler = TrainSampler(5, seed=0, rank=0, world=2)
        >>> sampler.set_epoch(3)
        >>> len(sampler), len({key for key in sampler})
        (3, 3)
        >>> rest = TrainSampler(5, seed=0, rank=0, world=2, taken=(3, 1))
        >>> rest.set_epoch(3)
        >>> list(rest) == list(sampler)[1:]
        True
    """

    def __init__(
        self,
        count: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        used: int | None = None,
        taken: tuple[int, int] | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        self.taken, self.labels = taken, labels
        self.count, self.seed, self.rank, self.world = count, seed, rank, world
        self.used = count if used is None else used
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.used // self.world)

    def __iter__(self) -> Iterator[Key]:
        rng = np.random.default_rng([self.seed, self.epoch])
        start = self.taken[1] if self.taken and self.taken[0] == self.epoch else 0
        if self.labels is None:
            order = rng.permutation(self.count)[: self.used]
            for i in np.resize(order, len(self) * self.world)[self.rank :: self.world][start:]:
                yield int(i), self.epoch
            return
        order = balanced_order(self.labels, len(self) * self.world, rng)
        turns = np.empty_like(order)
        seen: dict[int, int] = {}
        for at, i in enumerate(order.tolist()):
            turns[at] = seen.get(i, 0)
            seen[i] = int(turns[at]) + 1
        mine = slice(self.rank, None, self.world)
        for i, turn in zip(order[mine][start:].tolist(), turns[mine][start:].tolist(), strict=True):
            yield i, self.epoch, turn


def balanced_order(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw images so that the numbers of images of any two classes differ by one at most.

    Within a class every image comes before one comes again.

    Args:
        labels: int (N,) classes; classes without images are ignored.
        count: how many images to draw.
        rng: generator for the draw.

    Returns:
        int64 (count,) positions in the order of training.

    Example:
        >>> order = balanced_order(np.array([0, 0, 0, 0, 1]), 6, np.random.default_rng(0))
        >>> sorted(order.tolist())[3:]
        [4, 4, 4]
    """
    classes = rng.permutation(np.unique(labels))
    drawn = []
    for at, label in enumerate(classes):
        wanted = count // len(classes) + (at < count % len(classes))
        (images,) = np.nonzero(labels == label)
        rounds = [rng.permutation(images) for _ in range(-(-wanted // len(images)))]
        drawn.append(np.concatenate([*rounds, np.zeros(0, np.int64)])[:wanted].astype(np.int64))
    return rng.permutation(np.concatenate(drawn))


class EvalSampler(Sampler[Key]):
    """Every image once over all processes: positions rank, rank + world, rank + 2 world, ...

    All processes get the same number of batches, because they synchronise at each (a module under DDP broadcasts its
    buffers). A process with one batch less gets a batch of `NOTHING`.

    Args:
        count: number of images in the split.
        batch_size: number of images of one process in a batch.
        rank: number of this process, from 0.
        world: number of processes.

    Example:
        >>> [[i for i, _ in EvalSampler(5, 2, rank, world=2)] for rank in range(2)]
        [[0, 2, 4], [1, 3, -1]]
    """

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.positions = list(range(rank, count, world))
        if len(self.positions) % batch_size == 0 and len(self.positions) < -(-count // world):
            self.positions.append(NOTHING)

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Key]:
        return ((i, 0) for i in self.positions)


def images_used(drop_last: bool | str, count: int, batch_size: int, world: int = 1) -> int:
    """Return the number of images in an epoch: all, or only those of complete batches.

    Args:
        drop_last: whether to leave out the last, incomplete batch; or ``auto``: only if it gives each process a single
            image, which batch normalisation can't take.
        count: number of training images.
        batch_size: number of images in a batch, over all processes.
        world: number of processes.

    Raises:
        InputError: if nothing would be left.

    Example:
        >>> images_used("auto", 33, 32), images_used("auto", 34, 32), images_used(True, 34, 32)
        (32, 34, 32)
        >>> images_used("auto", 34, 32, world=2)
        32
    """
    if drop_last not in (True, False, "auto"):
        raise InputError(f"drop_last must be true, false or auto, got {drop_last!r}")
    if drop_last is True and count < batch_size:
        raise InputError(
            f"batch_size {batch_size} is more than the {count} training images, and drop_last leaves none; lower "
            "batch_size or set drop_last=auto"
        )
    left = count % batch_size
    drops = count > batch_size and 1 <= left <= world if drop_last == "auto" else drop_last
    return count - left if drops else count
