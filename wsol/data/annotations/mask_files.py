"""Masks of objects stored as files, and the boxes computed from them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsol.data.annotations.text_tables import Sink
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import AnnotatedBox, ListedSource, Listing
from wsol.data.images import image_size, read_grey
from wsol.data.regular_files import name_fault
from wsol.errors import InputError

LOSSY = (".jpg", ".jpeg", ".jfif")
"""Suffixes of JPEG files."""

Decode = Callable[[Path, tuple[int, int]], np.ndarray]
"""Reads a mask file for an image of given width and height: uint8 (H, W), 0 background, 1 object, 255 ignored."""


@dataclass(frozen=True)
class GreyMask:
    """Reads a mask image: pixels of one value are the object, or all that are not zero.

    A JPEG does not keep the values of its pixels: in it, object pixels are those of at least 128.

    Args:
        value: value of the object's pixels, 1 to 255; None for any but 0.
    """

    value: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible values of object pixels."""
        if self.value is not None and (type(self.value) is not int or not 1 <= self.value <= 255):
            raise InputError(
                f"mask_value must be a whole number from 1 to 255, or null for any value but 0; got {self.value!r}"
            )

    def __call__(self, file: Path, size: tuple[int, int]) -> np.ndarray:
        """Return uint8 (H, W) of 0 and 1; ``size`` is not needed."""
        grey = read_grey(file)
        if file.suffix.lower() in LOSSY:
            if self.value is not None:
                raise InputError(f"{file}: a JPEG does not keep the value of its pixels, so mask_value needs PNG files")
            return (grey >= 128).astype(np.uint8)
        return ((grey == self.value) if self.value is not None else (grey > 0)).astype(np.uint8)


@dataclass(frozen=True)
class ObjectMasks:
    """Makes the mask of an image from the files of its objects; picklable.

    A pixel is 1 if any file marks it as object, else 255 if any file ignores it, else 0.
    """

    root: Path
    """The folder of the images."""
    images: Sequence[str]
    """Paths relative to ``root``."""
    files: Sequence[Sequence[Path]]
    """Mask files of each image; none if no object is marked."""
    decode: Decode
    upright: bool = False
    """Whether images are turned upright by their EXIF orientation; masks must then be of the upright image."""

    def __call__(self, row: int) -> np.ndarray | None:
        """Return the mask of an image, uint8 (H, W); None if no object is marked.

        Raises:
            InputError: a file cannot be read, or differs in size from the image.
        """
        if not self.files[row]:
            return None
        width, height = size = image_size(self.root / self.images[row], self.upright)
        joined = np.zeros((height, width), np.uint8)
        for file in self.files[row]:
            mask = self.decode(file, size)
            if mask.shape != joined.shape:
                raise InputError(
                    f"{file}: a mask of {mask.shape[1]} x {mask.shape[0]} pixels, but its image {self.images[row]} is "
                    f"{width} x {height}; store masks at the size of their images"
                )
            joined[(mask == 255) & (joined == 0)] = 255
            joined[mask == 1] = 1
        return joined if (joined == 1).any() else None


class MaskedSource(ListedSource):
    """A dataset with masks. An image without a listed box gets the box around all object pixels of its mask.

    A subclass implements `_list_masks` instead of `_list`. An image without an object has neither box nor mask: it is
    used for training and classification, and left out when boxes or masks are evaluated.
    """

    def __init__(self, root: Path | None, sink: Sink, classes: ClassChoice = None) -> None:
        super().__init__(root, sink, classes)
        self._readers: dict[str, ObjectMasks] = {}
        self._lists: dict[str, Listing] = {}
        self._without_object: dict[str, list[str]] = {}

    @abstractmethod
    def _list_masks(self, name: str) -> tuple[Listing, list[list[Path]], Decode]:
        """Read the lists of a split, and the mask files of each image."""

    def _list(self, name: str) -> Listing:
        if name not in self._lists:
            listing, files, decode = self._list_masks(name)
            files = [of for of, path in zip(files, listing.paths, strict=True) if not name_fault(path)]
            listing.drop_bad_names(self._sink)
            kept = [i for i, label in enumerate(listing.labels) if self._wants(label)]
            if any(files[i] for i in kept):
                paths, of_kept = [listing.paths[i] for i in kept], [files[i] for i in kept]
                self._readers[name] = ObjectMasks(self._root, paths, of_kept, decode, self.upright)
                self._box(name, listing, kept, self._readers[name])
            self._lists[name] = listing
        return self._lists[name].copy()

    def _box(self, name: str, listing: Listing, kept: Sequence[int], reader: ObjectMasks) -> None:
        """Compute missing boxes from masks; row i of the reader is image ``kept[i]`` of the listing."""
        rows = [row for row, i in enumerate(kept) if not listing.boxes[i] and reader.files[row]]
        with ThreadPoolExecutor() as pool:
            for row, found in zip(rows, pool.map(lambda row: _box_of(reader, row), rows), strict=True):
                file = reader.files[row][0]
                if isinstance(found, str):
                    self._sink.add(file, None, found.removeprefix(f"{file}: "))
                elif found is not None:
                    x0, y0, x1, y1 = found
                    ends = (x1 - 1, y1 - 1) if listing.inclusive else (x1, y1)
                    listing.boxes[kept[row]] = [AnnotatedBox((x0, y0, *ends), file)]
        self._without_object[name] = [listing.paths[i] for i in kept if not listing.boxes[i]]

    def _masks(self, name: str) -> Callable[[int], np.ndarray | None] | None:
        return self._readers.get(name)

    def _notes(self) -> Iterable[str]:
        return [
            f"{name}: {len(images)} images have no mask, or one without an object, such as {images[0]}; they are used "
            "for training and classification, and left out when boxes or masks are evaluated"
            for name, images in self._without_object.items()
            if images
        ]


def mask_box(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return the half-open box x0, y0, x1, y1 around all object pixels of a mask (H, W); None if there are none.

    Example:
        >>> mask_box(np.array([[0, 0, 0], [0, 1, 255]]))
        (1.0, 1.0, 2.0, 2.0)
    """
    on = mask == 1
    xs, ys = np.flatnonzero(on.any(0)), np.flatnonzero(on.any(1))
    return (float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)) if len(xs) else None


def _box_of(reader: ObjectMasks, row: int) -> tuple[float, float, float, float] | str | None:
    try:
        mask = reader(row)
    except InputError as error:
        return str(error)
    return None if mask is None else mask_box(mask)
