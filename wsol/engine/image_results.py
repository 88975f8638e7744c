"""Per-image results of a split, saved beside results.json for paired comparisons of two runs.

``image_results.npz`` contains plain arrays, no pickles; each name has the prefix ``<split>/``:

=============================  ====================================================================================
``ids``                        str (N,) the images of the split
``labels``                     int32 (N,) ground-truth classes
``ranks``                      uint16 (N,) rank of the ground-truth class, 0 the best; the largest number if unknown
``<protocol>/<origin>/<name>`` uint8 (N,) number of the protocol's overlaps at which the image is correct, each at its
                               threshold of that origin; the largest number if the image is not evaluated
``<protocol>``                 uint8 (2,) number of overlaps; 1 if accuracy is the mean over classes
=============================  ====================================================================================

A network that gives boxes has three more, see `wsol.engine.given_boxes`.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsol.data.packed import BROKEN_ARRAY
from wsol.errors import InputError, first_line
from wsol.files import atomic_file

FILE = "image_results.npz"
MAX_BYTES = 2**31
"""Maximum size of an array that is read."""
CORRUPT = (*BROKEN_ARRAY, zipfile.BadZipFile, zlib.error, RuntimeError)
"""Errors for an invalid file; a RuntimeError means that it is encrypted, or compressed by an unknown method."""


class ImageErrors(NamedTuple):
    """The error of each image, percent."""

    ids: np.ndarray
    """str (N,) ids of the evaluated images."""
    values: np.ndarray
    """float64 (N,) 0 to 100; their mean is the error."""
    labels: np.ndarray | None
    """int (N,) if the error is the mean over classes."""


def not_evaluated(dtype: np.dtype | type) -> int:
    """Return the largest value of an integer type, which marks an image that was not evaluated."""
    return int(np.iinfo(dtype).max)


def write(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the file completely or not at all."""
    with atomic_file(folder / FILE) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def pack(values: np.ndarray, positions: np.ndarray, images: int, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Expand the values of some images to all images.

    Args:
        values: whole numbers (n,); values too large for the type become its largest value less one.
        positions: integer (n,) positions of these images in their split.
        images: number of images N of the split.
        dtype: type of the result.

    Example:
        >>> pack(np.array([3, 700]), np.array([0, 2]), 3, np.uint8).tolist()
        [3, 255, 254]
    """
    out = np.full(images, not_evaluated(dtype), dtype)
    out[positions] = np.minimum(values, not_evaluated(dtype) - 1)
    return out


def read(
    folder: Path, split: str, name: str, protocol: str | None = None, origin: str | None = None
) -> ImageErrors | None:
    """Read the error of each image.

    Args:
        folder: folder with ``image_results.npz``.
        split: split, such as ``test``.
        name: ``top5_error`` for classes, or with a protocol ``gt_known_error``, ``top1_error``, ... for boxes.
        protocol: protocol of the boxes; None for classes.
        origin: origin of the threshold.

    Returns:
        None if there is no file, or it does not contain this error.

    Raises:
        InputError: the file is corrupt.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        with opened(folder / FILE) as file:
            return _of_boxes(file, split, name, protocol, origin) if protocol else _of_classes(file, split, name)
    except CORRUPT as error:
        raise InputError(
            f"{folder / FILE}: corrupt ({first_line(error)}); remove it, and `wsol eval {folder}` writes another"
        ) from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Yield the arrays of a file, each read on access; pickles and oversized arrays are refused."""
    with path.open("rb") as stream:  # NumPy leaves a damaged file open that it opened itself
        found = np.load(stream, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise ValueError("not an archive of arrays")
        with found:
            assert found.zip is not None
            for each in found.zip.infolist():
                if each.file_size > MAX_BYTES:
                    raise ValueError(f"{each.filename} would take {each.file_size:,} bytes")
            yield found


def array(
    file: Mapping[str, np.ndarray], name: str, kinds: str, length: int | None, row: tuple[int, ...] = ()
) -> np.ndarray:
    """Return an array (``length``, *``row``) of a file, of one of the kinds of types.

    Raises:
        ValueError: it is another one.
        KeyError: it is missing.
    """
    found = file[name]
    if found.shape[1:] != row or not found.ndim or found.dtype.kind not in kinds or length not in (None, len(found)):
        raise ValueError(f"{name} is {found.dtype} {found.shape}, not what `wsol train` writes")
    return found


def _of_classes(file: Mapping[str, np.ndarray], split: str, name: str) -> ImageErrors | None:
    number = name.removeprefix("top").removesuffix("_error")
    if f"{split}/ranks" not in file or not number.isdigit():
        return None
    ids = array(file, f"{split}/ids", "U", None)
    ranks = array(file, f"{split}/ranks", "u", len(ids))
    seen = ranks != not_evaluated(ranks.dtype)
    return ImageErrors(ids[seen], 100.0 * (ranks[seen] >= int(number)), None)


def _of_boxes(
    file: Mapping[str, np.ndarray], split: str, name: str, protocol: str, origin: str | None
) -> ImageErrors | None:
    key = f"{split}/{protocol}/{origin}/{name}"
    if key not in file:
        return None
    ids = array(file, f"{split}/ids", "U", None)
    right = array(file, key, "u", len(ids))
    overlaps, by_class = array(file, f"{split}/{protocol}", "u", 2).tolist()
    seen = right != not_evaluated(right.dtype)
    if overlaps < 1 or np.any(right[seen] > overlaps):
        raise ValueError(f"{key}: correct at more overlaps than there are")
    labels = array(file, f"{split}/labels", "iu", len(ids))[seen] if by_class else None
    return ImageErrors(ids[seen], 100.0 * (1.0 - right[seen] / overlaps), labels)


def arrays_of(split: str, ids: list[str], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays that every split has."""
    return {f"{split}/ids": np.array(ids, dtype=np.str_), f"{split}/labels": labels.astype(np.int32)}
