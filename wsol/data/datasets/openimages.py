"""OpenImages30k: 100 classes, 29,819 training images, 2,500 and 5,000 images with masks and ignored regions.

Choe et al. 2020 (see `wsol.data.datasets.metadata_source`), masks from Benenson et al. 2019,
https://arxiv.org/abs/1903.10830. Each line of ``localization.txt`` is
``<image path>,<mask path>,<ignore path or nothing>``, one line for each object of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wsol.data.annotations.text_tables import STOP, Row, Sink, group_rows, read_rows
from wsol.data.class_names import ClassChoice
from wsol.data.datasets.metadata_source import MetadataSource
from wsol.data.file_source import Listing
from wsol.data.images import image_size, read_grey
from wsol.data.inspection import Report
from wsol.data.packed import StringLists, Strings
from wsol.errors import InputError


@dataclass(frozen=True)
class MaskReader:
    """Makes the mask of an image from the PNGs of its objects.

    A pixel is 1 if it is set in any object's mask, else 255 if it is set in any ignore mask, else 0. Masks of another
    size are resized to their image's size by nearest neighbour. If there are no images and no listed size, an image's
    first mask determines the size.
    """

    image_root: Path | None
    mask_root: Path
    images: Sequence[str]
    sizes: np.ndarray
    """int (N, 2) listed width and height of each image; 0 if they are not listed."""
    objects: Sequence[Sequence[str]]
    """Mask files of each image."""
    ignored: Sequence[Sequence[str]]
    """Ignore files of each image."""

    def __call__(self, row: int) -> np.ndarray | None:
        """Return the mask of an image: uint8 (H, W), or None if it has none."""
        if not self.objects[row]:
            return None
        size = self.size(row)
        mask = np.zeros((size[1], size[0]), dtype=np.uint8)
        for file in self.ignored[row]:
            mask[self._on(file, size)] = 255
        for file in self.objects[row]:
            mask[self._on(file, size)] = 1
        return mask

    def size(self, row: int) -> tuple[int, int]:
        """Return width and height of an image that has masks."""
        if self.sizes[row].all():
            width, height = self.sizes[row].tolist()
            return width, height
        if self.image_root is not None:
            return image_size(self.image_root / self.images[row])
        return image_size(self.mask_root / self.objects[row][0])

    def files(self, row: int) -> list[Path]:
        """Return all mask and ignore files of an image."""
        return [self.mask_root / file for file in (*self.objects[row], *self.ignored[row])]

    def _on(self, file: str, size: tuple[int, int]) -> np.ndarray:
        grey = read_grey(self.mask_root / file)
        if grey.shape != size[::-1]:
            grey = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.NEAREST))
        return grey > 0


class OpenImages(MetadataSource):
    """OpenImages30k; its splits ``val`` and ``test`` have masks, ``train`` has only labels.

    Args:
        metadata_root: ``metadata/OpenImages`` of wsolevaluation.
        image_root: see `wsol.data.datasets.metadata_source.MetadataSource`.
        mask_root: folder that the lists' mask paths are relative to; ``image_root`` if None.
        proxy_training_set: train on ``image_ids_proxy.txt``.
        class_names: see `wsol.data.datasets.metadata_source.MetadataSource`.
        classes: see `wsol.data.datasets.metadata_source.MetadataSource`.
        sink: receives the faults of lists; the default raises at the first.

    Raises:
        InputError: if lists are missing, contradict each other or have a faulty line.
    """

    def __init__(
        self,
        metadata_root: str | Path,
        image_root: str | Path | None,
        mask_root: str | Path | None = None,
        proxy_training_set: bool = False,
        class_names: str | Path | None = None,
        classes: ClassChoice = None,
        sink: Sink = STOP,
    ) -> None:
        super().__init__(metadata_root, image_root, proxy_training_set, class_names, sink, classes=classes)
        if mask_root is None and not self.has_images:
            raise InputError("OpenImages without images (image_root: null) still needs its masks; set mask_root")
        self._mask_root = Path(mask_root) if mask_root else self._root
        self._rows: dict[str, dict[str, list[Row]]] = {name: self._localization(name) for name in self.splits}
        self._readers: dict[str, MaskReader] = {}
        self._ready()

    def _localization(self, split: str) -> dict[str, list[Row]]:
        if not self._has_rows(split, "localization.txt"):
            return {}
        file = self._file(split, "localization.txt")
        rows = group_rows(row for row in read_rows(file, 3, sink=self._sink) if self._names_mask(row))
        self._hold_against_ids(split, {image: of_image[0] for image, of_image in rows.items()}, file)
        return rows

    def _names_mask(self, row: Row) -> bool:
        if not row.fields[1]:
            self._sink.add(row.file, row.line, f"expected the mask file of {row.fields[0]!r} in the second field")
        return bool(row.fields[1])

    def _list(self, name: str) -> Listing:
        listing = Listing()
        sizes = self._sizes(name)
        for image, label in self._labels(name).items():
            if self._wants(label):  # the readers of masks below use the positions of kept rows
                listing.add(image, image, label, size=sizes.get(image))
        if self._rows[name]:
            rows = [self._rows[name].get(image, []) for image in listing.ids]
            self._readers[name] = MaskReader(
                self._root if self.has_images else None,
                self._mask_root,
                Strings(listing.paths),
                np.array([size or (0, 0) for size in listing.sizes], np.int32),
                StringLists([row.fields[1] for row in of_image] for of_image in rows),
                StringLists([row.fields[2] for row in of_image if row.fields[2]] for of_image in rows),
            )
        return listing

    def _masks(self, name: str) -> Callable[[int], np.ndarray | None] | None:
        return self._readers.get(name)

    def _unlisted_in(self) -> Iterable[Path]:
        """Return no folder if masks lie among the images."""
        return () if self._mask_root == self._root else super()._unlisted_in()

    def verify(self, deep: bool | None = None, report: Report | None = None) -> Report:
        """Like `wsol.data.file_source.ListedSource.verify`, and check every mask file."""
        deep = self._reads_pixels(deep)
        report = super().verify(deep, report)
        for name, reader in self._readers.items():
            resized = 0
            for i, row in enumerate(self._made[name].ids):
                resized += self._look_at_masks(reader, i, self._rows[name].get(row, []), deep, report)
            if resized:
                report.notes.append(f"{name}: masks of {resized} images differ in size from the image and are resized")
        return report

    def _look_at_masks(self, reader: MaskReader, i: int, rows: Sequence[Row], deep: bool, report: Report) -> bool:
        """Check an image's mask files; return whether one differs in size from the image."""
        sizes = set()
        for row, file in _mask_files(rows, self._mask_root):
            try:
                sizes.add(image_size(file))
            except InputError as error:
                report.add(row.file, row.line, str(error))
        if not sizes:
            return False
        try:
            sizes.add(reader.size(i))
            if deep:
                reader(i)
        except InputError as error:
            report.add(rows[0].file, rows[0].line, str(error))
        return len(sizes) > 1


def _mask_files(rows: Sequence[Row], root: Path) -> Iterable[tuple[Row, Path]]:
    return ((row, root / name) for row in rows for name in row.fields[1:] if name)
