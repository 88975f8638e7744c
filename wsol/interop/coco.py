"""Predicted boxes for other programs: a CSV table, and COCO's results JSON with its images and categories.

COCO's results format (https://cocodataset.org/#format-results) is a list of ``image_id``, ``category_id``, ``bbox`` (x,
y, width, height, pixels) and ``score``. The ids are numbers, which ``coco_images.json`` explains; it has COCO's own
format: ``COCO("coco_images.json").loadRes("coco_results.json")`` of pycocotools.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsol.data.regular_files import open_regular
from wsol.errors import InputError
from wsol.files import atomic_file

HEADER = ("image", "class", "index", "score", "x0", "y0", "x1", "y1", "iou", "width", "height")


class PredictedBox(NamedTuple):
    """A localized class in an image."""

    image: str
    """Its file, as given."""
    size: tuple[int, int]
    """Width and height of the stored image, pixels."""
    label: int
    """Class index."""
    score: float
    """Probability of the class."""
    box: np.ndarray
    """float64 (4,) half-open, image frame."""
    iou: float | None = None
    """Largest IoU with a ground-truth box; None if there is none."""


class PredictionFiles(AbstractContextManager["PredictionFiles"]):
    """Writes ``predictions.csv``, ``coco_results.json`` and ``coco_images.json`` into a folder as predictions come.

    The files exist when the ``with`` block has succeeded.

    Args:
        folder: folder to write to.
        classes: names of the K classes; None if they have no names. The id of a COCO category is its class index + 1.
        num_classes: number of classes K.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with PredictionFiles(folder, ["cat", "dog"], 2) as files:
        ...     files.add(PredictedBox("a.jpg", (40, 30), 1, 0.75, np.array([4.0, 3.0, 14.0, 23.0])))
        >>> print((folder / "coco_results.json").read_text().strip())
        [{"image_id": 1, "category_id": 2, "bbox": [4.0, 3.0, 10.0, 20.0], "score": 0.75}]
        >>> print((folder / "predictions.csv").read_text().splitlines()[1])
        a.jpg,dog,1,0.75,4,3,14,23,,40,30
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None, num_classes: int) -> None:
        self._folder = folder
        self._names = list(classes) if classes else [str(label) for label in range(num_classes)]
        self._ids: dict[str, int] = {}
        self._images: list[dict] = []
        self._results: list[dict] = []
        self._open = ExitStack()
        temporary = self._open.enter_context(atomic_file(folder / "predictions.csv"))
        self._file = self._open.enter_context(temporary.open("w", newline="", encoding="utf-8"))
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(HEADER)

    def add(self, found: PredictedBox) -> None:
        """Add a prediction; an image may have several."""
        width, height = found.size
        corners = [round(float(value), 3) for value in found.box]
        overlap = "" if found.iou is None else f"{found.iou:.4f}"
        shown = [f"{value:g}" for value in corners]
        name = self._names[found.label]
        self._csv.writerow([found.image, name, found.label, f"{found.score:.6g}", *shown, overlap, width, height])
        if found.image not in self._ids:
            self._ids[found.image] = len(self._ids) + 1
            number = self._ids[found.image]
            self._images.append({"id": number, "file_name": found.image, "width": width, "height": height})
        x0, y0, x1, y1 = corners
        box = [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)]
        where = {"image_id": self._ids[found.image], "category_id": found.label + 1}
        self._results.append({**where, "bbox": box, "score": found.score})

    def __exit__(self, *exception: object) -> None:
        self._open.__exit__(*exception)  # type: ignore[arg-type]
        if exception[0] is not None:
            return
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(self._names)]
        images = {"images": self._images, "annotations": [], "categories": categories}
        for name, content in (("coco_results", self._results), ("coco_images", images)):
            with atomic_file(self._folder / f"{name}.json") as file:
                file.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_table(file: str | Path) -> list[tuple[str, PredictedBox]]:
    """Read a ``predictions.csv``: the name of each predicted class and the prediction, in the order of the file.

    Raises:
        InputError: the file cannot be read, or a line is not in the format of `PredictionFiles`.
    """
    path, found = Path(file), []
    try:
        with TextIOWrapper(open_regular(path), encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            if tuple(header := next(reader, [])) != HEADER:
                raise InputError(f"{path}:1: expected the header {','.join(HEADER)}, got {','.join(header)!r}")
            for fields in reader:
                try:
                    image, name, label, score, *box, overlap, width, height = fields
                    corners = np.array([float(value) for value in box])
                    size, best = (int(width), int(height)), float(overlap) if overlap else None
                    prediction = PredictedBox(image, size, int(label), float(score), corners, best)
                except ValueError:
                    prediction = None
                if prediction is None or prediction.box.shape != (4,) or not np.isfinite(prediction.box).all():
                    raise InputError(f"{path}:{reader.line_num}: expected {','.join(HEADER)}, got {','.join(fields)!r}")
                found.append((name, prediction))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected what `wsol predict` wrote") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not CSV in UTF-8 ({error})") from error
    return found
