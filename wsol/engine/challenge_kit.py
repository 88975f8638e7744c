"""The ILSVRC challenge's text format (`wsol ilsvrc-kit`): guesses scored by its own rule, or written for its server."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from wsol import runs
from wsol.config import build
from wsol.data.annotations.ilsvrc import image_number
from wsol.data.annotations.text_tables import read_rows
from wsol.data.source import Split
from wsol.errors import InputError
from wsol.interop.coco import PredictedBox, read_table
from wsol.interop.ilsvrc_kit import GUESSES, kit_errors, read_kit, write_kit

LAST_PIXEL = np.array([0.0, 0.0, 1.0, 1.0])
"""Added to half-open corners so that x1, y1 are the last pixel inside."""


class KitScores(NamedTuple):
    """Scores of the guesses for the validation images."""

    images: int
    blacklisted: int
    """Number of images that only count in classification."""
    errors: dict[str, float]
    """Errors by the challenge's names, percent."""


class KitFile(NamedTuple):
    """A file for the challenge's server."""

    file: Path
    images: int
    guesses: int
    """Largest number of guesses per image."""


def run(config: DictConfig) -> KitScores | KitFile:
    """Score guesses under a composed config of `wsol ilsvrc-kit`; with ``out``, write predictions as guesses instead.

    Raises:
        InputError: a file is not named, cannot be read, exists already, or does not match the dataset.
    """
    for key in ("predictions", "devkit_synsets"):
        if config[key] is None:
            raise InputError(f"which {key}? wsol ilsvrc-kit guesses.txt devkit_synsets=synsets.txt")
    if config.out is not None:
        return write(_predicted(Path(config.predictions)), Path(config.devkit_synsets), Path(config.out), config.force)
    return score(config)


def score(config: DictConfig) -> KitScores:
    """Score guesses for all validation images by the challenge's rule; see `run`."""
    guesses = read_kit(config.predictions)
    source = build.build_source(config)
    split = source.split("test")
    numbers = _numbers(split)
    if len(guesses) < max(numbers):
        raise InputError(f"{config.predictions}: {len(guesses):,} lines, expected one for each image 1..{max(numbers)}")
    of_class = _kit_classes(source.classes, Path(config.devkit_synsets))
    errors = kit_errors(
        [guesses[number - 1] for number in numbers],
        [of_class[label] for label in split.labels.tolist()],
        [_last_pixels(split, i) for i in range(len(split))],
        split.blacklist,
    )
    barred = 0 if split.blacklist is None else int(split.blacklist.sum())
    return KitScores(len(split), barred, dict(errors))


def _predicted(given: Path) -> Path:
    """Return the predictions of `wsol predict`: the given folder or file, or the newest folder below a run."""
    folders = [file.parent for file in given.glob("predict/*/predictions.csv")]
    has_own = given.is_file() or (given / "predictions.csv").exists()
    return given if has_own or not folders else max(folders, key=lambda folder: folder.stat().st_mtime)


def write(predicted: Path, synsets: Path, out: Path, force: bool) -> KitFile:
    """Write `wsol predict` results of all validation or test images in the challenge's format; see `run`."""
    runs.check_file(out, force)
    of_image: dict[str, list[tuple[str, PredictedBox]]] = defaultdict(list)
    for name, found in read_table(predicted / "predictions.csv" if predicted.is_dir() else predicted):
        of_image[found.image].append((name, found))
    names = {found.label: name for rows in of_image.values() for name, found in rows}
    numbers = dict(zip(names, _kit_classes(tuple(names.values()), synsets), strict=True))
    guesses = max(map(len, of_image.values()), default=0)
    ranked, boxes = np.full((len(of_image), guesses), -1), np.zeros((len(of_image), guesses, 4))
    for i, rows in enumerate(of_image.values()):
        for j, (_, found) in enumerate(sorted(rows, key=lambda row: -row[1].score)):
            ranked[i, j], boxes[i, j] = found.label, found.box - LAST_PIXEL
    write_kit(out, list(of_image), ranked, boxes, numbers)
    return KitFile(out, len(of_image), min(guesses, GUESSES))


def _numbers(split: Split) -> list[int]:
    """Return the number of each validation image."""
    numbers = []
    for name in split.ids:
        number = image_number(PurePosixPath(name).stem)
        if number is None:
            raise InputError(
                f"{name}: expected images called ILSVRC2012_val_<number>; choose data=ilsvrc or ilsvrc_lists"
            )
        numbers.append(number)
    return numbers


def _kit_classes(classes: tuple[str, ...], file: Path) -> list[int]:
    """Return the ILSVRC2012_ID of each class, whose name begins with its synset."""
    listed = {row.fields[0]: n for n, row in enumerate(read_rows(file, 1, "\n"), start=1)}
    lost = [name for name in classes if name.partition(" ")[0] not in listed]
    if lost:
        raise InputError(
            f"{file}: no line for {lost[0]!r}, one of {len(lost)}; expected the synsets in the kit's order"
        )
    return [listed[name.partition(" ")[0]] for name in classes]


def _last_pixels(split: Split, i: int) -> np.ndarray:
    """Return ground-truth boxes (M, 4) whose x1, y1 are the last pixel inside."""
    truth = split.truth(i)
    return np.zeros((0, 4)) if truth is None else truth.half_open - LAST_PIXEL
