"""The three formats in which the classes, in two of them also the boxes, of ILSVRC validation images are published.

All box ends are inclusive: xmax and ymax name the last pixel inside.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from wsol.data.annotations.text_tables import (
    STOP,
    Row,
    Sink,
    key_rows,
    parse_integer,
    parse_number,
    parse_side,
    quoted,
    read_rows,
)
from wsol.data.file_source import AnnotatedBox
from wsol.data.regular_files import open_regular
from wsol.errors import InputError

CORNERS = ("xmin", "ymin", "xmax", "ymax")
IMAGE_NUMBER = re.compile(r"ILSVRC2012_(?:val|test)_(\d{8})")


class ImageAnnotation(NamedTuple):
    """The annotation of one image."""

    synset: str
    file: Path
    line: int | None = None
    boxes: tuple[AnnotatedBox, ...] = ()
    size: tuple[int, int] | None = None
    """Width and height, if the annotation has them."""


def image_number(stem: str) -> int | None:
    """Return the number in the name of a validation or test image.

    Example:
        >>> image_number("ILSVRC2012_val_00000293")
        293
    """
    found = IMAGE_NUMBER.fullmatch(stem)
    return int(found[1]) if found else None


def read_xml(path: Path, sink: Sink = STOP) -> ImageAnnotation | None:
    """Read one XML file: size, and name and box of each object; None if it cannot be used."""
    try:
        with open_regular(path) as file:
            tree = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        sink.add(path, error.position[0], f"not XML ({error})")
        return None
    except OSError as error:
        sink.add(path, None, f"cannot be read ({error.strerror})")
        return None
    except (ValueError, LookupError, RecursionError, MemoryError) as error:  # LookupError: an unknown encoding
        sink.add(path, None, f"unreadable XML ({error})")
        return None
    objects = tree.findall("object")
    names = {(thing.findtext("name") or "").strip() for thing in objects}
    if len(names) != 1 or "" in names:
        sink.add(path, None, f"expected objects of one class, got {sorted(names) or 'no object'}")
        return None
    boxes = []
    for thing in objects:
        if len(thing.findall("bndbox")) > 1 or any(len(thing.findall(f"bndbox/{corner}")) > 1 for corner in CORNERS):
            sink.add(path, None, "an object has two boxes; give each box an object of its own")
            continue
        texts = [(thing.findtext(f"bndbox/{corner}") or "").strip() for corner in CORNERS]
        values = tuple(value for value in map(parse_number, texts) if value is not None)
        if len(values) == 4:
            boxes.append(AnnotatedBox(values, path))
        else:
            sink.add(path, None, f"expected numbers xmin, ymin, xmax, ymax, got {texts}")
    return ImageAnnotation(names.pop(), path, None, tuple(boxes), _xml_size(tree, path, sink))


def _xml_size(tree: ElementTree.Element, path: Path, sink: Sink) -> tuple[int, int] | None:
    """Return width and height; None if they are missing or 0, which some tools write for unknown."""
    texts = [(tree.findtext(f"size/{name}") or "").strip() for name in ("width", "height")]
    width, height = map(parse_side, texts)
    if width is not None and height is not None:
        return width, height
    if any(text not in ("", "0") for text in texts):
        sink.add(path, None, f"expected size/width and size/height in pixels, got {quoted(', '.join(texts))}")
    return None


def read_solution(path: Path, sink: Sink = STOP) -> dict[str, ImageAnnotation]:
    """Read Kaggle's ``LOC_val_solution.csv``: ``ImageId,PredictionString``, five words for each box."""
    rows = read_rows(path, 2, sink=sink)
    if rows and rows[0].fields == ("ImageId", "PredictionString"):
        rows = rows[1:]
    found = {}
    for image, row in key_rows(rows, sink).items():
        words = row.fields[1].split()
        synsets = set(words[::5])
        boxes = [_solution_box(words[i + 1 : i + 5], row) for i in range(0, len(words), 5)]
        if len(words) % 5 or None in boxes or not words:
            text = "expected '<synset> <xmin> <ymin> <xmax> <ymax>' for each box, got "
            sink.add(row.file, row.line, text + quoted(row.fields[1]))
        elif len(synsets) > 1:
            sink.add(row.file, row.line, f"expected boxes of one class, got {sorted(synsets)}")
        else:
            marked = tuple(box for box in boxes if box is not None)
            found[image] = ImageAnnotation(words[0], row.file, row.line, marked)
    return found


def _solution_box(words: list[str], row: Row) -> AnnotatedBox | None:
    values = tuple(value for value in map(parse_number, words) if value is not None)
    return AnnotatedBox(values, row.file, row.line) if len(values) == 4 else None


def read_ground_truth(path: Path, devkit_synsets: Path | None, sink: Sink = STOP) -> dict[str, ImageAnnotation]:
    """Read the development kit's ``ILSVRC2012_validation_ground_truth.txt``: line n holds the class of image n.

    Its class numbers are ILSVRC2012_ID. Their order is neither that of sorted synsets (folders, torchvision) nor that
    of Kaggle's ``LOC_synset_mapping.txt``; only ``meta.mat`` of the kit has it.

    Args:
        path: the ground truth file.
        devkit_synsets: text file with the synsets of ILSVRC2012_ID 1, 2, ..., one per line (its first word).
        sink: receives the faults.

    Raises:
        InputError: without ``devkit_synsets``, or if that file is sorted and so cannot be in the kit's order.
    """
    if devkit_synsets is None:
        raise InputError(
            f"{path}: its class numbers are in the development kit's own order (meta.mat), which is not that of sorted "
            "synsets; give devkit_synsets, a text file with the synsets of ILSVRC2012_ID 1, 2, ... in order, or use "
            "LOC_val_solution.csv or the XML annotations, which name synsets"
        )
    synsets = [row.fields[0].split()[0] for row in read_rows(devkit_synsets, 1, separator="\n", sink=sink)]
    if len(synsets) > 1 and synsets == sorted(synsets):
        raise InputError(
            f"{devkit_synsets}: synsets are sorted, but the development kit's order (meta.mat: ILSVRC2012_ID) is not; "
            "LOC_synset_mapping.txt and lists in torchvision's order cannot be used here"
        )
    found = {}
    for image, row in enumerate(read_rows(path, 1, sink=sink), start=1):
        label = parse_integer(row.fields[0])
        if label is None or not 1 <= label <= len(synsets):
            sink.add(path, row.line, f"expected a class number from 1 to {len(synsets)}, got {quoted(row.fields[0])}")
        else:
            found[f"ILSVRC2012_val_{image:08d}"] = ImageAnnotation(synsets[label - 1], path, row.line)
    return found


def read_blacklist(path: Path, sink: Sink = STOP) -> set[int]:
    """Read the numbers of validation images that are not evaluated, one per line."""
    numbers = set()
    for row in read_rows(path, 1, sink=sink):
        image = parse_integer(row.fields[0])
        if image is None or image < 1:
            sink.add(path, row.line, f"expected the number of a validation image, got {quoted(row.fields[0])}")
        else:
            numbers.add(image)
    return numbers


def read_xml_folder(folder: Path, sink: Sink = STOP) -> dict[str, ImageAnnotation]:
    """Read all XML files of a folder, by file name without suffix."""
    read = {path.stem: read_xml(path, sink) for path in sorted(folder.glob("*.xml"))}
    return {stem: annotated for stem, annotated in read.items() if annotated is not None}
