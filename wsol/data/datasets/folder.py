"""Any images of yours: a folder for each class, and boxes if you have them.

Either divided in splits, of which any may be missing, or flat::

    root/train/<class>/**        root/<class>/**
    root/val/<class>/**
    root/test/<class>/**

Boxes come as CSV or COCO JSON (`wsol.data.annotations.box_files`), naming images by their path relative to ``root``
or, where only one image is called so, by file name. Masks are files of the images' names in a folder of their own::

    masks/train/<class>/<name>.png

Where an image has a mask but no box, its box is the one around all object pixels of the mask. An image whose mask shows
no object takes part in training and classification alone. Without boxes and masks a dataset serves for training alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from wsol.data.annotations.box_files import Annotations, by_path, read_boxes
from wsol.data.annotations.mask_files import Decode, GreyMask, MaskedSource
from wsol.data.annotations.text_tables import STOP, Sink
from wsol.data.file_source import Listing, need_folder
from wsol.data.image_files import image_files
from wsol.data.regular_files import name_fault
from wsol.data.source import SPLITS
from wsol.errors import InputError, unknown


class Folder(MaskedSource):
    """Images in class folders.

    Classes are the folders' names in sorted order: those of ``train`` where there is one.

    Args:
        root: the dataset's folder.
        boxes: CSV or COCO JSON file, absolute or relative to ``root``; None if there are no boxes.
        inclusive: whether x1, y1 of a CSV name the last pixel inside rather than the edge.
        masks: folder of masks, absolute or relative to ``root``, with the images' names relative to ``root`` but the
            suffix ``.png`` (or the images' own); None if there are none.
        mask_value: the value of object pixels in masks, 1 to 255; None for any but 0.
        flat_split: what a flat folder is: ``train``, ``val`` or ``test``.
        sink: told of faults; the default raises at the first.

    Raises:
        InputError: if there are no images, ``val`` or ``test`` has a class that ``train`` lacks, boxes are faulty, a
            mask is unreadable or of another size than its image, or some images of a split have masks and others none.
    """

    def __init__(
        self,
        root: str | Path,
        boxes: str | Path | None = None,
        inclusive: bool = False,
        masks: str | Path | None = None,
        mask_value: int | None = None,
        flat_split: str = "train",
        sink: Sink = STOP,
    ) -> None:
        super().__init__(need_folder(Path(root), "train/<class>/ (and val/, test/) or <class>/ with images"), sink)
        if flat_split not in SPLITS:
            raise unknown("flat_split", flat_split, SPLITS)
        self._boxes_inclusive = inclusive
        self._mask_root = need_folder(self._root / masks, "masks with the images' names") if masks else None
        self._decode = GreyMask(mask_value)
        folders = {name: self._root / name for name in SPLITS if (self._root / name).is_dir()}
        self._folders = folders or {flat_split: self._root}
        self.splits = tuple(self._folders)
        self._files = {name: self._by_class(name) for name in self.splits}
        self.classes = tuple(sorted(self._files["train" if "train" in self._files else self.splits[0]]))
        self._boxes = self._read_boxes(self._root / boxes) if boxes else Annotations({}, {}, False, {})
        self._mask_files = self._find_masks(self._mask_root) if self._mask_root else {}
        self._ready()

    def _by_class(self, split: str) -> dict[str, list[str]]:
        """Paths under root of a split's images, by class."""
        folder = self._folders[split]
        masks = self._mask_root.resolve() if self._mask_root else None
        found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        classes = sorted(path for path in found if path.resolve() != masks)
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

    def _find_masks(self, folder: Path) -> dict[str, Path]:
        """Mask file by path of its image under root."""
        there = {path.relative_to(folder).as_posix(): path for path in image_files(folder)}
        found: dict[str, Path] = {}
        for name, files in self._files.items():
            images = [path for of_class in files.values() for path in of_class]
            named = {path: [str(PurePosixPath(path).with_suffix(".png")), path] for path in images}
            own = {path: there[file] for path, files in named.items() for file in files[::-1] if file in there}
            bare = [path for path in images if path not in own]
            if own and bare:
                self._sink.add(
                    folder,
                    None,
                    f"{len(bare):,} of the {len(images):,} images of {name!r} have no mask, such as {bare[0]}; give "
                    "every image of a split a mask, one without object pixels where there is no object",
                )
            found |= own
        used = set(found.values())
        lost = [path for path in there.values() if path not in used]
        if lost:
            self._sink.add(
                lost[0],
                None,
                f"names no image under {self._root}, nor do {len(lost) - 1:,} other masks; expected their names",
            )
        return found

    def _list_masks(self, name: str) -> tuple[Listing, list[list[Path]], Decode]:
        listing = Listing(inclusive=self._boxes.inclusive)
        for folder, paths in self._files[name].items():
            if folder not in self.classes:
                self._sink.add(self._folders[name] / folder, None, f"unknown class {folder!r}: no such folder in train")
                continue
            for path in paths:
                size = self._boxes.sizes.get(path)
                listing.add(path, path, self.classes.index(folder), self._boxes.boxes.get(path, ()), size)
        files = [[self._mask_files[path]] if path in self._mask_files else [] for path in listing.paths]
        return listing, files, self._decode

    def _notes(self) -> Iterable[str]:
        yield from super()._notes()
        for name in self.splits:
            if not self._build(name).has_boxes and name != "train":
                yield f"{name}: no boxes, so localization cannot be judged on it"
