"""BUSI: 780 ultrasound images of breasts, 437 with a benign and 210 with a malignant lesion, 133 normal, with masks.

Al-Dhabyani et al. 2020, "Dataset of breast ultrasound images", https://doi.org/10.1016/j.dib.2019.104863

Both the published layout and separate folders of images and masks are read::

    benign/benign (1).png              images/benign/benign_1.jpg
    benign/benign (1)_mask.png         masks/benign/benign_1.png
    benign/benign (1)_mask_1.png

No split is published. The split used here depends on the number N in a file's name: ten neighbouring numbers, which
may be of one patient, stay together. Blocks (N - 1) // 10 with last digit 0 to 5 are ``train``, 6 is ``val`` and
7 to 9 are ``test``.
"""

from __future__ import annotations

import re
from pathlib import Path

from wsol.data.annotations.mask_files import Decode, GreyMask, MaskedSource
from wsol.data.annotations.text_tables import STOP, Sink
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import Listing, require_folder
from wsol.data.image_files import class_folders, image_files
from wsol.data.prepare.archives import Archive
from wsol.errors import InputError

LAYOUT = "benign/, malignant/ and normal/ of BUSI, or images/ and masks/ with these"
MASK = re.compile(r"(.+)_mask(_\d+)?")
NUMBER = re.compile(r"(\d{1,6})\)?$")


class BUSI(MaskedSource):
    """BUSI with splits ``train``, ``val`` and ``test`` by the rule above.

    Classes are the folders in sorted order. An image's box is the one around all of its masks; images whose masks are
    empty (``normal``) have none.

    Args:
        root: the folder with the class folders, or with ``images`` and ``masks``.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults; the default raises at the first.

    Raises:
        InputError: another layout, an image without mask or number, a mask without image, or a mask of another size.
    """

    archives = (Archive("Dataset_BUSI.zip", md5=None, prefix="Dataset_BUSI_with_GT"),)

    def __init__(self, root: str | Path, classes: ClassChoice = None, sink: Sink = STOP) -> None:
        folder = require_folder(Path(root), LAYOUT)
        apart = (folder / "images").is_dir()
        super().__init__(require_folder(folder / "images", LAYOUT) if apart else folder, sink, classes)
        self._mask_root = require_folder(folder / "masks", "a mask for each image") if apart else folder
        self._apart = apart
        folders = class_folders(self._root)
        if not folders:
            raise InputError(f"{folder}: no class folders; expected {LAYOUT}")
        self.classes = self._choose([path.name for path in folders])
        self._images: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
        self._files: dict[str, list[Path]] = {}
        for label, path in enumerate(folders):
            self._read_folder(label, path)
        self.splits = tuple(name for name, images in self._images.items() if images)
        if not self.splits:
            raise InputError(f"{folder}: no images; expected {LAYOUT}")
        self._ready()

    def _read_folder(self, label: int, folder: Path) -> None:
        there = image_files(folder)
        own = (
            image_files(self._mask_root / folder.name)
            if self._apart and (self._mask_root / folder.name).is_dir()
            else []
        )
        images = [p for p in there if self._apart or not MASK.fullmatch(p.stem)]
        by_stem: dict[str, list[Path]] = {}
        for mask in own if self._apart else [p for p in there if MASK.fullmatch(p.stem)]:
            match = MASK.fullmatch(mask.stem)
            by_stem.setdefault(match[1] if match and not self._apart else mask.stem, []).append(mask)
        for image in images:
            number = NUMBER.search(image.stem)
            if number is None:
                self._sink.add(image, None, "expected a name that ends in a number, such as 'benign (12).png'")
                continue
            masks = by_stem.pop(image.stem, [])
            if not masks:
                self._sink.add(
                    image, None, f"no mask; expected {'masks/' if self._apart else image.stem + '_mask.png'}"
                )
            path = image.relative_to(self._root).as_posix()
            self._images[_side(int(number[1]))].append((path, label))
            self._files[path] = masks
        for masks in by_stem.values():
            self._sink.add(masks[0], None, "a mask without its image")

    def _list_masks(self, name: str) -> tuple[Listing, list[list[Path]], Decode]:
        listing = Listing()
        for path, label in self._images[name]:
            listing.add(path, path, label)
        return listing, [self._files[path] for path in listing.paths], GreyMask()


def _side(number: int) -> str:
    """Return the split of an image by the number in its name.

    Example:
        >>> _side(1), _side(61), _side(71), _side(101)
        ('train', 'val', 'test', 'train')
    """
    digit = (number - 1) // 10 % 10
    return "train" if digit < 6 else "val" if digit == 6 else "test"
