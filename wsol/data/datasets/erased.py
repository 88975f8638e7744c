"""A split with regions of its images painted over: regions that a network has already found (adversarial erasing).

Wei et al. 2017, "Object Region Mining with Adversarial Erasing: A Simple Classification to Semantic Segmentation
Approach", section 3.1: networks are trained in rounds, each on images with the regions of all earlier rounds
replaced by the mean pixel. The stored image is painted before any transform, so that crops, flips and resizing apply to
the regions, too. For several rounds, a split is wrapped once for each.

A folder of regions holds ``masks.npy``, one row of packed bits for each image of the split in its order, side x side
over the whole image (64 x 64: 512 bytes), and ``about.json``, which describes the split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.lib.format import write_array_header_1_0

from wsol.data.packed import BROKEN_ARRAY, MappedArray
from wsol.data.regular_files import open_regular, read_regular
from wsol.data.source import Split
from wsol.errors import InputError
from wsol.files import atomic_folder

VERSION = 1


class ErasedSplit(Split):
    """A split that differs from another only in the pixels painted over.

    Args:
        split: the images.
        folder: their regions, from `write_regions`.
        fill: the mean pixel, red, green and blue in [0, 1]: the ``mean`` of the backbone's preprocessing.

    Raises:
        InputError: the folder has no regions or those of another split, or a file has the wrong size.
    """

    def __init__(self, split: Split, folder: str | Path, fill: Sequence[float]) -> None:
        super().__init__(split.name, split.ids, split.labels, split.boxes, split.has_masks, split.blacklist)
        self._inner = split
        self._bits, self._side = _open(Path(folder), split)
        self._fill = np.rint(np.clip(fill, 0, 1) * 255).astype(np.uint8)

    def region(self, i: int) -> np.ndarray:
        """Return the region of image ``i`` from this folder: bool (side, side) over the whole image."""
        return self._region(int(self._rows[i]))

    def _region(self, row: int) -> np.ndarray:
        return np.unpackbits(self._bits.values[row], count=self._side**2).reshape(self._side, self._side).astype(bool)

    def _read_image(self, row: int) -> np.ndarray:
        return paint(self._inner.image(row), self._region(row), self._fill)

    def _read_size(self, row: int) -> tuple[int, int]:
        return self._inner.size(row)

    def _read_mask(self, row: int) -> np.ndarray | None:
        return self._inner.mask(row)


def paint(image: np.ndarray, region: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Paint a region over an image.

    Args:
        image: uint8 (H, W, 3).
        region: bool (h, w) over the whole image; its edge is interpolated linearly.
        fill: uint8 (3,).

    Returns:
        A new array; the image itself if the region is empty.

    Example:
        >>> paint(np.zeros((1, 4, 3), np.uint8), np.array([[False, True]]), np.array([7, 8, 9], np.uint8))[0, :, 0]
        array([0, 0, 7, 7], dtype=uint8)
    """
    if not region.any():
        return image
    size = image.shape[1], image.shape[0]
    out = image.copy()
    out[cv2.resize(region.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5] = fill
    return out


def write_regions(folder: str | Path, split: Split, regions: Iterable[np.ndarray], side: int = 64) -> None:
    """Write the regions of a split; the folder appears when all are written.

    Args:
        folder: the folder to write; it must not exist.
        split: the split of the regions.
        regions: bool (side, side) over the whole image, one for each image in the split's order.
        side: side of a region.

    Raises:
        InputError: the numbers of regions and images differ, a region has another shape, or the folder cannot be
            written.
    """
    folder = Path(folder)
    try:
        with atomic_folder(folder) as partial:
            shape = (len(split), -(-side * side // 8))
            count = 0
            with (partial / "masks.npy").open("wb") as file:  # no memory map: a full disk would kill the process
                write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for region in regions:
                    if count == len(split) or region.shape != (side, side):
                        found = f"{region.shape} as number {count + 1}"
                        raise InputError(f"{folder}: expected {len(split)} regions of {side} x {side}, got {found}")
                    file.write(np.packbits(region).tobytes())
                    count += 1
            if count < len(split):
                raise InputError(f"{folder}: expected {len(split)} regions, one for each image, got {count}")
            about = {"version": VERSION, "split": split.name, "fingerprint": split.fingerprint(), "side": side}
            (partial / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose a new folder") from error


def _open(folder: Path, split: Split) -> tuple[MappedArray, int]:
    """Return the packed regions of a split, mapped into memory, and their side."""
    try:
        about = json.loads(read_regular(folder / "about.json"))
        version, fingerprint, side = about["version"], about["fingerprint"], int(about["side"])
        open_regular(folder / "masks.npy").close()
        mapped = MappedArray(folder / "masks.npy")
        bits = mapped.values
    except BROKEN_ARRAY as error:
        raise InputError(f"{folder}: no regions, or damaged ones ({error}); delete it and create them again") from error
    if version != VERSION:
        raise InputError(f"{folder / 'about.json'}: expected version {VERSION}, got {version}; create regions again")
    if fingerprint != split.fingerprint():
        raise InputError(
            f"{folder}: these regions are of another split than {split.name!r} with {len(split)} images (its ids, "
            "labels or boxes differ); create them again, or use the data they were made with"
        )
    if bits.dtype != np.uint8 or bits.shape != (len(split), -(-side * side // 8)):
        raise InputError(
            f"{folder / 'masks.npy'}: expected {len(split)} rows of {side} x {side} bits, got {bits.dtype} "
            f"{bits.shape}; delete {folder} and create the regions again"
        )
    return mapped, side
