"""Oxford-IIIT Pet: 7,349 photographs of 37 breeds of cats and dogs, with trimaps.

Parkhi et al. 2012, "Cats and Dogs", https://www.robots.ox.ac.uk/~vgg/data/pets/

The published layout is read::

    images/Abyssinian_100.jpg
    annotations/trainval.txt, test.txt    <image> <class id, from 1> <species> <breed id>
    annotations/trimaps/<image>.png       1 the animal, 2 background, 3 not classified (its outline)
    annotations/xmls/<image>.xml          box of the animal's head

The published boxes mark only heads, and only in some images, so the object here is the animal: its box is the one
around pixels of value 1. Pixels of value 3 are ignored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wsol.data.annotations.mask_files import Decode, MaskedSource
from wsol.data.annotations.text_tables import STOP, Row, Sink, key_rows, parse_integer, read_rows
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import Listing, require_folder
from wsol.data.images import read_grey
from wsol.data.prepare.archives import Archive

LISTS = {"train": "trainval.txt", "test": "test.txt"}


def read_trimap(file: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a trimap: uint8 (H, W), 1 the animal, 0 background, 255 not classified; ``size`` is not needed."""
    codes = np.zeros(256, np.uint8)
    codes[[1, 3]] = 1, 255
    return codes[read_grey(file)]


class OxfordPet(MaskedSource):
    """Oxford-IIIT Pet with its splits ``train`` (the published ``trainval``) and ``test``.

    Classes are the breeds in the order of their ids, which need not be contiguous, with the names of their images.

    Args:
        root: the folder with ``images`` and ``annotations``.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults of lists; the default raises at the first.

    Raises:
        InputError: if the layout differs, or a list or trimap has a fault.
    """

    archives = (
        Archive(
            "images.tar.gz",
            md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
            url="https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
        ),
        Archive(
            "annotations.tar.gz",
            md5="95a8c909bbe2e81eed6a22bccdf3f68f",
            url="https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
        ),
    )

    def __init__(self, root: str | Path, classes: ClassChoice = None, sink: Sink = STOP) -> None:
        folder = require_folder(Path(root), "images and annotations of Oxford-IIIT Pet")
        super().__init__(require_folder(folder / "images", "photographs"), sink, classes)
        self._lists_folder = require_folder(folder / "annotations", "trainval.txt, test.txt and trimaps")
        self._rows = {name: self._table(file) for name, file in LISTS.items()}
        self.splits = tuple(LISTS)
        names: dict[int, str] = {}
        for table in self._rows.values():
            for image, (row, number) in table.items():
                breed = image.rpartition("_")[0]
                if names.setdefault(number, breed) != breed:
                    sink.add(row.file, row.line, f"class {number} is {names[number]!r} above, but {breed!r} here")
        self._labels = {number: label for label, number in enumerate(sorted(names))}
        self.classes = self._choose([names[number] for number in self._labels])
        for image in self._rows["train"].keys() & self._rows["test"].keys():
            row = self._rows["test"][image][0]
            sink.add(row.file, row.line, f"{image!r} is also a training image")
        self._ready()

    def _table(self, name: str) -> dict[str, tuple[Row, int]]:
        """Return the line and class id of each listed image."""
        rows = key_rows(read_rows(self._lists_folder / name, 4, None, self._sink), self._sink)
        found = {}
        for image, row in rows.items():
            number = parse_integer(row.fields[1])
            if number is None or number < 1:
                self._sink.add(row.file, row.line, f"expected a class id from 1, got {row.fields[1]!r}")
            else:
                found[image] = row, number
        return found

    def _list_masks(self, name: str) -> tuple[Listing, list[list[Path]], Decode]:
        listing = Listing()
        for image, (_, number) in self._rows[name].items():
            listing.add(image, f"{image}.jpg", self._labels[number])
        trimaps = self._lists_folder / "trimaps"
        return listing, [[trimaps / f"{image}.png"] for image in listing.ids], read_trimap
