"""Load one image and one batch: the work of the loading processes.

Spawned workers import this file, so it does not import Lightning, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsol.data.images import BadImage
from wsol.data.pseudo_targets import PseudoTargets
from wsol.data.samplers import NOTHING, Key
from wsol.data.source import Split
from wsol.data.transforms import EvalTransform, TrainTransform
from wsol.errors import InputError
from wsol.types import Batch

SKIP = "on_bad_image=skip (wsol train: loader.on_bad_image=skip)"
"""What leaves out unreadable images."""


class LoadedSample(NamedTuple):
    """One image on its way to a batch."""

    position: int
    """Position in the split, or `NOTHING`."""
    views: np.ndarray | None
    """uint8 (3, h, w) or (V, 3, h, w); None if it could not be read or is `NOTHING`."""
    label: int = 0
    size: tuple[int, int] = (0, 0)
    """Width and height as stored."""
    error: str = ""
    pseudo: np.ndarray | None = None
    """See `wsol.data.pseudo_targets.PseudoTargets.target`."""
    fault: str = ""
    """Why the image and its pseudo target do not fit; stops the run."""


class Images(Dataset[LoadedSample]):
    """The images of a split, transformed.

    Args:
        split: the images.
        transform: transform for training (random, drawn from the seed and the key) or evaluation.
        seed: seed of the augmentation.
        pseudo: targets of the images, which the training transform moves with the pixels.
    """

    def __init__(
        self,
        split: Split,
        transform: TrainTransform | EvalTransform,
        seed: int = 0,
        pseudo: PseudoTargets | None = None,
    ) -> None:
        self.split, self.transform, self.seed, self.pseudo = split, transform, seed, pseudo

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Key) -> LoadedSample:
        position, *drawn = key
        if position == NOTHING:
            return LoadedSample(position, None)
        try:
            image = self.split.image(position)
        except BadImage as error:
            return LoadedSample(position, None, error=str(error))
        target = None
        if isinstance(self.transform, TrainTransform):
            rng = np.random.default_rng([self.seed, drawn[0], position, *drawn[1:]])
            views, view = self.transform.draw(image, rng)
            try:
                target = None if self.pseudo is None else self.pseudo.target(position, view)
            except InputError as error:
                return LoadedSample(position, None, fault=f"{self.split.ids[position]}: {error}")
        else:
            views = self.transform(image)
        size = image.shape[1], image.shape[0]
        return LoadedSample(position, views, int(self.split.labels[position]), size, pseudo=target)


@dataclass(frozen=True)
class Collate:
    """Puts loaded images into a `Batch`, its images channels-last in memory.

    An error that must stop the run is returned, and `Loader` raises it: if a worker raised it, torch would hide the
    message in that worker's stack trace.
    """

    empty: tuple[int, ...]
    """Shape of one image's views, (3, h, w) or (V, 3, h, w), for batches without images."""
    skip: bool
    """Whether bad images are left out and counted, or stop the run."""
    may_be_empty: bool = True
    """Whether a batch may consist of bad images only; a training batch may not."""

    def __call__(self, loaded: Sequence[LoadedSample]) -> Batch | BadImage:
        """Return the batch, or what is wrong with it."""
        if fault := next((one.fault for one in loaded if one.fault), None):
            return BadImage(fault)
        bad = [one for one in loaded if one.error]
        if bad and (not self.skip or (len(bad) == len(loaded) and not self.may_be_empty)):
            way = "" if self.skip else f", or leave such images out with {SKIP}"
            return BadImage(f"{bad[0].error}{way}")
        good = [one for one in loaded if one.views is not None]
        targets = [one.pseudo for one in good if one.pseudo is not None]
        return Batch(
            images=_stack([one.views for one in good if one.views is not None], self.empty),
            labels=torch.tensor([one.label for one in good], dtype=torch.int64),
            positions=torch.tensor([one.position for one in good], dtype=torch.int64),
            sizes=torch.tensor([one.size for one in good], dtype=torch.int64).reshape(-1, 2),
            skipped=torch.tensor([one.position for one in bad], dtype=torch.int64),
            pseudo=torch.from_numpy(np.stack(targets)) if targets else None,
        )


class Loader(DataLoader):
    """A data loader that raises the `BadImage` that its workers return."""

    def __iter__(self) -> Any:
        """Iterate over the batches; raises `BadImage`."""
        for batch in super().__iter__():
            if isinstance(batch, BadImage):
                raise batch
            yield batch


def one_thread(worker: int) -> None:
    """Restrict a loading process to one core."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _stack(views: list[np.ndarray], empty: tuple[int, ...]) -> Tensor:
    """Stack N arrays (..., 3, h, w) to a tensor (N, ..., 3, h, w), channels-last in memory as transforms make them."""
    *lead, channels, height, width = views[0].shape if views else empty
    out = np.empty((len(views), *lead, height, width, channels), np.uint8)
    for row, one in zip(out, views, strict=True):
        row[...] = np.moveaxis(one, -3, -1)
    return torch.from_numpy(out).movedim(-1, -3)
