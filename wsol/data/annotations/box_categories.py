"""Which boxes of an annotation file are of an image's own class, where the file names a category for each box.

Localization is evaluated on the object that an image's label names. A box of another category (the sky around a bird)
must not count as a correct answer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wsol.data.file_source import AnnotatedBox
from wsol.errors import InputError, unknown


class OwnBoxes(NamedTuple):
    """The boxes of the images' own classes."""

    boxes: dict[str, list[AnnotatedBox]]
    """Boxes by image."""
    left_out: int
    """Number of boxes of other categories."""


def own_boxes(
    boxes: Mapping[str, Sequence[AnnotatedBox]],
    classes: Mapping[str, str],
    categories: Sequence[str] | None,
    file: Path,
) -> OwnBoxes:
    """Keep the boxes of each image's own class.

    If ``categories`` are given, boxes of these are kept. Otherwise, if every class with boxes has a category of its
    name (letter case, blanks, ``-`` and ``_`` are ignored), boxes of that category are kept. Otherwise all boxes are
    kept, provided that the images of each class have boxes of one category only.

    Args:
        boxes: boxes by image.
        classes: class of each image.
        categories: names of the categories to keep; None to match names.
        file: file of the boxes, for messages.

    Raises:
        InputError: an unknown category, or categories that do not tell which boxes to keep.
    """
    of_class: dict[str, set[str]] = defaultdict(set)
    for image, of_image in boxes.items():
        of_class[classes[image]].update(box.category for box in of_image if box.category is not None)
    found = sorted(set().union(*of_class.values()))
    if categories is not None:
        for name in map(str, categories):
            if name not in found:
                raise unknown("category in data.categories", name, found)
        return _kept(boxes, classes, {name: set(map(str, categories)) for name in of_class})
    matching = {name: {one for one in found if _plain(one) == _plain(name)} for name in of_class}
    if found and all(matching.values()):
        return _kept(boxes, classes, matching)
    mixed = sorted(name for name, names in of_class.items() if len(names) > 1)
    if mixed:
        several = ", ".join(sorted(of_class[mixed[0]])[:10])
        raise InputError(
            f"{file}: images of the class {mixed[0]!r} have boxes of several categories ({several}), and not every "
            "class has a category of its name; say which boxes mark the object, such as "
            f"data.categories=[{sorted(of_class[mixed[0]])[0]}]"
        )
    return OwnBoxes({image: list(of_image) for image, of_image in boxes.items()}, 0)


def _kept(
    boxes: Mapping[str, Sequence[AnnotatedBox]], classes: Mapping[str, str], wanted: Mapping[str, set[str]]
) -> OwnBoxes:
    """Keep the boxes whose category belongs to the class of their image."""
    kept = {
        image: [box for box in of_image if box.category in wanted[classes[image]]] for image, of_image in boxes.items()
    }
    return OwnBoxes(kept, sum(map(len, boxes.values())) - sum(map(len, kept.values())))


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
