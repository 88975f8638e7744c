"""Caltech-101 with its outlines: images in class folders, and a contour and a box for each.

Li, Andreeto, Ranzato and Perona 2004, https://data.caltech.edu/records/mzrjq-6wc02 (CC BY 4.0)::

    101_ObjectCategories/<class>/image_0001.jpg
    Annotations/<class>/annotation_0001.mat    box_coord (y0, y1, x0, x1), 1-based; obj_contour (2, n) from there

Training and test images are drawn as `wsol.data.datasets.random_splits` does. The objects are large and mostly in the
middle of the image: a box of the middle is right for most of them, so masks (PxAP) tell methods apart and boxes do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wsol.data.annotations.masks import OBJECT
from wsol.data.annotations.text_tables import STOP, Sink
from wsol.data.datasets.random_splits import DrawnFolders
from wsol.data.file_source import AnnotatedBox, Listing, need_folder
from wsol.data.images import image_size
from wsol.data.regular_files import read_regular
from wsol.errors import InputError

RENAMED = {
    "Faces": "Faces_2",
    "Faces_easy": "Faces_3",
    "Motorbikes": "Motorbikes_16",
    "airplanes": "Airplanes_Side_2",
}
"""Folders of annotations that are published under another name than that of their images."""


@dataclass(frozen=True)
class ContourMasks:
    """Makes the mask of an image by filling its contour."""

    image_root: Path
    images: Sequence[str]
    files: Sequence[Path]

    def __call__(self, row: int) -> np.ndarray | None:
        """Return the mask of an image: uint8 (H, W)."""
        width, height = image_size(self.image_root / self.images[row])
        _, contour = read_annotation(self.files[row])
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [np.round(contour).astype(np.int32)], OBJECT)
        return mask if mask.any() else None


class Caltech101(DrawnFolders):
    """Caltech-101 with boxes and masks.

    Args:
        root: ``101_ObjectCategories``.
        annotations: ``Annotations``.
        train_per_class: see `wsol.data.datasets.random_splits.DrawnFolders`; so are the further ones.
        test_per_class: None for all others.
        leave_out: names of folders that are no classes.
        seed: of the draw.
        sink: told of faults; the default raises at the first.

    Raises:
        InputError: as `DrawnFolders`, or an annotation that is missing or cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        annotations: str | Path,
        train_per_class: int,
        test_per_class: int | None = None,
        leave_out: Sequence[str] = (),
        seed: int = 0,
        sink: Sink = STOP,
    ) -> None:
        self._annotations = need_folder(Path(annotations), "a folder of annotation_*.mat for each class")
        self._readers: dict[str, ContourMasks] = {}
        super().__init__(root, train_per_class, test_per_class, leave_out, seed, sink)

    def _list(self, name: str) -> Listing:
        listing, files = super()._list(name), []
        listing.drop_bad_names(self._sink)
        for row, path in enumerate(listing.paths):
            file = self._annotation(path)
            try:
                (x0, y0, x1, y1), _ = read_annotation(file)
                listing.boxes[row] = [AnnotatedBox((x0, y0, x1, y1), file)]
            except InputError as error:
                self._sink.add(file, None, str(error).removeprefix(f"{file}: "))
            files.append(file)
        self._readers[name] = ContourMasks(self._root, listing.paths, files)
        return listing

    def _annotation(self, path: str) -> Path:
        kind, _, image = path.partition("/")
        folder = self._annotations / kind
        if not folder.is_dir():
            folder = self._annotations / RENAMED.get(kind, kind)
        return folder / f"{Path(image).stem.replace('image', 'annotation')}.mat"

    def _masks(self, name: str) -> Callable[[int], np.ndarray | None] | None:
        return self._readers.get(name)


def read_annotation(file: Path) -> tuple[tuple[float, float, float, float], np.ndarray]:
    """Read the box x0, y0, x1, y1, half-open in pixels, and the contour, float (n, 2) x, y, of an image.

    Raises:
        InputError: the file is missing, or is no such annotation.
    """
    import io

    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: dict[str, Any] = loadmat(io.BytesIO(read_regular(file)))
        y0, y1, x0, x1 = map(float, np.asarray(content["box_coord"], np.float64).reshape(4))
        contour = np.asarray(content["obj_contour"], np.float64).reshape(2, -1).T
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected the outline of an image") from None
    except (MatReadError, OSError, KeyError, ValueError, TypeError, NotImplementedError, IndexError) as error:
        raise InputError(f"{file}: expected a MATLAB file with box_coord and obj_contour ({error})") from error
    corner = (x0 - 1, y0 - 1)
    return (*corner, x1, y1), contour + corner
