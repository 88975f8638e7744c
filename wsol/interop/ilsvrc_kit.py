"""The text format of the ILSVRC classification and localization challenge, and its own error measure.

Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575, section 4.2; the development kit of ILSVRC2012 (readme.txt,
``evaluation/eval_localization_flat.m``), and for the blacklist that of 2013 and later (``eval_clsloc.m``).

Line n is for validation image ``ILSVRC2012_val_<n>`` and contains up to five guesses, the most confident first::

    <class> <xmin> <ymin> <xmax> <ymax> <class> <xmin> ...

The class is the kit's ILSVRC2012_ID, 1..1000, whose order is not that of sorted synsets. Boxes are in the pixels of the
XML annotations, with which the kit compares them directly: xmax and ymax are the last pixel inside, and the first pixel
of an image is 0 (the 80,477 published boxes of the validation images go from 0 to width - 1 and height - 1).

The error of an image is that of its best guess j, over its ground-truth boxes b::

    e = min_j max(class of j is wrong, min_b [IoU(j, b) < 0.5])

where a box is xmax - xmin + 1 wide. Blacklisted images count in classification but not in localization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from wsol.data.annotations.ilsvrc import image_number
from wsol.data.annotations.text_tables import parse_integer, parse_number, quoted, read_text
from wsol.errors import InputError
from wsol.files import atomic_file

GUESSES = 5
"""Number of guesses per line that count."""

CLASSES = 1000


class Guess(NamedTuple):
    """One guess of an image."""

    kit_class: int
    """ILSVRC2012_ID, 1..1000."""
    box: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax, last pixels inside."""


def write_kit(
    file: str | Path, ids: Sequence[str], ranked: np.ndarray, boxes: np.ndarray, kit_classes: Mapping[int, int]
) -> None:
    """Write the guesses of validation or test images.

    Args:
        file: file to write.
        ids: ids of all images 1..N in any order, such as ``val/ILSVRC2012_val_00000001.JPEG``.
        ranked: int (N, k) predicted classes, best first; -1 for none. The first five of each are written.
        boxes: real (N, k, 4) corners in the image frame, last pixels inside.
        kit_classes: ILSVRC2012_ID of each predicted class.

    Raises:
        InputError: ids are not those of images 1..N, an image has no guess, a class has no ILSVRC2012_ID, or the file
            cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "guesses.txt")
        >>> boxes = np.array([[[0, 0, 9, 9], [5, 5, 20, 30]]])
        >>> write_kit(file, ["ILSVRC2012_val_00000001"], np.array([[2, 0]]), boxes, {0: 449, 2: 17})
        >>> print(file.read_text().strip())
        17 0 0 9 9 449 5 5 20 30
    """
    at = {image_number(PurePosixPath(name).stem): i for i, name in enumerate(ids)}
    lost = [n for n in range(1, len(ids) + 1) if n not in at]
    if lost:
        raise InputError(f"expected ids of all images 1..{len(ids)}, but there is no {lost[0]}")
    lines = []
    for n in range(1, len(ids) + 1):
        words = []
        for label, box in list(zip(ranked[at[n]].tolist(), boxes[at[n]].tolist(), strict=True))[:GUESSES]:
            if label >= 0 and label not in kit_classes:
                raise InputError(f"class {label} has no ILSVRC2012_ID in kit_classes")
            words += [kit_classes[label], *(f"{value:.10g}" for value in box)] if label >= 0 else []
        if not words:
            raise InputError(f"{ids[at[n]]}: no guess; the format asks for at least one for each image")
        lines.append(" ".join(map(str, words)))
    try:
        with atomic_file(Path(file)) as temporary:
            temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); choose another folder") from error


def read_kit(file: str | Path) -> list[list[Guess]]:
    """Read the guesses of validation images 1, 2, ...; those beyond five per image are ignored, as in the kit.

    Raises:
        InputError: names file and line: not five fields per guess, an invalid class, or an invalid box.
    """
    lines = read_text(Path(file)).rstrip("\n").split("\n")
    return [_guesses(line.split(), f"{file}:{n}") for n, line in enumerate(lines, start=1)]


def _guesses(words: Sequence[str], where: str) -> list[Guess]:
    text = quoted(" ".join(words))
    if not words or len(words) % 5:
        raise InputError(f"{where}: expected '<class> <xmin> <ymin> <xmax> <ymax>' for each guess, got {text}")
    guesses = []
    for start in range(0, len(words), 5):
        kit_class, box = parse_integer(words[start]), [parse_number(word) for word in words[start + 1 : start + 5]]
        if kit_class is None or not 1 <= kit_class <= CLASSES:
            raise InputError(f"{where}: expected a class (ILSVRC2012_ID) 1..{CLASSES}, got {quoted(words[start])}")
        x0, y0, x1, y1 = (np.nan if value is None else value for value in box)
        if not (x0 <= x1 and y0 <= y1):
            raise InputError(
                f"{where}: expected xmin <= xmax and ymin <= ymax, got {quoted(' '.join(words[start:][1:5]))}"
            )
        guesses.append(Guess(kit_class, (x0, y0, x1, y1)))
    return guesses[:GUESSES]


def kit_errors(
    guesses: Sequence[Sequence[Guess]],
    labels: Sequence[int] | np.ndarray,
    boxes: Sequence[np.ndarray],
    blacklist: Sequence[bool] | np.ndarray | None = None,
) -> dict[str, float]:
    """Return the challenge's errors, percent.

    Args:
        guesses: guesses of N images, see `read_kit`.
        labels: N ground-truth classes as ILSVRC2012_ID.
        boxes: ground-truth boxes of each image, real (M, 4), last pixels inside.
        blacklist: bool (N,), which images do not count in localization.

    Returns:
        ``top5_error`` and ``top1_error`` of localization, ``top5_classification_error``; NaN if no image counts.

    Raises:
        InputError: the numbers of entries differ.

    Example:
        >>> guess = Guess(17, (0.0, 0.0, 9.0, 9.0))
        >>> kit_errors([[guess], [guess]], [17, 18], [np.array([[0, 0, 9, 19]]), np.array([[0, 0, 9, 9]])])
        {'top5_error': 50.0, 'top1_error': 50.0, 'top5_classification_error': 50.0}
    """
    barred = [False] * len(guesses) if blacklist is None else list(blacklist)
    if not len(guesses) == len(labels) == len(boxes) == len(barred):
        found = ", ".join(str(len(of)) for of in (guesses, labels, boxes, barred))
        raise InputError(f"expected guesses, labels, boxes and blacklist of the same images, got {found} of them")
    images = list(zip(guesses, labels, boxes, barred, strict=True))
    evaluated = [(of_image, label, true) for of_image, label, true, out in images if not out]
    return {
        "top5_error": _percent(
            [not _localized(of_image[:GUESSES], label, true) for of_image, label, true in evaluated]
        ),
        "top1_error": _percent([not _localized(of_image[:1], label, true) for of_image, label, true in evaluated]),
        "top5_classification_error": _percent(
            [label not in [guess.kit_class for guess in of_image[:GUESSES]] for of_image, label, _, _ in images]
        ),
    }


def _localized(guesses: Sequence[Guess], label: int, true: np.ndarray) -> bool:
    return any(guess.kit_class == label and any(_iou(guess.box, box) >= 0.5 for box in true) for guess in guesses)


def _iou(a: Sequence[float], b: Sequence[float] | np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return both / (sum(areas) - both)


def _percent(wrong: Sequence[bool]) -> float:
    return 100.0 * sum(wrong) / len(wrong) if wrong else float("nan")
