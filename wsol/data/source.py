"""The interface of every dataset: a `Source` of named `Split`s, and the `Report` of a check.

A dataset is one file with one class derived from `Source`. It reads its lists when built (raising `InputError` with
file and line at the first fault) and returns `Split`s, which hold everything except the pixels in a few flat
arrays: a split of 1.28 million images takes about 150 MB. Forked workers share it without copying. Spawned ones get the
arrays by pickle, and open the files of pixels themselves.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from wsol.data.images import BadImage, image_size, read_image
from wsol.data.inspection import Report
from wsol.data.packed import Boxes, Strings
from wsol.errors import InputError, unknown
from wsol.types import GroundTruth

SPLITS = ("train", "val", "test")
"""Images to train on; the few with boxes to choose thresholds on (train-fullsup); images to evaluate on."""

NO_IMAGES = "the dataset was given without images (image_root: null)"


class Split(ABC):
    """The images of one split with their labels and, where annotated, boxes and masks.

    A subclass implements `_read_image` and, where there are masks, `_read_mask`. Both take a *row*: the position in
    the split as first built (a `subset` keeps the rows of its parent).

    Args:
        name: ``train``, ``val`` or ``test``.
        ids: N distinct names.
        labels: N class indices, 0 or above.
        boxes: boxes of each image; None if the split has none.
        has_masks: whether `mask` returns masks.
        blacklist: bool (N,), True for the images that a dataset's blacklist names; None if there is no such list.
            Each protocol decides whether to leave them out.

    Raises:
        InputError: if the split is empty, lengths differ, ids repeat or a label is negative.
    """

    def __init__(
        self,
        name: str,
        ids: Iterable[str],
        labels: np.ndarray | Sequence[int],
        boxes: Boxes | None = None,
        has_masks: bool = False,
        blacklist: np.ndarray | Sequence[bool] | None = None,
    ) -> None:
        self.name = name
        self.ids: Sequence[str] = ids if isinstance(ids, Strings) else Strings(ids)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.boxes = boxes
        self.has_masks = has_masks
        self.blacklist = None if blacklist is None else np.asarray(blacklist, dtype=bool)
        self._rows = np.arange(len(self.ids))
        _check(self)

    @property
    def has_boxes(self) -> bool:
        """Whether the images of this split carry boxes."""
        return self.boxes is not None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def images_with_boxes(self) -> int:
        """Number of images with at least one box; only these are evaluated by boxes."""
        return 0 if self.boxes is None else int((np.diff(self.boxes.ends, prepend=0) > 0).sum())

    def counts(self) -> dict[str, int]:
        """Numbers of images, classes and, where annotated, boxes and masks."""
        counts = {"images": len(self), "classes": len(np.unique(self.labels))}
        if self.boxes is not None:
            counts["boxes"] = len(self.boxes.corners)
        return counts | ({"masks": len(self)} if self.has_masks else {})

    def image(self, i: int) -> np.ndarray:
        """Image ``i``, uint8 (H, W, 3) RGB.

        Raises:
            InputError: if it cannot be read.
        """
        return self._read_image(int(self._rows[i]))

    def size(self, i: int) -> tuple[int, int]:
        """Return width and height of image ``i`` as `image` gives it, pixels.

        Raises:
            InputError: if it is not known.
        """
        return self._read_size(int(self._rows[i]))

    def truth(self, i: int) -> GroundTruth | None:
        """Return the boxes of image ``i``; None if it has none."""
        if self.boxes is None or not len(self.boxes[i]):
            return None
        return GroundTruth(self.boxes[i], self.boxes.inclusive)

    def unmarked(self) -> dict[str, Any]:
        """Count the images without a box in a split with boxes, and name the first five: they are not evaluated.

        Returns:
            ``images`` and ``first``; empty if every image has a box, or the split has no boxes.
        """
        if self.boxes is None:
            return {}
        bare = [i for i in range(len(self)) if not len(self.boxes[i])]
        return {"images": len(bare), "first": [self.ids[i] for i in bare[:5]]} if bare else {}

    def mask(self, i: int) -> np.ndarray | None:
        """Return the mask of image ``i``: uint8 (H, W), 0 background, 1 object, 255 ignored; None if it has none."""
        return self._read_mask(int(self._rows[i])) if self.has_masks else None

    def subset(self, positions: Sequence[int] | np.ndarray, name: str | None = None) -> Self:
        """Return some of the images, in the given order, as a split of this or another name.

        Raises:
            InputError: if none is requested or one is requested twice.
        """
        at = np.asarray(positions, dtype=np.int64)
        part = copy.copy(self)
        part.name = name or self.name
        part.ids = Strings(self.ids[int(i)] for i in at)
        part.labels = self.labels[at]
        part.boxes = self.boxes.subset(at) if self.boxes is not None else None
        part.blacklist = self.blacklist[at] if self.blacklist is not None else None
        part._rows = self._rows[at]
        _check(part)
        return part

    def fingerprint(self) -> str:
        """Return the sha256 (hex) over ids, labels and boxes, in order: equal for equal annotation.

        The blacklist is not part of it: it says which images count, not what is in them.
        """
        digest = hashlib.sha256()
        for text in self.ids:
            digest.update(text.encode() + b"\0")
        digest.update(self.labels.astype("<i8").tobytes())
        if self.boxes is not None:
            digest.update(self.boxes.ends.astype("<i8").tobytes() + self.boxes.corners.astype("<f8").tobytes())
            digest.update(bytes([self.boxes.inclusive]))
        return digest.hexdigest()

    @abstractmethod
    def _read_image(self, row: int) -> np.ndarray: ...

    def _read_size(self, row: int) -> tuple[int, int]:
        height, width = self._read_image(row).shape[:2]
        return width, height

    def _read_mask(self, row: int) -> np.ndarray | None:
        raise NotImplementedError(f"{type(self).__name__} has masks but does not override _read_mask")


class FileSplit(Split):
    """A split whose images are files: `Split`'s arguments, and

    Args:
        root: the folder that ``paths`` are relative to; None if there are no images: reading their pixels
            raises `InputError`.
        paths: N image files, relative, with ``/``.
        read_mask: returns the mask of the image at a row (see `Split`), or None if it has none; must be picklable.
        sizes: N widths and heights from the lists; None, for one or for all, to read them from the file's header.
        upright: whether images are turned as their EXIF orientation says; sizes and boxes are then of the turned image.
    """

    def __init__(
        self,
        name: str,
        ids: Iterable[str],
        labels: np.ndarray | Sequence[int],
        root: str | Path | None,
        paths: Iterable[str],
        boxes: Boxes | None = None,
        read_mask: Callable[[int], np.ndarray | None] | None = None,
        sizes: Sequence[tuple[int, int] | None] | None = None,
        blacklist: np.ndarray | Sequence[bool] | None = None,
        upright: bool = False,
    ) -> None:
        super().__init__(name, ids, labels, boxes, read_mask is not None, blacklist)
        self.root, self.upright = None if root is None else Path(root), upright
        own = Strings(paths)
        # Most datasets call an image by its path; one copy goes to each worker.
        self._paths: Sequence[str] = self.ids if own == self.ids else own
        self._mask_reader = read_mask
        if len(self._paths) != len(self):
            raise InputError(f"split {name!r}: {len(self)} ids but {len(self._paths)} paths; give one of each")
        self._sizes = None if sizes is None or not any(sizes) else np.array([s or (0, 0) for s in sizes], np.int32)

    def correct_size(self, i: int, size: tuple[int, int]) -> None:
        """Replace the listed size of image ``i`` by that of its file, which is what a network sees."""
        if self._sizes is not None:
            self._sizes[self._rows[i]] = size

    def path(self, i: int) -> Path:
        """Return the file of image ``i``."""
        return self._file(int(self._rows[i]))

    def missing(self) -> Iterator[Path]:
        """Yield the files that do not exist."""
        return (path for path in map(self.path, range(len(self))) if not path.is_file())

    def _read_image(self, row: int) -> np.ndarray:
        return read_image(self._file(row), self.upright)

    def _read_size(self, row: int) -> tuple[int, int]:
        if self._sizes is not None and self._sizes[row].all():
            width, height = self._sizes[row].tolist()
            return width, height
        if self.root is not None:
            return image_size(self._file(row), self.upright)
        mask = self._read_mask(row)
        if mask is None:
            raise InputError(f"{self._paths[row]}: neither the lists nor a mask give its size, and {NO_IMAGES}")
        return mask.shape[1], mask.shape[0]

    def _file(self, row: int) -> Path:
        if self.root is None:
            raise InputError(f"{self._paths[row]}: {NO_IMAGES}; set image_root to the folder of its images")
        return self.root / self._paths[row]

    def _read_mask(self, row: int) -> np.ndarray | None:
        return self._mask_reader(row) if self._mask_reader is not None else None


class Source(ABC):
    """A dataset.

    Attributes:
        classes: names of the K classes; their order is that of the labels.
        splits: those of ``train``, ``val`` and ``test`` that the dataset has.
    """

    classes: tuple[str, ...]
    splits: tuple[str, ...]

    def split(self, name: str) -> Split:
        """Return one split.

        Raises:
            InputError: if there is none of this name.
        """
        if name not in self.splits:
            raise unknown("split", name, self.splits)
        return self._split(name)

    def verify(self, deep: bool | None = None) -> Report:
        """Count images and annotations and look for faults; a dataset may override this to check more.

        Args:
            deep: also decode every image; None lets the dataset decide.
        """
        report = Report(type(self).__name__)
        for name in self.splits:
            split = self.split(name)
            report.counts[name] = split.counts()
            for path in split.missing() if isinstance(split, FileSplit) else ():
                report.add(path, None, "no such file")
            for i in range(len(split)) if deep else ():
                try:
                    split.image(i)
                except BadImage as error:
                    report.add(split.name, i + 1, str(error))
        return report

    def check(self, name: str, skip_unreadable: bool = False) -> None:
        """Look quickly for faults that would otherwise show only after hours; by default this only opens the split.

        Args:
            name: name of the split.
            skip_unreadable: ignore images that cannot be read.

        Raises:
            InputError: the first fault, and how many there are.
        """
        self.split(name)

    def confine(self, folder: Path) -> None:  # noqa: B027  # most datasets only read
        """Write nothing outside ``folder`` from now on; called for a dataset that the config of a file names.

        A dataset that writes files overrides this, and refuses unreasonable sizes.

        Raises:
            InputError: if the dataset would write too much.
        """

    @abstractmethod
    def _split(self, name: str) -> Split: ...


def hold_out(split: Split, per_class: int, seed: int = 0) -> tuple[Split, Split]:
    """Divide a training split into two, for datasets without a validation split.

    Which images are held out depends on ``seed`` and the split alone.

    Args:
        split: the training images.
        per_class: how many of each class to hold out.
        seed: seed of the random choice.

    Returns:
        The remaining images, named as before, and those held out, named ``val``; both in the split's order.

    Raises:
        InputError: if a class would keep no image.
    """
    rng = np.random.default_rng(seed)
    held = []
    for label in np.unique(split.labels):
        of_class = np.flatnonzero(split.labels == label)
        if len(of_class) <= per_class:
            raise InputError(
                f"split {split.name!r}: class {label} has {len(of_class)} images, too few to hold out "
                f"{per_class} for validation; lower val_per_class"
            )
        held.append(rng.choice(of_class, per_class, replace=False))
    val = np.sort(np.concatenate(held))
    rest = np.setdiff1d(np.arange(len(split)), val)
    return split.subset(rest), split.subset(val, "val")


def _check(split: Split) -> None:
    count = len(split.ids)
    if not count:
        raise InputError(f"split {split.name!r} has no images; check the dataset's root and lists")
    if split.labels.shape != (count,) or (split.boxes is not None and len(split.boxes) != count):
        raise InputError(f"split {split.name!r}: expected {count} labels and lists of boxes, one for each id")
    if split.blacklist is not None and split.blacklist.shape != (count,):
        raise InputError(f"split {split.name!r}: expected {count} blacklist marks, one for each id")
    if split.labels.min() < 0:
        raise InputError(f"split {split.name!r}: image {split.ids[int(split.labels.argmin())]!r} has a negative label")
    seen: set[bytes] = set()
    for name in split.ids:
        key = name.encode()
        if key in seen:
            raise InputError(f"split {split.name!r}: id {name!r} appears twice; every image needs its own")
        seen.add(key)
