"""From a `Source` to batches: the LightningDataModule.

Order and augmentation are drawn from (seed, epoch, position) alone, so a run is the same bit for bit with any number of
workers, and so is one that was stopped and resumed. The global random state is never touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule

from wsol.data.datasets.erased import ErasedSplit
from wsol.data.loading import Collate, Images, Loader, one_thread
from wsol.data.pseudo_targets import read_pseudo_targets
from wsol.data.samplers import SAMPLERS, EvalSampler, TrainSampler, images_used
from wsol.data.source import Source, Split, hold_out
from wsol.data.transforms import EvalTransform, TrainTransform
from wsol.errors import InputError, unknown
from wsol.types import Batch


class LocalizationData(LightningDataModule):
    """Batches for training and evaluation of one dataset.

    Args:
        source: the dataset.
        train_transform: transform of the training images; None if nothing is trained.
        eval_transform: transform of the images of a split that is evaluated.
        batch_size: number of training images in a batch, over all processes.
        eval_batch_size: images of one process in a batch when evaluating; None for its share of ``batch_size``.
        num_workers: loading processes for each training process; ``auto``: its share of the cores, less 1.
        val_per_class: number of training images per class to hold out for validation, for sources without ``val``.
        seed: seed of order, augmentation and holding out.
        on_bad_image: ``stop`` with the name of the first unreadable image, or ``skip`` unreadable images and count
            them.
        pin_memory: whether batches are in pinned memory; None if there is a GPU.
        drop_last: leave out the last incomplete training batch: true, false, or ``auto`` if it has only one image for
            each process.
        erased: folders of regions to paint over in the training images (those left after holding out), one after the
            other, each with its colour; see `wsol.data.datasets.erased.ErasedSplit`.
        sampler: ``uniform`` for each training image once an epoch, or ``balanced`` for each class equally often.
        pseudo: folder of pseudo targets of the training images, see `wsol.data.pseudo_targets`.

    Raises:
        InputError: if an argument is out of range, or ``val_per_class`` is set for a source with a ``val`` split.
    """

    def __init__(
        self,
        source: Source,
        train_transform: TrainTransform | None,
        eval_transform: EvalTransform,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int | str = "auto",
        val_per_class: int = 0,
        seed: int = 0,
        on_bad_image: str = "stop",
        pin_memory: bool | None = None,
        drop_last: bool | str = "auto",
        erased: Mapping[str, Sequence[float]] | None = None,
        sampler: str = "uniform",
        pseudo: str | Path | None = None,
    ) -> None:
        super().__init__()
        if sampler not in SAMPLERS:
            raise unknown("loader.sampler", sampler, SAMPLERS)
        if on_bad_image not in ("stop", "skip"):
            raise unknown("on_bad_image", on_bad_image, ("stop", "skip"))
        if val_per_class and "val" in source.splits:
            raise InputError("val_per_class holds out training images, but this data has a val split; set it to 0")
        self.source, self.train_transform, self.eval_transform = source, train_transform, eval_transform
        self.sampler = sampler
        self.batch_size = _at_least("batch_size", batch_size, 1)
        self.eval_batch_size = None if eval_batch_size is None else _at_least("eval_batch_size", eval_batch_size, 1)
        self.val_per_class = _at_least("val_per_class", val_per_class, 0)
        self.num_workers, self.seed = num_workers, _at_least("seed", seed, 0)
        self.on_bad_image, self.drop_last, self.erased = on_bad_image, drop_last, dict(erased or {})
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.evaluated: tuple[str, ...] = ("test",)
        """Names of the splits that `test_dataloader` gives."""
        self._splits: dict[str, Split] = {}
        self.pseudo = None
        """The `PseudoTargets` of the training images, if any."""
        if pseudo is not None:
            whole = source.split("train").fingerprint()
            self.pseudo = read_pseudo_targets(pseudo, self.split("train"), whole)
        self._resumed = {"epoch": -1, "batches": 0}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, including ``val`` if it is held out of the training images."""
        return (*self.source.splits, "val") if self.val_per_class else self.source.splits

    def split(self, name: str) -> Split:
        """Return a split as it is used here: ``train`` without the images held out, and with its erased regions.

        Raises:
            InputError: if there is none of this name.
        """
        if name not in self.splits:
            raise unknown("split", name, self.splits)
        if name not in self._splits:
            if self.val_per_class and name in ("train", "val"):
                train, val = hold_out(self.source.split("train"), self.val_per_class, self.seed)
                made = {"train": train, "val": val}
            else:
                made = {name: self.source.split(name)}
            for folder, colour in self.erased.items() if "train" in made else ():
                made["train"] = ErasedSplit(made["train"], folder, colour)
            self._splits |= made
        return self._splits[name]

    def train_dataloader(self) -> Loader:
        """Shuffled, augmented batches; every process gets the same number."""
        if self.train_transform is None:
            raise InputError("no train_transform is set; choose a transform to train with")
        split = self.split("train")
        rank, world = self._place()
        of_process = self.share_of_process(world)
        used = images_used(self.drop_last, len(split), self.batch_size, world)
        taken = self._resumed["epoch"], self._resumed["batches"] * of_process
        labels = split.labels if self.sampler == "balanced" else None
        sampler = TrainSampler(len(split), self.seed, rank, world, used, taken, labels)
        images = Images(split, self.train_transform, self.seed, self.pseudo)
        return self._loader(images, sampler, of_process, (3, *[self.train_transform.size] * 2))

    def state_dict(self) -> dict[str, int]:
        """Return the position of training in the data, for checkpoints: the epoch, and how many batches it used."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        taken = loop.epoch_loop.batch_progress.current
        # After the last epoch, Lightning's current epoch is one that has not begun.
        return {"epoch": max(0, loop.epoch_progress.current.ready - 1), "batches": taken.processed}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue the epoch of a checkpoint after the batches that were taken already."""
        self._resumed = state_dict

    def share_of_process(self, world: int) -> int:
        """Return how many of the images of a training batch each of ``world`` processes takes.

        Raises:
            InputError: they cannot be shared evenly.
        """
        share, left = divmod(self.batch_size, world)
        if left:
            raise InputError(
                f"loader.batch_size={self.batch_size} cannot be shared evenly by {world} processes; choose a multiple "
                f"of {world}, or fewer processes and trainer.accumulate_grad_batches to take several small batches for "
                "each step"
            )
        return share

    def val_dataloader(self) -> Loader | list[Any]:
        """Validation batches; none if there is no such split."""
        return self.eval_dataloader("val") if "val" in self.splits else []

    def test_dataloader(self) -> list[Loader]:
        """Batches of each of the splits to be evaluated, in the order of `evaluated`."""
        return [self.eval_dataloader(name) for name in self.evaluated]

    def eval_dataloader(self, name: str) -> Loader:
        """Return a loader of every image of a split, once over all processes, in order."""
        return self._eval_loader(self.split(name), *self._place())

    def class_ordered_dataloader(self, name: str) -> Loader:
        """Return a loader of every image of a split, on every process, ordered by class, for evaluation."""
        split = self.split(name)
        return self._eval_loader(split.subset(np.argsort(split.labels, kind="stable")), 0, 1)

    def _eval_loader(self, split: Split, rank: int, world: int) -> Loader:
        side = self.eval_transform.size
        views = len(self.eval_transform.views((side, side)))
        shape = (3, side, side) if views == 1 else (views, 3, side, side)
        size = self.eval_batch_size or max(1, self.batch_size // world)
        sampler = EvalSampler(len(split), size, rank, world)
        return self._loader(Images(split, self.eval_transform), sampler, size, shape)

    def _loader(
        self, images: Images, sampler: TrainSampler | EvalSampler, batch_size: int, shape: tuple[int, ...]
    ) -> Loader:
        processes = self.trainer.world_size // self.trainer.num_nodes if self.trainer else 1
        workers = workers_for(self.num_workers, processes)
        return Loader(
            images,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=Collate(shape, self.on_bad_image == "skip", isinstance(sampler, EvalSampler)),
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=one_thread,
            pin_memory=self.pin_memory,
            generator=torch.Generator().manual_seed(self.seed),  # otherwise each pass would draw from the global state
        )

    def _place(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move images, labels and pseudo targets; positions and sizes stay on the CPU, where they are read."""
        images, labels = (part.to(device, non_blocking=True) for part in (batch.images, batch.labels))
        pseudo = None if batch.pseudo is None else batch.pseudo.to(device, non_blocking=True)
        return batch._replace(images=images, labels=labels, pseudo=pseudo)


def workers_for(num_workers: int | str, processes: int = 1) -> int:
    """Return how many loading processes to start; ``auto`` is a process's share of the cores less one, 16 at most.

    Example:
        >>> workers_for(3)
        3
    """
    if num_workers == "auto":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(max(cores // processes - 1, 0), 16)
    if not isinstance(num_workers, int) or num_workers < 0:
        raise InputError(f"num_workers must be auto or a number from 0, got {num_workers!r}")
    return num_workers


def _at_least(name: str, value: int, least: int) -> int:
    if not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number from {least}, got {value!r}")
    return value
