"""CUB and ILSVRC by the lists of wsolevaluation, with CUBV2 and ImageNetV2 as the split that chooses thresholds.

Layout and source of the lists: `wsol.data.lists`. Their splits are ``train``, ``val`` (train-fullsup: CUBV2 with 5,
ImageNetV2 with 10 images of each class) and ``test``. Each line of ``localization.txt`` is a box,
``<image path>,<x0>,<y0>,<x1>,<y1>``, several lines for several boxes; wsolevaluation takes ends as inclusive for both
datasets, and so does this reader.
"""

from __future__ import annotations

from pathlib import Path

from wsol.data.listed import Listing, Marked
from wsol.data.lists import MetadataSource
from wsol.data.tables import STOP, Row, Sink, grouped, keyed, numbers, read_rows, size_of


class WsolEvaluation(MetadataSource):
    """CUB or ILSVRC with boxes, by wsolevaluation's lists.

    Args:
        metadata_root: such as ``metadata/CUB`` of wsolevaluation.
        image_root: folder that the lists' image paths are relative to.
        proxy_training_set: train on ``image_ids_proxy.txt``.
        class_names: see `wsol.data.lists.MetadataSource`.
        sink: told of faults in the lists; the default raises at the first.

    Raises:
        InputError: if lists are missing, disagree with one another or have a faulty line.
    """

    def __init__(
        self,
        metadata_root: str | Path,
        image_root: str | Path,
        proxy_training_set: bool = False,
        class_names: str | Path | None = None,
        sink: Sink = STOP,
    ) -> None:
        super().__init__(metadata_root, image_root, proxy_training_set, class_names, sink)
        self._ready()

    def _list(self, name: str) -> Listing:
        sizes = self._sizes(name)
        boxes = self._boxes(name)
        listing = Listing(inclusive=True)
        for image, label in self._labels(name).items():
            marked = [self._marked(row) for row in boxes.get(image, ())]
            found = [box for box in marked if box is not None]
            listing.add(image, image, label, found, sizes.get(image))
        return listing

    def _sizes(self, split: str) -> dict[str, tuple[int, int] | None]:
        if not self._has_rows(split, "image_sizes.txt"):
            return {}
        file = self._file(split, "image_sizes.txt")
        rows = keyed(read_rows(file, 3, sink=self._sink), self._sink)
        self._hold_against_ids(split, rows, file)
        return {image: size_of(row, self._sink) for image, row in rows.items()}

    def _boxes(self, split: str) -> dict[str, list[Row]]:
        if not self._has_rows(split, "localization.txt"):
            return {}
        file = self._file(split, "localization.txt")
        rows = grouped(read_rows(file, 5, sink=self._sink))
        self._hold_against_ids(split, {image: of_image[0] for image, of_image in rows.items()}, file)
        return rows

    def _marked(self, row: Row) -> Marked | None:
        values = numbers(row, self._sink)
        return Marked(values, row.file, row.line) if values is not None else None
