"""Predicted classes of images as CSV: ``image_id,class,score``, several rows per image.

Rows may be in any order: those of an image are sorted by score, the highest first; equal scores keep the file's order.
The class is its index 0..K-1 or its name. A row with neither class nor score means that nothing was predicted for the
image.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsol.data.annotations.text_tables import parse_integer, quoted
from wsol.data.regular_files import open_regular
from wsol.data.source import Split
from wsol.errors import InputError
from wsol.files import atomic_file

HEADER = ["image_id", "class", "score"]
NOT_RANKED = int(np.iinfo(np.int32).max)
"""Rank of a ground-truth class that is not among the predictions."""


class PredictionWriter(AbstractContextManager["PredictionWriter"]):
    """Writes the top classes of images as they arrive; the file exists when the ``with`` block has succeeded.

    Args:
        file: file to write.
        classes: names of the K classes; a name that is a number or not unique is replaced by the class's index.
        top: number of classes to write per image.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, file: str | Path, classes: Sequence[str], top: int = 5) -> None:
        count = Counter(classes)
        self._tokens = [c if count[c] == 1 and _is_name(c) else str(i) for i, c in enumerate(classes)]
        self._top = top
        self._open = ExitStack()
        try:
            temporary = self._open.enter_context(atomic_file(Path(file)))
            self._file = self._open.enter_context(temporary.open("w", newline="", encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{file}: cannot be written ({error.strerror}); choose another folder") from error
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(HEADER)

    def add(self, image_id: str, logits: np.ndarray) -> None:
        """Write the top classes of an image; none if a score is NaN.

        Args:
            image_id: id of the image.
            logits: real (K,) class scores; of equal ones the class of lower index comes first.

        Raises:
            InputError: the number of scores is not K.
        """
        if logits.shape != (len(self._tokens),):
            raise InputError(f"{image_id}: expected scores of {len(self._tokens)} classes, got shape {logits.shape}")
        if np.isnan(logits).any():
            self._csv.writerow([image_id, "", ""])
            return
        for label in np.argsort(-logits.astype(np.float64), kind="stable")[: self._top].tolist():
            self._csv.writerow([image_id, self._tokens[label], f"{logits[label]:.9g}"])

    def __exit__(self, *exception: object) -> None:
        self._open.__exit__(*exception)  # type: ignore[arg-type]


def write_predictions(
    file: str | Path, ids: Sequence[str], logits: np.ndarray, top: int = 5, classes: Sequence[str] | None = None
) -> None:
    """Write the top classes of N images.

    Args:
        file: file to write.
        ids: N ids.
        logits: real (N, K).
        top: number of classes to write per image.
        classes: names of the K classes; None to write their indices.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "classes.csv")
        >>> write_predictions(file, ["a.jpg"], np.array([[0.5, -1.0, 2.0]]), top=2)
        >>> print(file.read_text().strip())
        image_id,class,score
        a.jpg,2,2
        a.jpg,0,0.5
    """
    names = classes if classes is not None else [str(k) for k in range(logits.shape[1])]
    with PredictionWriter(file, names, top) as writer:
        for image_id, scores in zip(ids, logits, strict=True):
            writer.add(image_id, scores)


def read_predictions(files: str | Path | Sequence[str | Path], split: Split, classes: Sequence[str]) -> np.ndarray:
    """Read the predicted classes of a split's images.

    Args:
        files: one file, or the parts that several processes wrote.
        split: split of the images.
        classes: names of the K classes.

    Returns:
        int64 (N, k) classes, best first, -1 where an image has fewer than k of them.

    Raises:
        InputError: names file and line: unknown image or class, not a number, different scores of one class; or names
            images without rows.
    """
    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    position = {name: i for i, name in enumerate(split.ids)}
    index = _index(classes)
    scores: list[dict[int, float] | None] = [None] * len(split)
    for row in (row for path in paths for row in _rows(path)):
        if row.image_id not in position:
            raise InputError(f"{row.where}: {quoted(row.image_id)} is not an image of the {split.name} split")
        of_image: dict[int, float] = scores[position[row.image_id]] or {}
        if row.name:
            label, score = _class_of(row, index, classes), _score_of(row)
            if of_image.setdefault(label, score) != score:
                raise InputError(f"{row.where}: another score of class {row.name!r} of {row.image_id!r}; keep one")
        scores[position[row.image_id]] = of_image
    lost = [split.ids[i] for i, of_image in enumerate(scores) if of_image is None]
    if lost:
        raise InputError(
            f"{', '.join(map(str, paths))}: no row for {len(lost):,} of the {len(split):,} images of {split.name}, "
            f"such as {', '.join(lost[:5])}"
        )
    ranked = np.full((len(split), max(len(of_image or ()) for of_image in scores)), -1, dtype=np.int64)
    for i, found in enumerate(scores):
        best = sorted(found.items(), key=lambda item: -item[1]) if found else []
        ranked[i, : len(best)] = [label for label, _ in best]
    return ranked


def ranks_of(labels: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """Return the ranks of ground-truth classes.

    Args:
        labels: int (N,) ground-truth classes.
        ranked: int (N, k) predicted classes, best first.

    Returns:
        int64 (N,), 0 for the best; `NOT_RANKED` if the ground-truth class is not among them.

    Example:
        >>> ranks_of(np.array([4, 7]), np.array([[2, 4, 7], [7, -1, -1]])).tolist()
        [1, 0]
    """
    hit = ranked == np.asarray(labels)[:, None]
    found = hit.argmax(1) if hit.shape[1] else np.zeros(len(hit), np.int64)
    return np.where(hit.any(1), found, NOT_RANKED).astype(np.int64)


class _Row(NamedTuple):
    image_id: str
    name: str
    """Name or index of the class."""
    score: str
    where: str


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                where = f"{path}:{reader.line_num}"
                words = [field.strip() for field in fields]
                if reader.line_num == 1 and words != HEADER:
                    raise InputError(f"{where}: expected the header {','.join(HEADER)}, got {quoted(','.join(words))}")
                if reader.line_num == 1 or not any(words):
                    continue
                if len(words) != 3 or bool(words[1]) != bool(words[2]):
                    raise InputError(f"{where}: expected {','.join(HEADER)}, got {quoted(','.join(words))}")
                yield _Row(words[0], words[1], words[2], where)
            if not reader.line_num:
                raise InputError(f"{path}: empty file; expected the header {','.join(HEADER)}")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected predicted classes as CSV") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not CSV in UTF-8 ({error})") from error


def _is_name(text: str) -> bool:
    """Return whether a class name identifies the class: it is not a number, and CSV readers preserve it."""
    return text == text.strip() != "" and parse_integer(text) is None


def _index(classes: Sequence[str]) -> dict[str, int]:
    """Return the class by name, for unique names."""
    count = Counter(classes)
    return {name: i for i, name in enumerate(classes) if count[name] == 1 and _is_name(name)}


def _class_of(row: _Row, index: dict[str, int], classes: Sequence[str]) -> int:
    label = index.get(row.name, parse_integer(row.name))
    if label is None or not 0 <= label < len(classes):
        known = f"expected an index 0..{len(classes) - 1} or a name such as {classes[0]!r} that no other class has"
        raise InputError(f"{row.where}: unknown class {quoted(row.name)}; {known}")
    return label


def _score_of(row: _Row) -> float:
    try:
        score = float(row.score)
    except ValueError:
        score = math.nan
    if math.isnan(score):
        raise InputError(f"{row.where}: expected a number as score, got {quoted(row.score)}")
    return score
