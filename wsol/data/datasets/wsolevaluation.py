"""CUB and ILSVRC in the lists of wsolevaluation, with CUBV2 and ImageNetV2 as the split to choose thresholds on.

Layout and source of the lists: `wsol.data.datasets.metadata_source`. Their splits are ``train``, ``val``
(train-fullsup: 5 images of each class in CUBV2, 10 in ImageNetV2) and ``test``. Each line of ``localization.txt`` is
one box, ``<image path>,<x0>,<y0>,<x1>,<y1>``. x1, y1 name the last pixel inside in ILSVRC, and the edge (x + width) in
CUB; wsolevaluation treats both alike.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from wsol.data.annotations.ilsvrc import image_number, read_blacklist
from wsol.data.annotations.text_tables import STOP, Row, Sink, group_rows, numbers, read_rows
from wsol.data.class_names import ClassChoice
from wsol.data.datasets.metadata_source import MetadataSource
from wsol.data.file_source import AnnotatedBox, Listing


class WsolEvaluation(MetadataSource):
    """CUB or ILSVRC with boxes, in wsolevaluation's lists.

    Args:
        metadata_root: such as ``metadata/CUB`` of wsolevaluation.
        image_root: see `wsol.data.datasets.metadata_source.MetadataSource`.
        proxy_training_set: train on ``image_ids_proxy.txt``.
        class_names: see `wsol.data.datasets.metadata_source.MetadataSource`.
        inclusive: whether x1, y1 name the last pixel inside (ILSVRC) or the edge (CUB).
        blacklist: file with the numbers n of the ILSVRC validation images ``ILSVRC2012_val_<n>`` to mark, see
            `wsol.data.source.Split`.
        sink: receives the faults of lists; the default raises at the first.
        num_classes: see `wsol.data.datasets.metadata_source.MetadataSource`.
        classes: see `wsol.data.datasets.metadata_source.MetadataSource`.

    Raises:
        InputError: if lists are missing, contradict each other or have a faulty line.
    """

    def __init__(
        self,
        metadata_root: str | Path,
        image_root: str | Path | None,
        proxy_training_set: bool = False,
        class_names: str | Path | None = None,
        inclusive: bool = True,
        blacklist: str | Path | None = None,
        sink: Sink = STOP,
        num_classes: int | None = None,
        classes: ClassChoice = None,
    ) -> None:
        super().__init__(metadata_root, image_root, proxy_training_set, class_names, sink, num_classes, classes)
        self._inclusive = inclusive
        self._blacklist = read_blacklist(Path(blacklist), sink) if blacklist else set()
        self._ready()
        if blacklist and not any(split.blacklist is not None for split in self._made.values()):
            sink.add(blacklist, None, "names no image of these lists; they need images called ILSVRC2012_val_<number>")

    def _list(self, name: str) -> Listing:
        sizes = self._sizes(name)
        boxes = self._boxes(name)
        listing = Listing(inclusive=self._inclusive)
        for image, label in self._labels(name).items():
            marked = [self._marked(row) for row in boxes.get(image, ())]
            found = [box for box in marked if box is not None]
            blacklisted = image_number(PurePosixPath(image).stem) in self._blacklist
            listing.add(image, image, label, found, sizes.get(image), blacklisted)
        return listing

    def _boxes(self, split: str) -> dict[str, list[Row]]:
        if not self._has_rows(split, "localization.txt"):
            return {}
        file = self._file(split, "localization.txt")
        rows = group_rows(read_rows(file, 5, sink=self._sink))
        self._hold_against_ids(split, {image: of_image[0] for image, of_image in rows.items()}, file)
        return rows

    def _marked(self, row: Row) -> AnnotatedBox | None:
        values = numbers(row, self._sink)
        return AnnotatedBox(values, row.file, row.line) if values is not None else None
