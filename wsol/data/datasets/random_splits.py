"""Class folders without published splits: training and test images of each class are drawn at random.

::

    root/<class>/*.jpg

========================  ==========================  =============================================================
dataset                   folders                     usual draw
========================  ==========================  =============================================================
Caltech-101               ``101_ObjectCategories``    30 of each class train, up to 50 others test; without
(Li et al. 2004)                                      ``BACKGROUND_Google``
Caltech-256               ``256_ObjectCategories``    60 train, the others test; without ``257.clutter``
(Griffin et al. 2007)
15 Scenes                 ``scene_categories``        100 train, the others test
(Lazebnik et al. 2006)
UIUC Sports, 8 events     ``event_img``               70 train, 60 test
(Li and Li 2007)
========================  ==========================  =============================================================

The numbers are the usual ones of the literature, beginning with each dataset's own paper; it was not verified that
table 5 of CAM 2016 uses them. Papers differ, and report the mean over several draws (``data.seed``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsol.data.annotations.text_tables import STOP, Sink
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import ListedSource, Listing, require_folder
from wsol.data.image_files import class_folders, is_image
from wsol.data.regular_files import name_fault
from wsol.errors import InputError


@dataclass(frozen=True)
class Draw:
    """A random choice of training and test images from class folders; it depends on the seed and each folder alone.

    Raises:
        InputError: a number of images below 1, or a negative seed.
    """

    train_per_class: int
    test_per_class: int | None
    """Largest number of test images of a class; None for all that are not training images."""
    seed: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("train_per_class", "test_per_class"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: expected at least 1, got {value}")
        if self.seed < 0:
            raise InputError(f"seed of the draw: expected at least 0, got {self.seed}")

    def files(self, folder: Path, sink: Sink) -> dict[str, list[str]] | None:
        """Return the names of a folder's images by split; None if there are too few (the sink gets the fault)."""
        files = sorted(path.name for path in folder.iterdir() if is_image(path.name))
        train = self.train_per_class
        if len(files) <= train:
            text = f"{len(files)} images, expected at least {train + 1}: {train} to train and 1 to test"
            sink.add(folder, None, f"{text}; lower data.train_per_class, or name the folder in data.leave_out")
            return None
        order = np.random.default_rng([self.seed, *folder.name.encode()]).permutation(len(files))
        last = None if self.test_per_class is None else train + self.test_per_class
        parts = {"train": order[:train], "test": order[train:last]}
        return {split: [files[i] for i in sorted(part)] for split, part in parts.items()}


class RandomSplits(ListedSource):
    """Images in class folders, with ``train`` and ``test`` drawn at random. There are no boxes.

    Classes are the folders' names in sorted order. Only images directly in a class's folder are used. The draw of a
    class depends only on the seed and that class's folder.

    Args:
        root: the folder of class folders.
        train_per_class: number of training images of each class.
        test_per_class: largest number of test images of each class, from the others; None for all.
        leave_out: names of folders that are no classes; they need not exist.
        seed: seed of the random choice.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults; the default raises at the first.

    Raises:
        InputError: no class folders, a class without images left to test on, or numbers below 1.
    """

    def __init__(
        self,
        root: str | Path,
        train_per_class: int,
        test_per_class: int | None = None,
        leave_out: Sequence[str] = (),
        seed: int = 0,
        classes: ClassChoice = None,
        sink: Sink = STOP,
    ) -> None:
        super().__init__(require_folder(Path(root), "a folder of images for each class"), sink, classes)
        draw = Draw(train_per_class, test_per_class, seed)
        self.splits = ("train", "test")
        folders = {path.name: path for path in class_folders(self._root)}
        for name in [name for name in folders if name_fault(name)]:
            sink.add(ascii(str(folders.pop(name))), None, str(name_fault(name)))
        names = self._choose([name for name in folders if name not in leave_out])
        self._new_labels = None  # no images of the other classes are drawn
        self._drawn = {name: drawn for name in names if (drawn := draw.files(folders[name], sink)) is not None}
        self.classes = tuple(self._drawn)
        if not self.classes:
            raise InputError(f"{self._root}: no class folders; expected <class>/*.jpg in it")
        self._ready()

    def _list(self, name: str) -> Listing:
        listing = Listing()
        for label, (folder, drawn) in enumerate(self._drawn.items()):
            for file in drawn[name]:
                listing.add(f"{folder}/{file}", f"{folder}/{file}", label)
        return listing
