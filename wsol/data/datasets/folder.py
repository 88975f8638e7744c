"""Your own images: a folder for each class, with boxes or masks if you have them.

The images are either divided into splits, and any split may be missing, or flat::

    root/train/<class>/**        root/<class>/**
    root/val/<class>/**
    root/test/<class>/**

Folders of splits have one of the usual names in any letter case: ``train``, ``training``; ``val``, ``valid``,
``validation``, ``dev``; ``test``, ``testing``; also followed by ``set``, ``images`` or a year. Photographs are turned
upright, as their EXIF orientation says, and boxes are of the upright image.

Boxes come as CSV or COCO JSON (`wsol.data.annotations.box_files`), naming images by their path relative to ``root``
or, if only one image has that name, by file name. If a file has boxes of several categories, those of an image's own
class are used (`wsol.data.annotations.box_categories`). Masks are files with the images' names in a separate folder::

    masks/train/<class>/<name>.png

If an image has a mask but no box, its box is the one around all object pixels of the mask. An image whose mask shows
no object is used only for training and classification. A dataset without boxes and masks can only be trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from wsol.data.annotations.box_categories import own_boxes
from wsol.data.annotations.box_files import Annotations, by_path, look_like_fractions, read_boxes
from wsol.data.annotations.mask_files import Decode, GreyMask, MaskedSource
from wsol.data.annotations.text_tables import STOP, Sink
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import AnnotatedBox, Listing, require_folder
from wsol.data.image_files import class_folders, files_under, image_files, is_image, is_leftover
from wsol.data.images import image_size
from wsol.data.regular_files import name_fault
from wsol.data.source import SPLITS
from wsol.errors import InputError, unknown

TEXTS = (".txt", ".csv", ".json", ".xml", ".md", ".ini", ".mat", ".yaml", ".yml")
"""Endings of files that nobody expects to be read as images."""
UNITS = ("pixels", "fractions")
NAMES = {"train": "train|training", "val": "val|valid|validation|dev", "test": "test|testing"}
"""Names of folders of splits, as regular expressions."""
MASK = re.compile(r"(.+)[ _-](mask|masks|seg|segmentation|gt|groundtruth)([ _-]?\d+)?", re.I)
"""The name, without suffix, of a mask that lies beside its image."""
ENDING = r"([ _-]?(set|split|data|images|\d{4}))?"


class Folder(MaskedSource):
    """Images in class folders.

    Classes are the folders' names in sorted order: those of ``train`` if it exists.

    Args:
        root: the dataset's folder.
        boxes: CSV or COCO JSON file, absolute or relative to ``root``; None if there are no boxes.
        inclusive: whether x1, y1 of a CSV name the last pixel inside rather than the edge.
        masks: folder of masks, absolute or relative to ``root``. A mask has the path of its image relative to ``root``,
            with the suffix ``.png`` or the image's own. None if there are none.
        mask_value: the value of object pixels in masks, 1 to 255; None for any value but 0.
        flat_split: the split of a flat folder: ``train``, ``val`` or ``test``.
        box_units: ``pixels``, or ``fractions`` of the image's width and height.
        categories: names of the categories whose boxes mark the objects; None to match them with the class names.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults; the default raises at the first.

    Raises:
        InputError: if there are no images, two folders are the same split, ``val`` or ``test`` has a class that
            ``train`` lacks, boxes are faulty, a mask is unreadable or differs in size from its image, or only some
            images of a split have masks.
    """

    upright = True

    def __init__(
        self,
        root: str | Path,
        boxes: str | Path | None = None,
        inclusive: bool = False,
        masks: str | Path | None = None,
        mask_value: int | None = None,
        flat_split: str = "train",
        box_units: str = "pixels",
        categories: Sequence[str] | None = None,
        classes: ClassChoice = None,
        sink: Sink = STOP,
    ) -> None:
        folder = require_folder(Path(root), "train/<class>/ (and val/, test/) or <class>/ with images")
        super().__init__(folder, sink, classes)
        if flat_split not in SPLITS:
            raise unknown("flat_split", flat_split, SPLITS)
        if box_units not in UNITS:
            raise unknown("box_units", box_units, UNITS)
        if inclusive and box_units == "fractions":
            raise InputError("data.inclusive=true: fractions have no last pixel; set it to false")
        self._boxes_inclusive, self._units, self._categories = inclusive, box_units, categories
        self._mask_root = require_folder(self._root / masks, "masks with the images' names") if masks else None
        self._decode = GreyMask(mask_value)
        self._folders = split_folders(self._root) or {flat_split: self._root}
        self.splits = tuple(self._folders)
        self._files = {name: self._by_class(name) for name in self.splits}
        self._names = sorted(self._files["train" if "train" in self._files else self.splits[0]])
        self.classes = self._choose(self._names)
        self._other_boxes = 0
        self._boxes = self._read_boxes(self._root / boxes) if boxes else Annotations({}, {}, False, {})
        self._mask_files = self._find_masks(self._mask_root) if self._mask_root else {}
        self._ready()

    def _by_class(self, split: str) -> dict[str, list[str]]:
        """Return the paths under root of a split's images, by class."""
        folder = self._folders[split]
        masks = self._mask_root.resolve() if self._mask_root else None
        classes = [path for path in class_folders(folder) if path.resolve() != masks]
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
        """Read boxes by path under root."""
        read = read_boxes(file, self._boxes_inclusive, self._sink)
        classes = {path: name for files in self._files.values() for name, paths in files.items() for path in paths}
        names, lost = by_path(read.lines, {path: path for path in classes})
        for name in lost:
            self._sink.add(file, read.lines[name], f"{name!r} names no image under {self._root}, or several")
        boxes = {path: read.boxes[name] for path, name in names.items() if name in read.boxes}
        boxes, self._other_boxes = own_boxes(boxes, classes, self._categories, file)
        sizes = {path: read.sizes[name] for path, name in names.items() if name in read.sizes}
        return Annotations(self._in_pixels(boxes, file), sizes, read.inclusive, read.lines)

    def _in_pixels(self, boxes: dict[str, list[AnnotatedBox]], file: Path) -> dict[str, list[AnnotatedBox]]:
        """Return boxes in pixels of the upright image."""
        if self._units == "pixels":
            count = sum(map(len, boxes.values()))
            if count and look_like_fractions(box for of_image in boxes.values() for box in of_image):
                self._sink.add(
                    file,
                    None,
                    f"most of its {count:,} boxes lie within 0 and 1, so they look like fractions of the image; "
                    "expected pixels. Set data.box_units=fractions if they are fractions of width and height",
                )
            return boxes
        return {path: [self._scaled(box, path) for box in of_image] for path, of_image in boxes.items()}

    def _scaled(self, marked: AnnotatedBox, path: str) -> AnnotatedBox:
        try:
            width, height = image_size(self._root / path, self.upright)
        except InputError:  # the check of the images reports it
            return marked
        x0, y0, x1, y1 = marked.box
        return marked._replace(box=(x0 * width, y0 * height, x1 * width, y1 * height))

    def _find_masks(self, folder: Path) -> dict[str, Path]:
        """Return mask files by the path of their image under root."""
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
        labels = {folder: label for label, folder in enumerate(self._names)}
        for folder, paths in self._files[name].items():
            if folder not in labels:
                self._sink.add(self._folders[name] / folder, None, f"unknown class {folder!r}: no such folder in train")
                continue
            for path in paths:
                size = self._boxes.sizes.get(path)
                listing.add(path, path, labels[folder], self._boxes.boxes.get(path, ()), size)
        files = [[self._mask_files[path]] if path in self._mask_files else [] for path in listing.paths]
        return listing, files, self._decode

    def _notes(self) -> Iterable[str]:
        yield from super()._notes()
        folders = [folder / name for split, folder in self._folders.items() for name in self._files[split]]
        if others := [path for folder in folders for path in files_under(folder, _is_no_image)]:
            yield f"{len(others):,} files are left out: their endings are of no image that is read, such as {others[0]}"
        for name in self.splits:
            if not self._build(name).has_boxes and name != "train":
                yield f"{name}: no boxes, so localization cannot be evaluated on it"

    def _warnings(self) -> Iterable[str]:
        if self._root not in self._folders.values():
            masks = self._mask_root.resolve() if self._mask_root else Path()
            for path in class_folders(self._root):
                if masks.is_relative_to(path.resolve()):
                    continue
                if path not in self._folders.values() and next(files_under(path, is_image), None):
                    yield f"{path} is ignored: it lies beside {', '.join(self.splits)}, but has no name of a split"
        if found := [path for of in self._files.values() for paths in of.values() for path in _masks_among(paths)]:
            yield (
                f"{len(found):,} images look like masks of others beside them, such as {found[0]}, but are used as "
                "images; move masks to a folder of their own, and set data.masks to it"
            )
        if self._other_boxes:
            yield f"{self._other_boxes:,} boxes are of other categories than their image's class and are left out"


def _masks_among(paths: Sequence[str]) -> Iterator[str]:
    """Yield the images of a class whose names are those of others with the ending of a mask."""
    there = {str(PurePosixPath(path).with_suffix("")) for path in paths}
    for path in paths:
        if (found := MASK.fullmatch(str(PurePosixPath(path).with_suffix("")))) and found[1] in there:
            yield path


def _is_no_image(name: str) -> bool:
    return "." in name and not is_image(name) and not is_leftover(name) and not name.lower().endswith(TEXTS)


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of a dataset that are splits, by split; none if it is flat.

    Raises:
        InputError: two folders are the same split, or a folder with the name of a split has images but no class
            folders.
    """
    found: dict[str, Path] = {}
    for path in class_folders(root):
        name = next(
            (split for split, names in NAMES.items() if re.fullmatch(f"({names}){ENDING}", path.name, re.I)), None
        )
        if name is None:
            continue
        if name in found:
            raise InputError(
                f"{root}: {found[name].name!r} and {path.name!r} both look like the {name} split; keep one"
            )
        found[name] = path
    for path in found.values():
        if not class_folders(path) and any(is_image(entry.name) for entry in path.iterdir()):
            raise InputError(
                f"{path}: has images but no class folders. As a split it needs <class>/*.jpg in it; as a class of a "
                "flat folder it needs another name"
            )
    return {name: found[name] for name in SPLITS if name in found}
