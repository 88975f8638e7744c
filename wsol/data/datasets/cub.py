"""CUB-200-2011: 11,788 photographs of 200 bird species, one box each.

Wah et al. 2011, "The Caltech-UCSD Birds-200-2011 Dataset", https://www.vision.caltech.edu/datasets/cub_200_2011/

The published layout is read, complete or with some of the classes::

    images.txt               <image id> <path under images/>
    image_class_labels.txt   <image id> <class id>
    classes.txt              <class id> <name>
    bounding_boxes.txt       <image id> <x> <y> <width> <height>      pixels, float
    train_test_split.txt     <image id> <1 train, 0 test>
    images/<class>/<photo>.jpg
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsol.data.annotations.text_tables import (
    STOP,
    Row,
    Sink,
    check_keys,
    class_of,
    key_rows,
    numbers,
    parse_integer,
    read_rows,
)
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import AnnotatedBox, ListedSource, Listing, require_folder
from wsol.data.prepare.archives import Archive


class CUB(ListedSource):
    """CUB-200-2011, with its splits ``train`` and ``test``.

    Classes are those of ``classes.txt`` in the order of their ids, which need not start at 1 nor be contiguous. Boxes
    are x, y, x + width, y + height: their ends name the edge (``inclusive=False``).

    Args:
        root: the folder with ``images.txt``.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults of lists; the default raises at the first.

    Raises:
        InputError: if the layout differs or a list has a fault.
    """

    archives = (
        Archive(
            "CUB_200_2011.tgz",
            md5="97eceeb196236b17998738112f37df78",
            url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            prefix="CUB_200_2011",
        ),
    )

    def __init__(self, root: str | Path, classes: ClassChoice = None, sink: Sink = STOP) -> None:
        folder = require_folder(Path(root), "CUB_200_2011 with images.txt, image_class_labels.txt and so on")
        super().__init__(require_folder(folder / "images", "one folder of photographs for each class"), sink, classes)
        self._folder = folder
        self._images = self._table("images.txt", 2, rest=True)
        self._labels = self._table("image_class_labels.txt", 2)
        self._boxes = self._table("bounding_boxes.txt", 5)
        self._sides = self._table("train_test_split.txt", 2)
        names = {parse_integer(number): row for number, row in self._table("classes.txt", 2, rest=True).items()}
        for row in [row for number, row in names.items() if number is None]:
            sink.add(row.file, row.line, f"expected a class number, got {row.fields[0]!r}")
        self._class_ids = sorted(number for number in names if number is not None)
        self.classes = self._choose([names[number].fields[1] for number in self._class_ids])
        self.splits = ("train", "test")
        self._check_lists()
        self._ready()

    def _table(self, name: str, fields: int, rest: bool = False) -> dict[str, Row]:
        rows = read_rows(self._folder / name, fields, separator=None, sink=self._sink, rest=rest)
        return key_rows(rows, self._sink)

    def _check_lists(self) -> None:
        lists = ("image_class_labels.txt", "bounding_boxes.txt", "train_test_split.txt")
        for name, table in zip(lists, (self._labels, self._boxes, self._sides), strict=True):
            check_keys(self._images, table, self._folder / name, self._sink)
            check_keys(table, self._images, self._folder / "images.txt", self._sink)
        key_rows((row._replace(fields=row.fields[1:]) for row in self._images.values()), self._sink)
        for row in self._sides.values():
            if row.fields[1] not in ("0", "1"):
                self._sink.add(row.file, row.line, f"expected 1 (train) or 0 (test), got {row.fields[1]!r}")

    def _list(self, name: str) -> Listing:
        index = {number: i for i, number in enumerate(self._class_ids)}
        listing = Listing(inclusive=False)
        lists = (self._labels, self._boxes)
        for image, row in self._images.items():
            side = self._sides.get(image)
            if (
                side is None
                or side.fields[1] != {"train": "1", "test": "0"}[name]
                or any(image not in t for t in lists)
            ):
                continue
            label = class_of(self._labels[image], index, self._sink)
            if label is not None:
                listing.add(row.fields[1], row.fields[1], index[label], self._marked(self._boxes[image]))
        return listing

    def _marked(self, row: Row) -> list[AnnotatedBox]:
        values = numbers(row, self._sink)
        if values is None:
            return []
        x, y, width, height = values
        return [AnnotatedBox((x, y, x + width, y + height), row.file, row.line)]

    def _unlisted_in(self) -> Iterable[Path]:
        return (self._root,)
