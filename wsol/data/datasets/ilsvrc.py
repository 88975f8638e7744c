"""ILSVRC 2012 CLS-LOC: 1.28 million training images of 1000 classes, 50,000 validation images with boxes.

Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge", https://arxiv.org/abs/1409.0575

The files are in ``root``, or in Kaggle's ``ILSVRC/Data/CLS-LOC`` and ``ILSVRC/Annotations/CLS-LOC`` below it::

    train/<synset>/*.JPEG
    val/*.JPEG  or  val/<synset>/*.JPEG
    Annotations/val/*.xml  or  LOC_val_solution.csv        class and boxes of the validation images

Papers evaluate on the validation images, so they are the split ``test`` here; there is no ``val`` split (the lists of
`wsol.data.datasets.wsolevaluation` have one).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from wsol.data.annotations.ilsvrc import (
    ImageAnnotation,
    image_number,
    read_blacklist,
    read_ground_truth,
    read_solution,
    read_xml_folder,
)
from wsol.data.annotations.text_tables import STOP, Sink, key_rows, read_rows
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import ListedSource, Listing, require_folder
from wsol.data.image_files import class_folders, image_files, is_image
from wsol.data.inspection import Report
from wsol.data.prepare.archives import Archive
from wsol.errors import InputError

IMAGE_FOLDERS = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", ".")
ANNOTATIONS = (
    "ILSVRC/Annotations/CLS-LOC/val",
    "Annotations/CLS-LOC/val",
    "Annotations/val",
    "Annotations",
    "LOC_val_solution.csv",
)


class ILSVRC(ListedSource):
    """ILSVRC 2012, with its splits ``train`` and ``test`` (the validation images), or one of them.

    Classes are the synsets in sorted order, as torchvision's weights have them. Boxes are inclusive. Image ids are
    file names without suffix, so they do not depend on the layout.

    Args:
        root: the dataset's folder, plain or as Kaggle packs it.
        annotations: folder of validation XML files or ``LOC_val_solution.csv``; found in the usual places if None.
        ground_truth: the development kit's ``ILSVRC2012_validation_ground_truth.txt``, a source of labels, but not
            of boxes, if there is no other annotation; needs ``devkit_synsets``
            (see `wsol.data.annotations.ilsvrc.read_ground_truth`).
        devkit_synsets: see `wsol.data.annotations.ilsvrc.read_ground_truth`.
        blacklist: file with the numbers of the validation images to mark, see `wsol.data.source.Split`.
        names: file of ``<synset> <name>`` lines, such as ``LOC_synset_mapping.txt``; classes are then called
            ``<synset> <first name>``.
        classes: synsets or names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults; the default raises at the first.

    Raises:
        InputError: if neither ``train`` nor ``val`` is found, or no labels of validation images are found.
    """

    archives = (
        Archive("ILSVRC2012_img_train.tar", md5="1d675b47d978889d74fa0da5fadfb00e", into="train", nested=True),
        Archive("ILSVRC2012_img_val.tar", md5="29b22e2961454d5413ddabcf34fc5622", into="val"),
        Archive(
            "ILSVRC2012_bbox_val_v3.tgz", md5="f4cd18b5ea29fe6bbea62ec9c20d80f0", into="Annotations/val", prefix="val"
        ),
    )

    def __init__(
        self,
        root: str | Path,
        annotations: str | Path | None = None,
        ground_truth: str | Path | None = None,
        devkit_synsets: str | Path | None = None,
        blacklist: str | Path | None = None,
        names: str | Path | None = None,
        classes: ClassChoice = None,
        sink: Sink = STOP,
    ) -> None:
        folder = require_folder(Path(root), "ILSVRC with train/<synset>/ and val/")
        base = next((folder / f for f in IMAGE_FOLDERS if _has_split(folder / f)), None)
        if base is None:
            places = ", ".join(str(folder / f / "{train,val}") for f in IMAGE_FOLDERS)
            raise InputError(f"{folder}: no images of ILSVRC; looked for {places}")
        super().__init__(base, sink, classes)
        self._annotations = Path(annotations) if annotations else _first_annotations(folder)
        self._ground_truth = Path(ground_truth) if ground_truth else None
        self._devkit_synsets = Path(devkit_synsets) if devkit_synsets else None
        self._blacklist = read_blacklist(Path(blacklist), sink) if blacklist else set()
        self.splits = tuple(name for name, part in (("train", "train"), ("test", "val")) if (base / part).is_dir())
        self._synsets = self._all_synsets()
        self.classes = self._choose(_named(self._synsets, Path(names) if names else None, sink))

    def _all_synsets(self) -> list[str]:
        """Return the synsets of the folders, sorted."""
        if "train" in self.splits:
            there = {path.name for path in class_folders(self._root / "train")}
        else:
            there = {about.synset for _, about in self._val.values()}
        if not there:
            raise InputError(f"{self._root}: empty folder; expected train/<synset>/*.JPEG")
        return sorted(there)

    def _list(self, name: str) -> Listing:
        return self._list_train() if name == "train" else self._list_test()

    def _list_train(self) -> Listing:
        listing = Listing()
        for label, synset in enumerate(self._synsets):
            if not self._wants(label):
                continue
            folder = self._root / "train" / synset
            files = sorted(entry.name for entry in os.scandir(folder) if is_image(entry.name))
            if not files:
                self._sink.add(folder, None, "empty folder; expected images of this class")
            for file in files:
                listing.add(os.path.splitext(file)[0], f"train/{synset}/{file}", label)
        return listing

    def _list_test(self) -> Listing:
        listing = Listing(inclusive=True)
        index = {synset: label for label, synset in enumerate(self._synsets)}
        for stem, (path, about) in sorted(self._val.items()):
            label = index.get(about.synset)
            if label is not None:
                blacklisted = image_number(stem) in self._blacklist
                listing.add(stem, path, label, about.boxes, about.size, blacklisted)
            elif self._chosen is None:
                text = (
                    f"unknown class {about.synset!r} of {stem}: no such folder in train; name classes by classes=[...]"
                )
                self._sink.add(about.file, about.line, text)
        return listing

    @cached_property
    def _val(self) -> dict[str, tuple[str, ImageAnnotation]]:
        """Return path under root and annotation of each validation image, by its stem."""
        stems = self._val_stems()
        known = {}
        for stem, path in stems.items():
            in_folder = path.split("/")[1] if path.count("/") == 2 else None
            about = self._annotated.get(stem)
            if about is None and in_folder and not self._annotated:
                about = ImageAnnotation(in_folder, self._root / path)
            if about is None:
                where = self._annotations or self._ground_truth or "LOC_val_solution.csv, XML files or synset folders"
                self._sink.add(self._root / path, None, f"no annotation of this image; looked in {where}")
            elif in_folder not in (None, about.synset):
                self._sink.add(about.file, about.line, f"{stem} is {about.synset} here but lies in val/{in_folder}")
            else:
                known[stem] = (path, about)
        return known

    def _val_stems(self) -> dict[str, str]:
        """Return the path under root of each validation image, by its stem."""
        folder = self._root / "val"
        stems: dict[str, str] = {}
        for file in image_files(folder):
            path = file.relative_to(self._root).as_posix()
            if stems.setdefault(file.stem, path) != path:
                self._sink.add(file, None, f"this image appears twice, also as {stems[file.stem]}")
        if not stems:
            raise InputError(f"{folder}: empty folder; expected ILSVRC2012_val_*.JPEG, flat or in synset folders")
        return stems

    @cached_property
    def _annotated(self) -> dict[str, ImageAnnotation]:
        """Return the annotations of the validation images, by stem."""
        if self._annotations is not None and self._annotations.is_dir():
            return read_xml_folder(self._annotations, self._sink)
        if self._annotations is not None:
            return read_solution(self._annotations, self._sink)
        if self._ground_truth is not None:
            return read_ground_truth(self._ground_truth, self._devkit_synsets, self._sink)
        return {}

    def verify(self, deep: bool | None = None, report: Report | None = None) -> Report:
        """Like `ListedSource.verify`; a missing annotated validation image is a problem, too."""
        report = super().verify(deep, report)
        if "test" not in self.splits:
            return report
        there = self._val_stems()
        kept = {synset for label, synset in enumerate(self._synsets) if self._wants(label)}
        for stem, about in self._annotated.items():
            if stem not in there and (self._chosen is None or about.synset in kept):
                report.add(about.file, about.line, f"no such image under {self._root / 'val'}: {stem}")
        return report


def _has_split(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "val").is_dir()


def _first_annotations(root: Path) -> Path | None:
    for place in (root / name for name in ANNOTATIONS):
        if place.is_file() or (place.is_dir() and next(place.glob("*.xml"), None)):
            return place
    return None


def _named(synsets: Sequence[str], names: Path | None, sink: Sink) -> tuple[str, ...]:
    """Return class names: the synset, and its first name if known."""
    if names is None:
        return tuple(synsets)
    rows = key_rows(read_rows(names, 2, separator=None, sink=sink, rest=True), sink)
    for synset in (synset for synset in synsets if synset not in rows):
        sink.add(names, None, f"no name of class {synset}")
    return tuple(f"{s} {rows[s].fields[1].split(',')[0]}" if s in rows else s for s in synsets)
