"""Stanford 40 Actions ("Action40"): 9,532 photographs of people doing one of 40 things.

Yao et al. 2011, "Human Action Recognition by Learning Bases of Action Attributes and Parts",
http://vision.stanford.edu/Datasets/40actions.html. Each class has 100 training images and 180 to 300 test images::

    JPEGImages/applauding_001.jpg
    ImageSplits/applauding_train.txt      applauding_001.jpg, one file per line
    ImageSplits/applauding_test.txt

The boxes of the people (``XMLAnnotations``) are not read.
"""

from __future__ import annotations

from pathlib import Path

from wsol.data.annotations.text_tables import STOP, Row, Sink, key_rows, read_rows
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import ListedSource, Listing, require_folder
from wsol.errors import InputError

SUFFIX = "_train.txt"


class Stanford40(ListedSource):
    """Stanford 40 Actions, with its splits ``train`` and ``test``, complete or with some of the classes.

    Args:
        root: the folder with ``JPEGImages`` and ``ImageSplits``.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults of lists; the default raises at the first.

    Raises:
        InputError: there are no lists, a test list is missing, or an image is listed twice.
    """

    def __init__(self, root: str | Path, classes: ClassChoice = None, sink: Sink = STOP) -> None:
        folder = require_folder(Path(root), "JPEGImages and ImageSplits")
        super().__init__(require_folder(folder / "JPEGImages", "photographs"), sink, classes)
        lists = require_folder(folder / "ImageSplits", f"<class>{SUFFIX} and <class>_test.txt")
        self.splits = ("train", "test")
        names = sorted(file.name.removesuffix(SUFFIX) for file in lists.glob(f"?*{SUFFIX}"))
        if not names:
            raise InputError(f"{lists}: no lists; expected <class>{SUFFIX} and <class>_test.txt in it")
        self.classes = self._choose(names)
        self._labels: dict[str, dict[str, int]] = {split: {} for split in self.splits}
        rows: list[Row] = []
        for label, name in enumerate(names):
            for split in self.splits:
                own = read_rows(lists / f"{name}_{split}.txt", 1, "\n", sink)
                rows += own
                for row in own:
                    self._labels[split].setdefault(row.fields[0], label)
        key_rows(rows, sink)
        self._ready()

    def _list(self, name: str) -> Listing:
        listing = Listing()
        for image, label in self._labels[name].items():
            listing.add(image, image, label)
        return listing
