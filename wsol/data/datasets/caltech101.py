"""Caltech-101 with its contours: photographs of 101 classes of objects, with an outline of each object.

Li, Fergus and Perona 2004, "Learning Generative Visual Models from Few Training Examples",
https://data.caltech.edu/records/mzrjq-6wc02

The published layout is read, complete or with some of the classes; ``images`` and ``annotations`` give other names of
the folders::

    101_ObjectCategories/<class>/image_0001.jpg
    Annotations/<class>/annotation_0001.mat      box_coord (y0, y1, x0, x1) and obj_contour (2, n), from 1

The annotations of ``Faces``, ``Faces_easy``, ``Motorbikes`` and ``airplanes`` lie in ``Faces_2``, ``Faces_3``,
``Motorbikes_16`` and ``Airplanes_Side_2``. No split is published: it is drawn at random as in
`wsol.data.datasets.random_splits`, or read from a list.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.io import loadmat

from wsol.data.annotations.mask_files import Decode, MaskedSource
from wsol.data.annotations.text_tables import LARGEST_SIDE, STOP, Sink, read_text
from wsol.data.class_names import ClassChoice
from wsol.data.datasets.random_splits import Draw
from wsol.data.file_source import AnnotatedBox, Listing, require_folder
from wsol.data.image_files import class_folders, is_image
from wsol.data.prepare.archives import Archive
from wsol.data.regular_files import name_fault, read_regular
from wsol.data.source import SPLITS
from wsol.errors import InputError

FOLDERS = {
    "Faces": "Faces_2",
    "Faces_easy": "Faces_3",
    "Motorbikes": "Motorbikes_16",
    "airplanes": "Airplanes_Side_2",
}
"""Annotation folders that are not named like their class."""


def read_annotation(file: Path) -> tuple[tuple[float, float, float, float], np.ndarray]:
    """Read ``annotation_*.mat``; no code in it is run.

    Returns:
        The published box, half-open x0, y0, x1, y1, and the corners of the outline, float64 (n, 2) of x and y, both in
        pixels of the image counted from 0.

    Raises:
        InputError: the file is not such an annotation.
    """
    try:
        found = loadmat(io.BytesIO(read_regular(file)), variable_names=("box_coord", "obj_contour"))
        box, contour = (np.asarray(found[key], np.float64) for key in ("box_coord", "obj_contour"))
        if box.size != 4 or contour.ndim != 2 or contour.shape[0] != 2 or not contour.shape[1]:
            raise ValueError(f"box_coord of shape {box.shape} and obj_contour of shape {contour.shape}")
        if not (np.isfinite(box).all() and np.isfinite(contour).all() and np.abs(contour).max() < LARGEST_SIDE):
            raise ValueError("numbers that cannot be pixels")
    except Exception as error:  # scipy has no common error class for damaged files
        raise InputError(
            f"{file}: not an annotation of Caltech-101 ({error}); expected box_coord (1, 4) and obj_contour (2, n)"
        ) from error
    y0, y1, x0, x1 = box.ravel().tolist()
    return (x0 - 1, y0 - 1, x1, y1), contour.T + np.array([x0 - 1, y0 - 1])


def read_contour(file: Path, size: tuple[int, int]) -> np.ndarray:
    """Fill an object's outline.

    Args:
        file: ``annotation_*.mat``.
        size: width and height of the image, pixels.

    Returns:
        uint8 (H, W), 1 on the outline and inside it.

    Raises:
        InputError: see `read_annotation`.
    """
    points = np.round(read_annotation(file)[1]).astype(np.int32)
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(mask, [points[:, None]], 1)
    return mask


class Caltech101(MaskedSource):
    """Caltech-101 with masks and boxes from its contours.

    Classes are the folders' names in sorted order. A box is the published ``box_coord``, which is a few pixels larger
    than the outline.

    Args:
        root: the folder with images and annotations.
        images: folder of the images, relative to ``root``.
        annotations: folder of the annotations, relative to ``root``.
        split_list: CSV with the columns ``image`` (``<class>/image_0001.jpg``) and ``split``, relative to ``root``;
            None to draw splits.
        train_per_class: number of training images of each class, if splits are drawn.
        test_per_class: largest number of test images of each class, from the others; None for all.
        leave_out: names of folders that are no classes; they need not exist.
        seed: seed of the random choice.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults; the default raises at the first.

    Raises:
        InputError: no class folders, too few images of a class, or a list or annotation with a fault.
    """

    archives = (
        Archive("101_ObjectCategories.tar.gz", md5=None),
        Archive("Annotations.tar", md5=None),
    )

    def __init__(
        self,
        root: str | Path,
        images: str = "101_ObjectCategories",
        annotations: str = "Annotations",
        split_list: str | None = None,
        train_per_class: int = 30,
        test_per_class: int | None = 50,
        leave_out: Sequence[str] = ("BACKGROUND_Google",),
        seed: int = 0,
        classes: ClassChoice = None,
        sink: Sink = STOP,
    ) -> None:
        folder = require_folder(Path(root), f"{images} and {annotations}")
        super().__init__(require_folder(folder / images, "a folder of images for each class"), sink, classes)
        self._annotations = require_folder(folder / annotations, "a folder of annotation_*.mat for each class")
        draw = Draw(train_per_class, test_per_class, seed)
        found = class_folders(self._root)
        for path in [path for path in found if name_fault(path.name)]:
            sink.add(ascii(str(path)), None, str(name_fault(path.name)))
            found.remove(path)
        self._folders = [path.name for path in found if path.name not in leave_out]
        if not self._folders:
            raise InputError(f"{self._root}: no class folders; expected <class>/image_0001.jpg in it")
        self.classes = self._choose(self._folders)
        self._sides = self._listed(folder / split_list) if split_list else self._drawn(draw)
        self.splits = tuple(name for name in SPLITS if name in self._sides.values())
        if not self.splits:
            raise InputError(f"{folder}: no image is in a split; expected image,split with train, val or test")
        self._ready()

    def _files(self, folder: str) -> list[str]:
        return sorted(f"{folder}/{path.name}" for path in (self._root / folder).iterdir() if is_image(path.name))

    def _drawn(self, draw: Draw) -> dict[str, str]:
        """Return the split of each image, drawn at random."""
        drawn = {folder: draw.files(self._root / folder, self._sink) or {} for folder in self._folders}
        return {
            f"{folder}/{file}": split
            for folder, splits in drawn.items()
            for split, files in splits.items()
            for file in files
        }

    def _listed(self, file: Path) -> dict[str, str]:
        """Return the split of each image, from a list."""
        reader = csv.DictReader(io.StringIO(read_text(file, self._sink), newline=""))
        if not {"image", "split"} <= set(reader.fieldnames or ()):
            raise InputError(f"{file}:1: expected a header with image and split, got {reader.fieldnames}")
        there = {path for folder in self._folders for path in self._files(folder)}
        sides: dict[str, str] = {}
        for row in reader:
            image, side = row["image"], row["split"]
            if side not in SPLITS:
                self._sink.add(file, reader.line_num, f"expected train, val or test, got {side!r}")
            elif image in sides:
                self._sink.add(file, reader.line_num, f"{image!r} is already listed")
            elif image not in there:
                self._sink.add(file, reader.line_num, f"{image!r} is not among the images of {self._root}")
            else:
                sides[image] = side
        return sides

    def _list_masks(self, name: str) -> tuple[Listing, list[list[Path]], Decode]:
        listing = Listing()
        files = []
        labels = {folder: label for label, folder in enumerate(self._folders)}
        for path in sorted(path for path, side in self._sides.items() if side == name):
            folder, image = path.split("/", 1)
            file = self._contour(folder, Path(image).stem)
            boxes = []
            try:
                boxes.append(AnnotatedBox(read_annotation(file)[0], file))
                files.append([file])
            except InputError as error:
                self._sink.add(file, None, str(error).removeprefix(f"{file}: "))
                files.append([])
            listing.add(path, path, labels[folder], boxes)
        return listing, files, read_contour

    def _contour(self, folder: str, image: str) -> Path:
        file = f"annotation_{image.removeprefix('image_')}.mat"
        own = self._annotations / folder / file
        return own if own.parent.is_dir() else self._annotations / FOLDERS.get(folder, folder) / file
