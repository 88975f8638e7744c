"""Datasets whose objects are marked by mask files: the boxes follow from the masks where no list has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from wsol.data.annotations.masks import boxes_of_masks
from wsol.data.annotations.text_tables import STOP, Sink
from wsol.data.file_source import AnnotatedBox, ListedSource, Listing
from wsol.data.images import image_size
from wsol.errors import InputError


class MaskedSource(ListedSource):
    """A `ListedSource` with masks; a subclass calls `_mark` at the end of its `_list`."""

    def __init__(self, root: Path | None, sink: Sink = STOP) -> None:
        super().__init__(root, sink)
        self._readers: dict[str, Callable[[int], np.ndarray | None]] = {}
        self._without_object: dict[str, list[str]] = {}

    def _mark(
        self,
        name: str,
        listing: Listing,
        read_mask: Callable[[int], np.ndarray | None],
        files: Sequence[Sequence[Path]],
    ) -> None:
        """Take the masks of a split, hold their sizes against the images, and make the missing boxes of them.

        Args:
            name: of the split.
            listing: of its images, in the order of ``files``; its boxes are completed.
            read_mask: makes the mask of the image at a row.
            files: files that each mask is made of, for messages.
        """
        self._readers[name] = read_mask
        bare = self._without_object.setdefault(name, [])
        for row, found in enumerate(boxes_of_masks(read_mask, len(listing.ids))):
            if isinstance(found, InputError):
                self._sink.add(files[row][0], None, str(found).removeprefix(f"{files[row][0]}: "))
            elif found is None:
                bare.append(listing.ids[row])
            else:
                box, size = found
                if (seen := self._size(listing, row)) not in (None, size):
                    self._sink.add(
                        files[row][0],
                        None,
                        f"mask of {size[0]} x {size[1]} pixels, but its image {listing.paths[row]} has "
                        f"{seen[0]} x {seen[1]}; give both the same size",  # type: ignore[index]  # not None
                    )
                elif not listing.boxes[row]:
                    end = int(listing.inclusive)
                    corners = tuple(map(float, (box[0], box[1], box[2] - end, box[3] - end)))
                    listing.boxes[row] = [AnnotatedBox(corners, files[row][0])]

    def _size(self, listing: Listing, row: int) -> tuple[int, int] | None:
        """Width and height of an image; None if it cannot be read, which is told elsewhere."""
        try:
            return image_size(self._root / listing.paths[row])
        except InputError:
            return None

    def _masks(self, name: str) -> Callable[[int], np.ndarray | None] | None:
        return self._readers.get(name)

    def _notes(self) -> Iterable[str]:
        for name, bare in self._without_object.items():
            if bare and name in self._readers:
                yield (
                    f"{name}: {len(bare)} images have no mask with an object, such as {bare[0]}: they count as images "
                    "of their class, but not where boxes or pixels are evaluated"
                )
