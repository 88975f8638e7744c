"""Masks of objects in image files: one PNG, or several, for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wsol.data.images import image_size, read_grey
from wsol.errors import InputError

OBJECT, IGNORED = 1, 255
"""Values of a mask as the package has it; 0 is background."""


@dataclass(frozen=True)
class MaskReader:
    """Makes the mask of an image from the PNGs of its objects.

    A pixel is 1 where any object's mask is on, else 255 where any ignore mask is on, else 0. Masks of another size than
    their image are brought to the image's size by nearest neighbour. Without images, and where no list tells the size,
    an image's first mask gives it.
    """

    image_root: Path | None
    mask_root: Path
    images: Sequence[str]
    sizes: np.ndarray
    """int (N, 2) listed width and height of each image; 0 where they are not listed."""
    objects: Sequence[Sequence[str]]
    """Mask files of each image."""
    ignored: Sequence[Sequence[str]]
    """Ignore files of each image."""

    def __call__(self, row: int) -> np.ndarray | None:
        """Return the mask of an image: uint8 (H, W), or None if it has none."""
        if not self.objects[row]:
            return None
        size = self.size(row)
        mask = np.zeros((size[1], size[0]), dtype=np.uint8)
        for file in self.ignored[row]:
            mask[self._on(file, size)] = 255
        for file in self.objects[row]:
            mask[self._on(file, size)] = 1
        return mask

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of an image that has masks."""
        if self.sizes[row].all():
            width, height = self.sizes[row].tolist()
            return width, height
        if self.image_root is not None:
            return image_size(self.image_root / self.images[row])
        return image_size(self.mask_root / self.objects[row][0])

    def files(self, row: int) -> list[Path]:
        """All files that the mask of an image is made of."""
        return [self.mask_root / file for file in (*self.objects[row], *self.ignored[row])]

    def _on(self, file: str, size: tuple[int, int]) -> np.ndarray:
        grey = read_grey(self.mask_root / file)
        if grey.shape != size[::-1]:
            grey = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.NEAREST))
        return grey > 0


@dataclass(frozen=True)
class MaskFiles:
    """Makes the mask of an image from mask files of the same size.

    Example:
        >>> MaskFiles(Path("masks"), [()])(0) is None
        True
    """

    root: Path
    files: Sequence[Sequence[str]]
    """Mask files of each image below ``root``; an object is in any of them."""
    object_values: tuple[int, ...] = ()
    """Grey values that are the object; every value above 0 if empty."""
    ignored_values: tuple[int, ...] = ()
    """Grey values that do not count, such as the border in a trimap."""

    def __call__(self, row: int) -> np.ndarray | None:
        """Return the mask of an image: uint8 (H, W); None if it has no file, or none of its files shows an object.

        Raises:
            InputError: a file that is missing, is no image, or has another size than the first one of its image.
        """
        mask: np.ndarray | None = None
        for name in self.files[row]:
            grey = read_grey(self.root / name)
            if mask is None:
                mask = np.zeros(grey.shape, np.uint8)
            elif mask.shape != grey.shape:
                raise InputError(
                    f"{self.root / name}: mask of {grey.shape[1]} x {grey.shape[0]} pixels, but "
                    f"{self.files[row][0]} has {mask.shape[1]} x {mask.shape[0]}; give masks of one size"
                )
            mask[np.isin(grey, self.ignored_values) & (mask != OBJECT)] = IGNORED
            mask[np.isin(grey, self.object_values) if self.object_values else grey > 0] = OBJECT
        return mask if mask is not None and (mask == OBJECT).any() else None


def box_of_mask(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box around all pixels of the object: x0, y0, x1, y1, half-open.

    Args:
        mask: (H, W) with at least one `OBJECT`.

    Example:
        >>> box_of_mask(np.array([[0, 0, 0], [0, 1, 1]]))
        (1, 1, 3, 2)
    """
    columns, rows = (np.flatnonzero((mask == OBJECT).any(axis)) for axis in (0, 1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def boxes_of_masks(
    read_mask: Callable[[int], np.ndarray | None], count: int
) -> list[tuple[tuple[int, int, int, int], tuple[int, int]] | InputError | None]:
    """Read many masks at once.

    Args:
        read_mask: makes the mask of the image at a row.
        count: number of rows.

    Returns:
        For each image the box around its object with the mask's width and height; None without an object; what is
        wrong with a mask that cannot be read.
    """

    def look(row: int) -> tuple[tuple[int, int, int, int], tuple[int, int]] | InputError | None:
        try:
            mask = read_mask(row)
        except InputError as error:
            return error
        return None if mask is None else (box_of_mask(mask), (mask.shape[1], mask.shape[0]))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(look, range(count)))
