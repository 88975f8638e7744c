"""BUSI: 780 breast ultrasound images, benign, malignant or normal, with masks of the lesions.

Al-Dhabyani et al. 2020, "Dataset of breast ultrasound images", Data in Brief 28, 104863. Free for research with that
citation. Read in its published layout, or re-encoded with the masks in a folder of their own::

    <class>/<class> (1).png                images/<class>/<class>_1.jpg
    <class>/<class> (1)_mask.png           masks/<class>/<class>_1.png
    <class>/<class> (1)_mask_1.png         one for each further lesion

There are no published splits. Here the image numbers decide: of each class, numbers that end in 0, 1 or 2 are for test,
in 3 for validation, all others for training. Images of ``normal`` have no lesion: they are classified, and left out
where boxes or masks are evaluated. The box is that of all lesions together.
"""

from __future__ import annotations

import re
from pathlib import Path

from wsol.data.annotations.masks import MaskFiles
from wsol.data.annotations.text_tables import STOP, Sink
from wsol.data.file_source import Listing, need_folder
from wsol.data.image_files import is_image
from wsol.data.masked_source import MaskedSource
from wsol.errors import InputError

CLASSES = ("benign", "malignant", "normal")
SPLIT_OF_LAST_DIGIT = {0: "test", 1: "test", 2: "test", 3: "val"}
_NAME = re.compile(r"(?P<class>\w+?)(?: \(|_)(?P<number>\d+)\)?(?P<mask>_mask(_\d+)?)?\.\w+")


class BUSI(MaskedSource):
    """BUSI with its masks, and the splits ``train``, ``val`` and ``test`` by the rule above.

    Args:
        root: the folder with ``benign``, ``malignant`` and ``normal`` (or with ``images`` and ``masks``).
        sink: told of faults; the default raises at the first.

    Raises:
        InputError: if the layout is another one, or a mask does not fit its image.
    """

    classes = CLASSES
    splits = ("train", "val", "test")

    def __init__(self, root: str | Path, sink: Sink = STOP) -> None:
        folder = need_folder(Path(root), "Dataset_BUSI_with_GT with the folders benign, malignant and normal")
        is_published = not (folder / "images").is_dir()
        super().__init__(folder if is_published else folder / "images", sink)
        self._mask_root = folder if is_published else folder / "masks"
        self._images: dict[tuple[str, int], str] = {}
        self._mask_files: dict[tuple[str, int], list[str]] = {}
        for name in CLASSES:
            self._find(need_folder(self._root / name, "images of this class"), is_mask=False)
            self._find(need_folder(self._mask_root / name, "masks of this class"), is_mask=not is_published)
        self._ready()

    def _find(self, folder: Path, is_mask: bool) -> None:
        """Note the images and masks of a class by number."""
        for path in sorted(folder.iterdir()):
            if not is_image(path.name):
                continue
            match = _NAME.fullmatch(path.name)
            if match is None or match["class"] != folder.name:
                raise InputError(f"{path}: expected a name such as '{folder.name} (1).png', as BUSI is published")
            key = folder.name, int(match["number"])
            name = f"{folder.name}/{path.name}"
            if is_mask or match["mask"]:
                files = self._mask_files.setdefault(key, [])
                files += [name] if name not in files else []
            else:
                self._images[key] = name

    def _list(self, name: str) -> Listing:
        listing, files = Listing(), []
        for (kind, number), image in sorted(self._images.items()):
            if SPLIT_OF_LAST_DIGIT.get(number % 10, "train") == name:
                listing.add(f"{kind}/{number}", image, CLASSES.index(kind))
                files.append(tuple(self._mask_files.get((kind, number), ())))
                if not files[-1]:
                    self._sink.add(self._root / image, None, "has no mask; every image of BUSI has one")
        paths = [[self._mask_root / file for file in of_image] for of_image in files]
        self._mark(name, listing, MaskFiles(self._mask_root, files), paths)
        return listing
