"""The base of datasets of image files: it makes splits of their lists, and checks both against the disk."""

from __future__ import annotations

import inspect
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from itertools import compress
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from wsol.data.annotations.text_tables import STOP, Sink, box_fault
from wsol.data.class_names import ClassChoice, chosen_names, positions_of
from wsol.data.image_files import image_files
from wsol.data.images import decoded_size, file_orientation, image_size
from wsol.data.inspection import Report
from wsol.data.prepare.archives import Archive
from wsol.data.regular_files import look_alikes, name_fault
from wsol.data.source import NO_IMAGES, Boxes, FileSplit, Source
from wsol.errors import InputError

log = logging.getLogger(__name__)

READ_UP_TO = 20_000
"""Largest number of images whose pixels `ListedSource.verify` reads unless told otherwise: a minute or two."""


class AnnotatedBox(NamedTuple):
    """One annotated box, and the file and line that it comes from."""

    box: tuple[float, ...]
    """x0, y0, x1, y1 in the image frame."""
    file: Path
    line: int | None = None
    category: str | None = None
    """Name of what the box marks, if the file has it."""


@dataclass
class Listing:
    """The images of one split with what a dataset's files say about them."""

    inclusive: bool = False
    """As in `wsol.types.GroundTruth`."""
    ids: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    """Relative to the split's folder, with ``/``."""
    labels: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    """Width and height, if the lists have them."""
    boxes: list[Sequence[AnnotatedBox]] = field(default_factory=list)
    blacklisted: list[bool] = field(default_factory=list)

    def add(
        self,
        name: str,
        path: str,
        label: int,
        boxes: Sequence[AnnotatedBox] = (),
        size: tuple[int, int] | None = None,
        blacklisted: bool = False,
    ) -> None:
        """Add an image."""
        self.ids.append(name)
        self.paths.append(path)
        self.labels.append(label)
        self.boxes.append(boxes)
        self.sizes.append(size)
        self.blacklisted.append(blacklisted)

    def copy(self) -> Listing:
        """Return a listing that may be changed without changing this one."""
        return Listing(self.inclusive, *(list(getattr(self, each.name)) for each in fields(self)[1:]))

    def drop_bad_names(self, sink: Sink) -> None:
        """Leave out images whose name cannot be written to tables, and report each to the sink."""
        for i in reversed([i for i, path in enumerate(self.paths) if name_fault(path)]):
            sink.add(ascii(self.paths[i]), None, str(name_fault(self.paths[i])))
            for values in (self.ids, self.paths, self.labels, self.sizes, self.boxes, self.blacklisted):
                del values[i]

    def keep_classes(self, labels: Mapping[int, int]) -> None:
        """Keep only the images whose label is in ``labels``, and replace it by the new label there."""
        keep = [label in labels for label in self.labels]
        self.labels = [labels[label] for label in self.labels if label in labels]
        self.ids, self.paths = list(compress(self.ids, keep)), list(compress(self.paths, keep))
        self.sizes, self.boxes = list(compress(self.sizes, keep)), list(compress(self.boxes, keep))
        self.blacklisted = list(compress(self.blacklisted, keep))


class ListedSource(Source):
    """A dataset of image files.

    A subclass sets ``classes`` and ``splits`` when built and implements `_list`; splits are made on first use, or all
    at once by `_ready`. A subclass that lets users choose some of its classes takes ``classes``, passes it on, and sets
    ``self.classes = self._choose(names)``. `_list` still numbers all classes; images of the other classes are left out.

    Args:
        root: the folder that the images' paths are relative to; None if there are no images.
        sink: receives the faults of lists; the default raises at the first.
        classes: names of the classes to keep, or a text file of them; None for all.
    """

    upright: ClassVar[bool] = False
    """Whether images are turned as their EXIF orientation says. Published boxes are of the images as stored."""

    archives: ClassVar[tuple[Archive, ...]] = ()
    """The published archives, which `wsol.data.prepare.preparation` unpacks."""

    def __init__(self, root: Path | None, sink: Sink = STOP, classes: ClassChoice = None) -> None:
        self.has_images = root is not None
        self._root = root or Path()
        self._sink = sink
        self._chosen = chosen_names(classes)
        self._new_labels: dict[int, int] | None = None
        self._kept: dict[str, Listing] = {}
        self._told: set[str] = set()
        self._made: dict[str, FileSplit] = {}

    @abstractmethod
    def _list(self, name: str) -> Listing:
        """Read the lists of a split."""

    def _masks(self, name: str) -> Callable[[int], np.ndarray | None] | None:
        """Return the reader of a split's masks (see `FileSplit`); None if the split has no masks."""

    def _choose(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the chosen classes among ``names``, in their order.

        Raises:
            InputError: an unknown class is chosen.
        """
        kept = positions_of(self._chosen, names)
        self._new_labels = None if self._chosen is None else {old: new for new, old in enumerate(kept)}
        return tuple(names[i] for i in kept)

    def _wants(self, label: int) -> bool:
        """Return whether a class, given by its position among all classes, is kept; readers may skip the others."""
        return self._new_labels is None or label in self._new_labels

    def _unlisted_in(self) -> Iterable[Path]:
        """Folders in which every image should be listed."""
        return ()

    def _notes(self) -> Iterable[str]:
        """Notes for `verify`."""
        return ()

    def _warnings(self) -> Iterable[str]:
        """Notes for `verify` that are also logged when the dataset is opened."""
        return ()

    def _ready(self) -> None:
        """Make all splits now, so that faults in their lists and a wrong root show at once."""
        for name in self.splits:
            self._build(name)
        if self._sink is STOP:
            for note in (*self._look_alikes(), *self._warnings()):
                log.warning(note)
        if not any(map(self._some_there, self.splits)):
            self._split(self.splits[0])

    def _split(self, name: str) -> FileSplit:
        split = self._build(name)
        if not self._some_there(name):
            raise InputError(f"{split.path(0)}: no such file, nor any of the next images of {name!r}; wrong root?")
        return split

    def _build(self, name: str) -> FileSplit:
        if name not in self._made:
            listing = self._kept_list(name)
            listing.drop_bad_names(self._sink)
            listing.boxes = [
                self._sound(boxes, size, listing.inclusive)
                for boxes, size in zip(listing.boxes, listing.sizes, strict=True)
            ]
            self._made[name] = self._make(name, listing)
            if self._sink is not STOP:
                self._kept[name] = listing  # reading it again would report its faults again
        return self._made[name]

    def _listing(self, name: str) -> Listing:
        return self._kept.get(name) or self._kept_list(name)

    def _kept_list(self, name: str) -> Listing:
        """Return the listing of a split, with only the classes that are kept."""
        listing = self._list(name)
        if self._new_labels is not None:
            listing.keep_classes(self._new_labels)
        return listing

    def _some_there(self, name: str, look_at: int = 50) -> bool:
        """Return whether any of the first images exists; if none does, the root is probably wrong."""
        split = self._made[name]
        return not self.has_images or any(split.path(i).is_file() for i in range(min(look_at, len(split))))

    def _sound(
        self, boxes: Sequence[AnnotatedBox], size: tuple[int, int] | None, inclusive: bool
    ) -> Sequence[AnnotatedBox]:
        """Leave out impossible boxes, and report each to the sink."""
        faults = [box_fault(marked.box, inclusive, size) for marked in boxes]
        for marked, fault in zip(boxes, faults, strict=True):
            if fault:
                self._sink.add(marked.file, marked.line, fault)
        return [marked for marked, fault in zip(boxes, faults, strict=True) if not fault] if any(faults) else boxes

    def _make(self, name: str, listing: Listing) -> FileSplit:
        boxes = None
        if any(listing.boxes):
            boxes = Boxes.pack(([marked.box for marked in of_image] for of_image in listing.boxes), listing.inclusive)
        return FileSplit(
            name,
            listing.ids,
            listing.labels,
            self._root if self.has_images else None,
            listing.paths,
            boxes,
            self._masks(name),
            listing.sizes,
            listing.blacklisted if any(listing.blacklisted) else None,
            self.upright,
        )

    def _look_alikes(self) -> Iterator[str]:
        """Yield notes on names of classes and images that look alike but differ, such as é as one letter and as two."""
        found = {"classes": self.classes} | {f"{name} images": split.ids for name, split in self._made.items()}
        for what, names in found.items():
            pairs = list(look_alikes(names))
            if pairs:
                first, second = pairs[0]
                yield (
                    f"{len(pairs):,} pairs of {what} have names that look alike but differ (Unicode NFC and NFD), "
                    f"such as {first!r}, {first!a}, and {second!r}, {second!a}; rename them if they are the same"
                )

    def verify(self, deep: bool | None = None, report: Report | None = None) -> Report:
        """Count images, boxes and classes, and compare lists with files.

        Args:
            deep: decode every image instead of reading headers alone (minutes instead of seconds); None for yes if
                there are at most `READ_UP_TO` of them. The report says which was done. Damage that a JPEG decoder does
                not notice (about nine in ten single flipped bits) is not found.
            report: the report to add to, which may hold faults of the lists already; None for a new one.
        """
        report = report or Report(type(self).__name__)
        deep = self._reads_pixels(deep)
        for name in self.splits:
            split = self._build(name)
            report.counts[name] = split.counts()
            if split.blacklist is not None:
                report.counts[name]["blacklisted"] = int(split.blacklist.sum())
            of_class = np.bincount(split.labels, minlength=len(self.classes))
            report.per_class[name] = dict(zip(self.classes, of_class.tolist(), strict=True))
            self._look(split, self._listing(name), deep, report)
        report.notes += [*self._look_alikes(), *self._warnings(), *self._unlisted(), *self._notes()]
        count = sum(map(len, self._made.values()))
        if not self.has_images:
            report.notes.append(f"{NO_IMAGES}: only its lists were checked; it can only be used to score saved maps")
        elif deep:
            report.extent = f"the pixels of all {count:,} images were read"
        else:
            report.extent = f"only the headers of the {count:,} images were read; deep=true reads their pixels, too"
        return report

    def _reads_pixels(self, deep: bool | None) -> bool:
        return sum(len(self._build(name)) for name in self.splits) <= READ_UP_TO if deep is None else deep

    def check(self, name: str, skip_unreadable: bool = False) -> None:
        """Read the headers of a split's images and compare its boxes with their sizes (a second for 5,000 images)."""
        if not self.has_images:
            raise InputError(
                f"{name}: {NO_IMAGES}, so no network can be trained or evaluated on it; set image_root to the "
                "folder of its images (scoring saved maps needs no images)"
            )
        if (bare := self._split(name).unmarked()) and name not in self._told:
            self._told.add(name)
            log.info(
                "%s: %s of %s images have no box, such as %s; they are classified, but not evaluated by boxes",
                name,
                f"{bare['images']:,}",
                f"{len(self._split(name)):,}",
                bare["first"][0],
            )
        report = Report(name)
        self._look(self._split(name), self._listing(name), False, report, skip_unreadable)
        if not report.ok:
            more = f" (and {report.total - 1:,} more; `wsol data verify` lists them)" if report.total > 1 else ""
            raise InputError(f"{report.problems[0]}{more}")

    def _look(
        self, split: FileSplit, listing: Listing, deep: bool, report: Report, skip_unreadable: bool = False
    ) -> None:
        """Compare the images of a split with their listed sizes and boxes."""
        resized = []
        paths = [split.path(i) for i in range(len(split))] if self.has_images else []
        for i, seen in enumerate(_look_at(paths, deep, self.upright)):
            if isinstance(seen, str):
                if not skip_unreadable:
                    report.add(paths[i], None, seen)
                continue
            if listing.sizes[i] and seen != listing.sizes[i]:
                text = f"is {seen[0]} x {seen[1]}, listed as {listing.sizes[i]}{self._exif_note(paths[i])}"
                if self.upright and seen[::-1] == listing.sizes[i] and listing.boxes[i] and "EXIF" in text:
                    report.add(paths[i], None, f"{text}; give sizes and boxes of the upright image")
                    continue
                resized.append(f"{listing.paths[i]} {text}")
                split.correct_size(i, seen)
            for marked in listing.boxes[i]:
                fault = box_fault(marked.box, listing.inclusive, seen)
                if fault:
                    turned = self._exif_note(paths[i])
                    report.add(marked.file, marked.line, f"{fault} ({listing.paths[i]}){turned}")
        if resized:
            report.notes.append(f"{split.name}: {len(resized)} images differ in size from their list: {resized[0]}")
        bare = sum(not boxes for boxes in listing.boxes)
        if split.has_boxes and bare:
            first = next(i for i, boxes in enumerate(listing.boxes) if not boxes)
            report.notes.append(f"{split.name}: {bare} images have no box, such as {listing.paths[first]}")

    def _exif_note(self, path: Path) -> str:
        """Return a note on the file's EXIF orientation for messages about an image's size; empty if it has none."""
        found = file_orientation(path)
        if found == 1:
            return ""
        read = "turned upright" if self.upright else "read as stored"
        return f"; its EXIF orientation is {found}, and images of this dataset are {read}"

    def _unlisted(self) -> Iterator[str]:
        folders = list(self._unlisted_in()) if self._new_labels is None else []
        known = {split.path(i) for split in self._made.values() for i in range(len(split))} if folders else ()
        for folder in folders:
            others = [path for path in image_files(folder) if path not in known]
            if others:
                yield f"{len(others)} images under {folder} are not listed, such as {others[0]}"


def verify_source(build: Callable[..., Source], deep: bool | None = None) -> Report:
    """Verify a dataset, also one with too many faults to be built: what ``wsol data verify`` does.

    Args:
        build: makes the source, such as ``functools.partial(CUB, root)``; if it takes a ``sink``, faults in the lists
            are collected rather than raised.
        deep: see `ListedSource.verify`.

    Returns:
        Counts of what could be read, and the first problems.
    """
    report = Report(getattr(build, "__name__", getattr(getattr(build, "func", None), "__name__", "dataset")))
    try:
        collects = "sink" in inspect.signature(build).parameters
        source = build(sink=report) if collects else build()
        if isinstance(source, ListedSource):
            return source.verify(deep, report)
        return source.verify(deep)
    except InputError as error:
        report.add(str(error), None, "nothing further was checked")
    return report


def require_folder(folder: Path, what: str) -> Path:
    """Return the folder if it is there and not empty.

    Raises:
        InputError: otherwise; the message says that ``what`` was expected.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected {what}")
    if not any(folder.iterdir()):
        raise InputError(f"{folder}: empty folder; expected {what}")
    return folder


def _look_at(paths: Sequence[Path], deep: bool, upright: bool) -> Iterator[tuple[int, int] | str]:
    """Yield width and height of each image, or what is wrong with it."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), 4096):
            yield from pool.map(lambda path: _size(path, deep, upright), paths[start : start + 4096])


def _size(path: Path, deep: bool, upright: bool) -> tuple[int, int] | str:
    try:
        return decoded_size(path, upright) if deep else image_size(path, upright)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ").partition("; replace the file")[0]
