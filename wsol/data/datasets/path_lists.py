"""Images in class folders, with lists of paths for the splits.

===============================  ==================================================================================
dataset                          lists
===============================  ==================================================================================
SUN397 (Xiao et al. 2010)        ``Training_01.txt``, ``Testing_01.txt``: 50 train and 50 test of each class, the
                                 first of ten partitions; ``ClassName.txt`` names the 397 classes, in order
MIT Indoor67                     ``TrainImages.txt``, ``TestImages.txt``: 80 train and 20 test of each class
(Quattoni and Torralba 2009)
===============================  ==================================================================================

A line is ``/a/abbey/sun_aaalbzqrimafwbiv.jpg`` or ``airport_inside/airport_inside_0001.jpg``; the class is the folder.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from wsol.data.annotations.text_tables import STOP, Row, Sink, key_rows, read_rows
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import ListedSource, Listing, require_folder


class PathLists(ListedSource):
    """Images named by two lists of paths. There are no boxes.

    Args:
        root: the dataset's folder.
        images: folder that the listed paths are relative to, itself relative to ``root``.
        train_list: text file with one path per line, relative to ``root``; a leading ``/`` is ignored.
        test_list: the same for the test images.
        class_names: text file of the classes' folders in the order of their labels, relative to ``root``; None for the
            folders of the training images in sorted order.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults; the default raises at the first.

    Raises:
        InputError: a list has a path without folder, a path listed twice or in both lists, or an unknown class; the
            message names file and line.
    """

    def __init__(
        self,
        root: str | Path,
        images: str,
        train_list: str,
        test_list: str,
        class_names: str | None = None,
        classes: ClassChoice = None,
        sink: Sink = STOP,
    ) -> None:
        folder = require_folder(Path(root), f"{train_list} and {test_list}")
        super().__init__(require_folder(folder / images, "folders of images"), sink, classes)
        self.splits = ("train", "test")
        self._rows = {"train": self._table(folder / train_list), "test": self._table(folder / test_list)}
        for path, row in self._rows["test"].items():
            if path in self._rows["train"]:
                sink.add(
                    row.file, row.line, f"{path!r} is also a training image (line {self._rows['train'][path].line})"
                )
        if class_names is None:
            self._names = sorted({_class(path) for path in self._rows["train"]})
        else:
            self._names = list(self._table(folder / class_names))
        self.classes = self._choose(self._names)
        self._ready()

    def _table(self, file: Path) -> dict[str, Row]:
        """Return lines by their path, without the leading ``/``."""
        rows = read_rows(file, 1, "\n", self._sink)
        return key_rows((row._replace(fields=(row.fields[0].lstrip("/"),)) for row in rows), self._sink)

    def _list(self, name: str) -> Listing:
        labels = {folder: label for label, folder in enumerate(self._names)}
        listing = Listing()
        for path, row in self._rows[name].items():
            label = labels.get(_class(path))
            if label is None:
                what = f"unknown class {_class(path)!r}" if "/" in path else "expected <class>/<image>"
                self._sink.add(row.file, row.line, f"{what}, in {path!r}")
                continue
            listing.add(path, path, label)
        return listing


def _class(path: str) -> str:
    return str(PurePosixPath(path).parent)
