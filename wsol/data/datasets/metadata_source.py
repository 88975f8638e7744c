"""The metadata lists of wsolevaluation, shared by its datasets with boxes and with masks.

Choe et al. 2020, "Evaluating Weakly Supervised Object Localization Methods Right", https://arxiv.org/abs/2007.04178;
the lists are those of https://github.com/clovaai/wsolevaluation::

    <split>/image_ids.txt           <image path>
    <split>/image_ids_proxy.txt     <image path>, a subset for quick searches
    <split>/class_labels.txt        <image path>,<class number from 0>
    <split>/image_sizes.txt         <image path>,<width>,<height>
    <split>/localization.txt        boxes or masks, none for training images
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from wsol.data.annotations.text_tables import STOP, Row, Sink, check_keys, class_of, key_rows, read_rows, size_of
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import ListedSource, require_folder
from wsol.data.source import SPLITS
from wsol.errors import InputError


class MetadataSource(ListedSource):
    """A dataset in wsolevaluation's lists; a subclass reads ``localization.txt``.

    Args:
        metadata_root: folder with a folder of lists for each split.
        image_root: folder that the lists' image paths are relative to; None if there are no images: scoring
            saved maps needs only the lists.
        proxy_training_set: train on the images of ``image_ids_proxy.txt`` instead of ``image_ids.txt``.
        class_names: text file with the names of class 0, 1, ..., one per line; if None, a class is named by the folder
            of its images if no other class has it, otherwise by its number.
        num_classes: number of classes, for lists without images of the last classes; None for one more than the largest
            number listed, or for the number of ``class_names``.
        sink: receives the faults of lists; the default raises at the first.
        classes: names of the classes to keep, or a text file of them; None for all.
    """

    def __init__(
        self,
        metadata_root: str | Path,
        image_root: str | Path | None,
        proxy_training_set: bool = False,
        class_names: str | Path | None = None,
        sink: Sink = STOP,
        num_classes: int | None = None,
        classes: ClassChoice = None,
    ) -> None:
        root = None if image_root is None else require_folder(Path(image_root), "the images that the lists name")
        super().__init__(root, sink, classes)
        self._lists = require_folder(Path(metadata_root), "train, val and test with image_ids.txt and class_labels.txt")
        self._proxy = proxy_training_set
        if proxy_training_set and not self._file("train", "image_ids_proxy.txt").is_file():
            raise InputError(
                f"{self._file('train', 'image_ids_proxy.txt')}: no such file, but proxy_training_set is true; set it "
                "to false or fetch the list from wsolevaluation"
            )
        self.splits = tuple(name for name in SPLITS if os.path.lexists(self._ids_file(name)))
        if not self.splits:
            raise InputError(f"{self._lists}: no lists; looked for {{train,val,test}}/image_ids.txt in it")
        self._read: dict[str, tuple[dict[str, Row], dict[str, int]]] = {}
        self.classes = self._choose(self._class_names(Path(class_names) if class_names else None, num_classes))

    def _ready(self) -> None:
        super()._ready()
        if self._sink is STOP:  # lists of a million images are large; `verify` reads them again
            self._read.clear()

    def _file(self, split: str, name: str) -> Path:
        return self._lists / split / name

    def _ids_file(self, split: str) -> Path:
        return self._file(split, "image_ids_proxy.txt" if self._proxy and split == "train" else "image_ids.txt")

    def _ids(self, split: str) -> dict[str, Row]:
        return self._tables(split)[0]

    def _labels(self, split: str) -> dict[str, int]:
        """Return the class of each image, in the order of the ids."""
        return self._tables(split)[1]

    def _tables(self, split: str) -> tuple[dict[str, Row], dict[str, int]]:
        if split not in self._read:
            ids = key_rows(read_rows(self._ids_file(split), 1, "\n", self._sink), self._sink)
            if not ids:
                raise InputError(f"{self._ids_file(split)}: no images; expected one image path per line")
            self._read[split] = (ids, {})
            self._read[split][1].update(self._read_labels(split))
        return self._read[split]

    def _read_labels(self, split: str) -> dict[str, int]:
        file = self._file(split, "class_labels.txt")
        rows = key_rows(read_rows(file, 2, sink=self._sink), self._sink)
        self._hold_against_ids(split, rows, file)
        listed = [image for image in self._ids(split) if image in rows]
        labels = {image: class_of(rows[image], range(1_000_000), self._sink) for image in listed}
        return {image: label for image, label in labels.items() if label is not None}

    def _sizes(self, split: str) -> dict[str, tuple[int, int] | None]:
        """Return listed width and height by image; empty if the list is empty."""
        if not self._has_rows(split, "image_sizes.txt"):
            return {}
        file = self._file(split, "image_sizes.txt")
        rows = key_rows(read_rows(file, 3, sink=self._sink), self._sink)
        self._hold_against_ids(split, rows, file)
        return {image: size_of(row, self._sink) for image, row in rows.items()}

    def _hold_against_ids(self, split: str, rows: Mapping[str, Row], file: Path) -> None:
        """Require that both lists have the same images, unless the ids are the proxy's."""
        check_keys(self._ids(split), rows, file, self._sink)
        if not (self._proxy and split == "train"):
            check_keys(rows, self._ids(split), self._ids_file(split), self._sink)

    def _class_names(self, file: Path | None, num_classes: int | None) -> tuple[str, ...]:
        used = {label for name in self.splits for label in self._labels(name).values()}
        count = max(used, default=-1) + 1
        if num_classes is not None:
            if num_classes < count:
                raise InputError(
                    f"num_classes={num_classes}, but class_labels.txt in {self._lists} has classes up to {count - 1}: "
                    f"give at least {count}"
                )
            count = num_classes
        if file is None:
            return _folder_names(self._labels(self.splits[0]), count) or tuple(str(label) for label in range(count))
        names = [row.fields[0] for row in read_rows(file, 1, "\n", self._sink)]
        if num_classes is not None and len(names) != num_classes:
            raise InputError(f"{file}: {len(names)} names, but num_classes={num_classes}: give one of them")
        if len(names) < count:
            raise InputError(f"{file}: {len(names)} names, but class_labels.txt has classes 0 to {count - 1}")
        return tuple(names)

    def _has_rows(self, split: str, name: str) -> bool:
        """Return whether a list exists and is not empty; lists of training images may be empty."""
        file = self._file(split, name)
        return os.path.lexists(file) and not (file.is_file() and file.stat().st_size == 0)

    def _unlisted_in(self) -> Iterable[Path]:
        return () if self._proxy or not self.has_images else (self._root,)

    def _notes(self) -> Iterable[str]:
        for name in SPLITS:
            if name not in self.splits:
                yield f"{name}: no {self._ids_file(name)}, so this split is missing"


def _folder_names(labels: Mapping[str, int], count: int) -> tuple[str, ...] | None:
    """Name each class by the folder of its images; None if classes share a folder."""
    names: dict[int, str] = {}
    for image, label in labels.items():
        folder = image.rpartition("/")[0].rpartition("/")[2]
        if names.setdefault(label, folder) != folder:
            return None
    if len(names) != count or len(set(names.values())) != count:
        return None
    return tuple(names[label] for label in range(count))
