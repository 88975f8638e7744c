"""Tiny ImageNet-200: 100,000 images of 200 ImageNet classes at 64x64 pixels, 10,000 more to evaluate on, with boxes.

Le and Yang 2015, "Tiny ImageNet Visual Recognition Challenge", http://cs231n.stanford.edu/tiny-imagenet-200.zip

The published layout is read, complete or with some of the classes::

    wnids.txt                               <synset>
    words.txt                               <synset> TAB <names>, of many more synsets
    train/<synset>/<synset>_boxes.txt       <image> TAB <x0> TAB <y0> TAB <x1> TAB <y1>
    train/<synset>/images/*.JPEG
    val/val_annotations.txt                 <image> TAB <synset> TAB <x0> TAB <y0> TAB <x1> TAB <y1>
    val/images/*.JPEG

The published ``test`` folder has no annotation and is not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsol.data.annotations.text_tables import STOP, Row, Sink, key_rows, numbers, read_rows
from wsol.data.class_names import ClassChoice
from wsol.data.file_source import AnnotatedBox, ListedSource, Listing, require_folder
from wsol.data.prepare.archives import Archive
from wsol.errors import InputError

SIZE = (64, 64)
"""Width and height of every image."""


class TinyImageNet(ListedSource):
    """Tiny ImageNet-200, with its splits ``train`` and ``test`` (the images of the published ``val`` folder).

    Classes are the synsets of ``wnids.txt`` in sorted order, as in torchvision, with the names ``<synset> <first
    name>``. Box ends are inclusive: some boxes are one pixel wide.

    Args:
        root: the folder with ``wnids.txt``.
        classes: names of the classes to keep, or a text file of them; None for all.
        sink: receives the faults of lists; the default raises at the first.

    Raises:
        InputError: if the layout differs or a list has a fault.
    """

    archives = (
        Archive(
            "tiny-imagenet-200.zip",
            md5="90528d7ca1a48142e341f4ef8d21d0de",
            url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            prefix="tiny-imagenet-200",
        ),
    )

    def __init__(self, root: str | Path, classes: ClassChoice = None, sink: Sink = STOP) -> None:
        super().__init__(require_folder(Path(root), "tiny-imagenet-200 with wnids.txt, train/ and val/"), sink, classes)
        self._synsets = sorted(key_rows(read_rows(self._root / "wnids.txt", 1, None, sink), sink))
        self.classes = self._choose(self._names())
        self.splits = tuple(
            name for name, part in (("train", "train"), ("test", "val")) if (self._root / part).is_dir()
        )
        if not self.splits:
            raise InputError(f"{self._root}: no images; looked for {{train,val}} in it")
        self._ready()

    def _names(self) -> tuple[str, ...]:
        file = self._root / "words.txt"
        words = {row.fields[0]: row for row in read_rows(file, 2, "\t", self._sink, rest=True)}
        for synset in self._synsets:
            if synset not in words:
                self._sink.add(file, None, f"class {synset} of wnids.txt is not listed")
        return tuple(f"{s} {words[s].fields[1].split(',')[0]}" if s in words else s for s in self._synsets)

    def _list(self, name: str) -> Listing:
        return self._list_train() if name == "train" else self._list_test()

    def _list_train(self) -> Listing:
        listing = Listing(inclusive=True)
        for label, synset in enumerate(self._synsets):
            if not self._wants(label):
                continue
            folder = self._root / "train" / synset
            rows = key_rows(read_rows(folder / f"{synset}_boxes.txt", 5, "\t", self._sink), self._sink)
            for image, row in rows.items():
                listing.add(image, f"train/{synset}/images/{image}", label, self._marked(row), SIZE)
        return listing

    def _list_test(self) -> Listing:
        listing = Listing(inclusive=True)
        index = {synset: label for label, synset in enumerate(self._synsets)}
        rows = key_rows(read_rows(self._root / "val" / "val_annotations.txt", 6, "\t", self._sink), self._sink)
        for image, row in rows.items():
            synset = row.fields[1]
            if synset in index:
                box = row._replace(fields=(image, *row.fields[2:]))
                listing.add(image, f"val/images/{image}", index[synset], self._marked(box), SIZE)
            else:
                self._sink.add(row.file, row.line, f"unknown class {synset!r}: not in wnids.txt")
        return listing

    def _marked(self, row: Row) -> list[AnnotatedBox]:
        values = numbers(row, self._sink)
        return [] if values is None else [AnnotatedBox(values, row.file, row.line)]

    def _unlisted_in(self) -> Iterable[Path]:
        return (self._root / part for part in ("train", "val"))
