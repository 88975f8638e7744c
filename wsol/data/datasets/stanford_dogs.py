"""Stanford Dogs: 20,580 photographs of 120 breeds, a box for each dog.

Khosla et al. 2011, "Novel Dataset for Fine-Grained Image Categorization",
http://vision.stanford.edu/aditya86/ImageNetDogs/

The published layout is read::

    Images/n02085620-Chihuahua/n02085620_7.jpg
    Annotation/n02085620-Chihuahua/n02085620_7        XML without suffix, box ends inclusive
    lists/train_list.mat, test_list.mat               file_list, annotation_list and labels (from 1)
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import loadmat

from wsol.data.annotations.ilsvrc import read_xml
from wsol.data.annotations.text_tables import STOP, Sink
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import ListedSource, Listing, require_folder
from wsol.data.prepare.archives import Archive
from wsol.data.regular_files import name_fault, read_regular
from wsol.errors import InputError


class ListedImage(NamedTuple):
    """One line of a list."""

    path: str
    """``<class>/<image>.jpg``."""
    label: int
    """Class number, from 1."""


def read_list(file: Path) -> list[ListedImage]:
    """Read ``train_list.mat`` or ``test_list.mat``; no code in it is run.

    Raises:
        InputError: the file is not such a list.
    """
    try:
        found = loadmat(io.BytesIO(read_regular(file)), variable_names=("file_list", "labels"))
        paths = [str(np.asarray(cell).ravel()[0]) for cell in np.asarray(found["file_list"]).ravel()]
        labels = [int(value) for value in np.asarray(found["labels"]).ravel()]
        if len(paths) != len(labels) or not paths:
            raise ValueError(f"{len(paths)} files but {len(labels)} labels")
    except Exception as error:  # scipy has no common error class for damaged files
        raise InputError(f"{file}: not a list of Stanford Dogs ({error}); expected file_list and labels") from error
    return [ListedImage(path, label) for path, label in zip(paths, labels, strict=True)]


class StanfordDogs(ListedSource):
    """Stanford Dogs with its splits ``train`` and ``test``.

    Classes are the folders' names in the order of the lists' labels.

    Args:
        root: the folder with ``Images``, ``Annotation`` and ``lists``.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults; the default raises at the first.

    Raises:
        InputError: if the layout differs, or a list or annotation has a fault.
    """

    archives = (
        Archive("images.tar", md5=None),
        Archive("annotation.tar", md5=None),
        Archive("lists.tar", md5=None, into="lists"),
    )

    def __init__(self, root: str | Path, classes: ClassChoice = None, sink: Sink = STOP) -> None:
        folder = require_folder(Path(root), "Images, Annotation and lists of Stanford Dogs")
        super().__init__(require_folder(folder / "Images", "a folder of photographs for each breed"), sink, classes)
        self._annotations = require_folder(folder / "Annotation", "a folder of annotations for each breed")
        lists = require_folder(folder / "lists", "train_list.mat and test_list.mat")
        self.splits = ("train", "test")
        names: dict[int, str] = {}
        seen: set[str] = set()
        self._images: dict[str, list[ListedImage]] = {}
        for split in self.splits:
            file = lists / f"{split}_list.mat"
            self._images[split] = []
            for image in read_list(file):
                breed = image.path.rpartition("/")[0]
                if fault := name_fault(image.path) or ("" if breed else "expected <class>/<image>.jpg"):
                    sink.add(file, None, f"{image.path!a}: {fault}")
                elif names.setdefault(image.label, breed) != breed:
                    sink.add(
                        file, None, f"label {image.label} is {names[image.label]!r}, but {image.path!r} has it too"
                    )
                elif image.path in seen:
                    sink.add(file, None, f"{image.path!r} is listed twice")
                else:
                    seen.add(image.path)
                    self._images[split].append(image)
        self._labels = {number: label for label, number in enumerate(sorted(names))}
        self.classes = self._choose([names[number] for number in self._labels])
        self._ready()

    def _list(self, name: str) -> Listing:
        listing = Listing(inclusive=True)
        for image in self._images[name]:
            annotated = read_xml(self._annotations / image.path.rpartition(".")[0], self._sink)
            boxes, size = (annotated.boxes, annotated.size) if annotated else ((), None)
            listing.add(image.path, image.path, self._labels[image.label], boxes, size)
        return listing
