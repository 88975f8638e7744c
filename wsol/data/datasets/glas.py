"""GlaS: 165 microscopic images of colon tissue, benign or malignant, with masks of their glands.

Sirinukunwattana et al. 2017, "Gland segmentation in colon histology images: The GlaS challenge contest",
https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest/

The published layout is read::

    Grade.csv                        name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)
    train_1.bmp, train_1_anno.bmp    85 images with the numbers of their glands, 0 between them
    testA_1.bmp, testA_1_anno.bmp    60 images; testB 20
"""

from __future__ import annotations

import re
from pathlib import Path

from wsol.data.annotations.mask_files import Decode, GreyMask, MaskedSource
from wsol.data.annotations.text_tables import STOP, Sink, key_rows, read_rows
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import Listing, require_folder
from wsol.data.prepare.archives import Archive
from wsol.errors import InputError

NAME = re.compile(r"(train|testA|testB)_\d{1,4}")

GRADES = ("benign", "malignant")


class GlaS(MaskedSource):
    """GlaS with its splits ``train`` and ``test`` (``testA`` and ``testB`` together).

    Classes are ``benign`` and ``malignant``, from the column ``grade (GlaS)``. The mask of an image covers
    all of its glands, and the box encloses them.

    Args:
        root: the folder with ``Grade.csv``.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults; the default raises at the first.

    Raises:
        InputError: if the layout differs, or the list or a mask has a fault.
    """

    archives = (
        Archive(
            "warwick_qu_dataset_released_2016_07_08.zip", md5=None, prefix="Warwick QU Dataset (Released 2016_07_08)"
        ),
    )

    def __init__(self, root: str | Path, classes: ClassChoice = None, sink: Sink = STOP) -> None:
        super().__init__(require_folder(Path(root), "Grade.csv, train_1.bmp and so on of GlaS"), sink, classes)
        self.classes = self._choose(GRADES)
        rows = read_rows(self._root / "Grade.csv", 4, ",", sink)
        if rows and rows[0].fields[0] == "name":
            rows = rows[1:]
        self._labels: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
        for name, row in key_rows(rows, sink).items():
            grade = row.fields[2]
            if not NAME.fullmatch(name):
                sink.add(row.file, row.line, f"expected train_N, testA_N or testB_N, got {name!r}")
            elif grade not in GRADES:
                sink.add(row.file, row.line, f"expected benign or malignant as the grade (GlaS), got {grade!r}")
            else:
                self._labels["train" if name.startswith("train") else "test"].append((name, GRADES.index(grade)))
        self.splits = tuple(name for name, images in self._labels.items() if images)
        if not self.splits:
            raise InputError(f"{self._root / 'Grade.csv'}: no images listed; expected name, patient and two grades")
        self._ready()

    def _list_masks(self, name: str) -> tuple[Listing, list[list[Path]], Decode]:
        listing = Listing()
        for image, label in self._labels[name]:
            listing.add(image, f"{image}.bmp", label)
        return listing, [[self._root / f"{image}_anno.bmp"] for image in listing.ids], GreyMask()
