"""Any images of yours: a folder for each class, and boxes if you have them.

Either divided in splits, of which any may be missing, or flat::

    root/train/<class>/**        root/<class>/**
    root/val/<class>/**
    root/test/<class>/**

Boxes come as CSV or COCO JSON (`wsol.data.annotations.box_files`), naming images by their path relative to ``root``
or, where only one image is called so, by file name. Without boxes a dataset serves for training alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsol.data.annotations.box_files import Annotations, by_path, read_boxes
from wsol.data.annotations.text_tables import STOP, Sink
from wsol.data.file_source import ListedSource, Listing, need_folder
from wsol.data.image_files import image_files
from wsol.data.regular_files import name_fault
from wsol.data.source import SPLITS
from wsol.errors import InputError, unknown


class Folder(ListedSource):
    """Images in class folders.

    Classes are the folders' names in sorted order: those of ``train`` where there is one.

    Args:
        root: the dataset's folder.
        boxes: CSV or COCO JSON file, absolute or relative to ``root``; None if there are no boxes.
        inclusive: whether x1, y1 of a CSV name the last pixel inside rather than the edge.
        flat_split: what a flat folder is: ``train``, ``val`` or ``test``.
        sink: told of faults; the default raises at the first.

    Raises:
        InputError: if there are no images, ``val`` or ``test`` has a class that ``train`` lacks, or boxes are faulty.
    """

    def __init__(
        self,
        root: str | Path,
        boxes: str | Path | None = None,
        inclusive: bool = False,
        flat_split: str = "train",
        sink: Sink = STOP,
    ) -> None:
        super().__init__(need_folder(Path(root), "train/<class>/ (and val/, test/) or <class>/ with images"), sink)
        if flat_split not in SPLITS:
            raise unknown("flat_split", flat_split, SPLITS)
        self._boxes_inclusive = inclusive
        folders = {name: self._root / name for name in SPLITS if (self._root / name).is_dir()}
        self._folders = folders or {flat_split: self._root}
        self.splits = tuple(self._folders)
        self._files = {name: self._by_class(name) for name in self.splits}
        self.classes = tuple(sorted(self._files["train" if "train" in self._files else self.splits[0]]))
        self._boxes = self._read_boxes(self._root / boxes) if boxes else Annotations({}, {}, False, {})
        self._ready()

    def _by_class(self, split: str) -> dict[str, list[str]]:
        """Paths under root of a split's images, by class."""
        folder = self._folders[split]
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        for path in [path for path in classes if name_fault(path.name)]:
            self._sink.add(ascii(str(path)), None, str(name_fault(path.name)))
            classes.remove(path)
        files = {path.name: [p.relative_to(self._root).as_posix() for p in image_files(path)] for path in classes}
        if not any(files.values()):
            raise InputError(f"{folder}: no images; looked for <class>/*.jpg and other image files in it")
        for name in (name for name, paths in files.items() if not paths):
            self._sink.add(folder / name, None, "empty folder; expected images of this class")
        return files

    def _read_boxes(self, file: Path) -> Annotations:
        """Boxes by path under root."""
        read = read_boxes(file, self._boxes_inclusive, self._sink)
        paths = {path: path for files in self._files.values() for of_class in files.values() for path in of_class}
        names, lost = by_path(read.lines, paths)
        for name in lost:
            self._sink.add(file, read.lines[name], f"{name!r} names no image under {self._root}, or several")
        boxes = {path: read.boxes[name] for path, name in names.items() if name in read.boxes}
        sizes = {path: read.sizes[name] for path, name in names.items() if name in read.sizes}
        return Annotations(boxes, sizes, read.inclusive, read.lines)

    def _list(self, name: str) -> Listing:
        listing = Listing(inclusive=self._boxes.inclusive)
        for folder, paths in self._files[name].items():
            if folder not in self.classes:
                self._sink.add(self._folders[name] / folder, None, f"unknown class {folder!r}: no such folder in train")
                continue
            for path in paths:
                size = self._boxes.sizes.get(path)
                listing.add(path, path, self.classes.index(folder), self._boxes.boxes.get(path, ()), size)
        return listing

    def _notes(self) -> Iterable[str]:
        for name in self.splits:
            if not self._build(name).has_boxes and name != "train":
                yield f"{name}: no boxes, so localization cannot be judged on it"
