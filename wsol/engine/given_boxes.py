"""The boxes that a network gave, image by image, in ``image_results.npz``: reports show them without the network.

The arrays of a split, beside those of `wsol.engine.image_results`:

==============  =======================================================================================
``boxes``       float64 (N, 4): x0, y0, x1, y1, half-open, pixels of the stored image
``views``       int32 (N, 9) what part of the image the network saw, see `wsol.interop.map_record`;
                zeros if there is no box, because the image could not be read
``predicted``   int32 (N,) the best class, of another network if its classes were borrowed; -1 if unknown
==============  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsol.data.source import Split
from wsol.engine.chunk_evaluator import GivenBox
from wsol.engine.image_results import CORRUPT, FILE, array, not_evaluated, opened
from wsol.errors import InputError, first_line
from wsol.interop.map_record import geometry_fault, geometry_numbers, geometry_of
from wsol.interop.predictions import NOT_RANKED


class GivenBoxes(NamedTuple):
    """The boxes and classes of a split."""

    boxes: Mapping[str, GivenBox]
    """By image id; an image that could not be read has none."""
    predicted: np.ndarray | None
    """int64 (N,) the best class of each image, -1 for none; None without classes."""
    ranks: np.ndarray | None
    """int64 (N,) rank of each ground-truth class, `NOT_RANKED` if it is unknown; None without classes."""


def arrays_of(split: Split, given: Mapping[int, GivenBox]) -> dict[str, np.ndarray]:
    """Return the arrays of a split.

    Args:
        split: the evaluated split.
        given: the boxes by position.
    """
    boxes, views = np.zeros((len(split), 4)), np.zeros((len(split), 9), np.int32)
    predicted = np.full(len(split), -1, np.int32)
    for position, one in given.items():
        boxes[position], views[position] = one.box, geometry_numbers(one.view)
        predicted[position] = one.predicted
    arrays: dict[str, np.ndarray] = {"boxes": boxes, "views": views, "predicted": predicted}
    return {f"{split.name}/{name}": values for name, values in arrays.items()}


def read(folder: Path, split: Split, num_classes: int) -> GivenBoxes | None:
    """Read the boxes of a split with K classes from a folder's ``image_results.npz``.

    Returns:
        None if there is no file, or it has no boxes of this split.

    Raises:
        InputError: the file is corrupt, or of other images.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        with opened(file) as arrays:
            return _read(arrays, split, num_classes) if f"{split.name}/boxes" in arrays else None
    except CORRUPT as error:
        raise InputError(
            f"{file}: corrupt ({first_line(error)}); remove it, and `wsol eval {folder}` writes another"
        ) from error


def _read(arrays: Mapping[str, np.ndarray], split: Split, num_classes: int) -> GivenBoxes:
    name, count = split.name, len(split)
    if not np.array_equal(array(arrays, f"{name}/ids", "U", count), np.array(split.ids, dtype=np.str_)):
        raise ValueError(f"its images are not those of the {name} split")
    boxes = array(arrays, f"{name}/boxes", "f", count, (4,)).astype(np.float64)
    views = array(arrays, f"{name}/views", "i", count, (9,))
    predicted = array(arrays, f"{name}/predicted", "i", count).astype(np.int64)
    there = np.flatnonzero(views.any(axis=1))
    if fault := geometry_fault(views[there]):
        raise ValueError(f"{name}/views: {fault}")
    if not ((predicted >= -1) & (predicted < num_classes)).all():
        raise ValueError(f"{name}/predicted: a class beyond 0..{num_classes - 1}")
    found = {}
    for position in there.tolist():
        view = geometry_of(tuple(views[position].tolist()))
        if view.image_size != split.size(position):
            raise ValueError(f"{split.ids[position]}: an image of {view.image_size[0]} x {view.image_size[1]} pixels")
        found[split.ids[position]] = GivenBox(boxes[position], view, int(predicted[position]))
    if f"{name}/ranks" not in arrays:
        return GivenBoxes(found, None, None)
    ranks = array(arrays, f"{name}/ranks", "u", count)
    unknown = ranks >= not_evaluated(ranks.dtype) - 1  # the largest number but one stands for all larger ranks
    return GivenBoxes(found, predicted, np.where(unknown, NOT_RANKED, ranks.astype(np.int64)))
