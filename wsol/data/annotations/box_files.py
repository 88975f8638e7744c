"""Boxes of the image-folder dataset, from a CSV table or a COCO JSON file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeGuard

from wsol.data.annotations.json_file import strict_json
from wsol.data.annotations.text_tables import LARGEST_SIDE, STOP, Sink, parse_number, quoted, read_text
from wsol.data.file_source import AnnotatedBox
from wsol.errors import InputError

CORNERS = ("x0", "y0", "x1", "y1")
EXTENTS = ("x", "y", "width", "height")
CATEGORY = ("class", "category")
"""Columns of a CSV that name what a box marks; the first one present is used."""


class Annotations(NamedTuple):
    """Boxes by image name, as written in the file."""

    boxes: dict[str, list[AnnotatedBox]]
    sizes: dict[str, tuple[int, int]]
    """Width and height, if the file has them."""
    inclusive: bool
    lines: dict[str, int | None]
    """Line of the first mention of each image."""


def read_boxes(path: Path, inclusive: bool = False, sink: Sink = STOP) -> Annotations:
    """Read boxes from ``.csv`` or ``.json``.

    Args:
        path: the file.
        inclusive: whether x1, y1 of a CSV name the last pixel inside rather than the edge.
        sink: receives the faulty lines.

    Raises:
        InputError: if there is no such file, it is neither, it is no text, or its content is not.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"{path}: expected boxes as .csv or COCO .json")
    if not path.exists():
        raise InputError(f"{path}: no such file; expected a table of boxes")
    if path.suffix.lower() == ".csv":
        return read_csv(path, inclusive, sink)
    return read_coco(path, sink)


def look_like_fractions(boxes: Iterable[AnnotatedBox]) -> bool:
    """Return whether most boxes lie within 0..1: they are then fractions of the image's width and height, not pixels.

    Example:
        >>> look_like_fractions([AnnotatedBox((0.1, 0.2, 0.5, 1.0), Path("boxes.csv"))])
        True
    """
    within = [0 <= b[0] < b[2] <= 1 and 0 <= b[1] < b[3] <= 1 for b in (marked.box for marked in boxes)]
    return 2 * sum(within) > len(within)


def read_csv(path: Path, inclusive: bool = False, sink: Sink = STOP) -> Annotations:
    """Read a CSV with the header ``image,x0,y0,x1,y1`` or ``image,x,y,width,height``; one line per box.

    A column ``class`` or ``category`` names what a box marks. Further columns and the order of columns do not matter.
    With width and height, the far edges are x + width and y + height, so ``inclusive`` does not apply.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    found = Annotations({}, {}, inclusive, {})
    try:
        header = [name.strip() for name in next(reader, [])]
        columns = _columns(header, f"{path}:1")
        if columns is EXTENTS:
            found = found._replace(inclusive=False)
        for fields in reader:
            if not fields:
                continue
            line = reader.line_num
            if len(fields) != len(header):
                sink.add(path, line, f"expected {len(header)} fields, got {len(fields)}: {quoted(','.join(fields))}")
                continue
            row = dict(zip(header, (field.strip() for field in fields), strict=True))
            values = [parse_number(row[name]) for name in columns]
            if not row["image"] or None in values:
                sink.add(path, line, f"expected an image and four numbers, got {quoted(','.join(fields))}")
                continue
            box = tuple(value for value in values if value is not None)
            category = next((row[name] for name in CATEGORY if row.get(name)), None)
            _add(found, row["image"], AnnotatedBox(_corners(box) if columns is EXTENTS else box, path, line, category))
    except csv.Error as error:
        raise InputError(f"{path}:{max(reader.line_num, 1)}: not CSV ({error})") from error
    return found


def _columns(header: list[str], where: str) -> tuple[str, ...]:
    """Return `CORNERS` or `EXTENTS`, whichever the header of a CSV has."""
    there = [columns for columns in (CORNERS, EXTENTS) if {"image", *columns} <= set(header)]
    twice = sorted({name for name in header if name in ("image", *CORNERS, *EXTENTS) and header.count(name) > 1})
    if twice:
        raise InputError(f"{where}: the column {twice[0]!r} appears twice; keep one")
    if len(there) > 1:
        raise InputError(
            f"{where}: both corners and width and height; keep image,x0,y0,x1,y1 or image,x,y,width,height"
        )
    if not there:
        expected = "expected the header image,x0,y0,x1,y1 or image,x,y,width,height"
        raise InputError(f"{where}: {expected}, got {quoted(','.join(header))}")
    return there[0]


def read_coco(path: Path, sink: Sink = STOP) -> Annotations:
    """Read COCO JSON: ``images`` (id, file_name, width, height) and ``annotations`` (image_id, bbox).

    ``bbox`` is x, y, width, height; ``category_id`` is one of the ``categories``, whose name becomes the box's. Crowds
    are ignored.
    """
    try:
        content = strict_json(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise InputError(f"{path}: expected COCO JSON with the lists 'images' and 'annotations'")
    found = Annotations({}, {}, False, {})
    names: dict[str, str] = {}
    categories = _category_names(content.get("categories"))
    for position, image in enumerate(content["images"]):
        _add_image(found, names, image, f"{path}: images[{position}]", sink)
    for position, annotation in enumerate(content["annotations"]):
        where = Path(f"{path}: annotations[{position}]")
        known = isinstance(annotation, dict) and _is_id(annotation.get("image_id"))
        if not known or str(annotation["image_id"]) not in names:
            sink.add(where, None, f"expected an image_id of one of the images, got {quoted(json.dumps(annotation))}")
        elif annotation.get("iscrowd") not in (None, 0, 1):
            sink.add(where, None, f"expected 'iscrowd' to be 0 or 1, got {quoted(json.dumps(annotation))}")
        elif not annotation.get("iscrowd"):
            box = _coco_box(annotation.get("bbox"))
            if box is None:
                sink.add(where, None, f"expected 'bbox' of four numbers, got {quoted(json.dumps(annotation))}")
            else:
                number = annotation.get("category_id")
                category = categories.get(str(number), str(number)) if _is_id(number) else None
                _add(found, names[str(annotation["image_id"])], AnnotatedBox(_corners(box), where, None, category))
    return found


def _category_names(categories: object) -> dict[str, str]:
    """Return names of COCO's categories by id; malformed categories are left out, so their boxes keep the id."""
    listed = categories if isinstance(categories, list) else []
    return {
        str(one["id"]): one["name"]
        for one in listed
        if isinstance(one, dict) and _is_id(one.get("id")) and isinstance(one.get("name"), str)
    }


def _add_image(found: Annotations, names: dict[str, str], image: object, where: str, sink: Sink) -> None:
    if not isinstance(image, dict) or not _is_id(image.get("id")) or not isinstance(image.get("file_name"), str):
        sink.add(where, None, f"expected an image with 'id' and 'file_name', got {quoted(json.dumps(image))}")
        return
    if str(image["id"]) in names or image["file_name"] in found.lines:
        sink.add(where, None, f"id {image['id']!r} or file {image['file_name']!r} is listed twice")
        return
    names[str(image["id"])] = image["file_name"]
    found.lines[image["file_name"]] = None
    width, height = image.get("width"), image.get("height")
    if _is_side(width) and _is_side(height):
        found.sizes[image["file_name"]] = (width, height)
    elif any(length not in (None, 0) for length in (width, height)):
        sink.add(where, None, f"expected 'width' and 'height' in whole pixels, got {width!r} and {height!r}")


def _is_side(value: object) -> TypeGuard[int]:
    return type(value) is int and 1 <= value <= LARGEST_SIDE


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _coco_box(values: object) -> tuple[float, ...] | None:
    if not isinstance(values, list) or len(values) != 4:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e9 for v in values):
        return None
    return tuple(float(v) for v in values)


def _corners(box: tuple[float, ...]) -> tuple[float, ...]:
    x, y, width, height = box
    return (x, y, x + width, y + height)


def _add(found: Annotations, image: str, marked: AnnotatedBox) -> None:
    found.boxes.setdefault(image, []).append(marked)
    found.lines.setdefault(image, marked.line)


def by_path(names: Mapping[str, int | None], paths: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Find the image that each name refers to.

    Args:
        names: names in an annotation file: paths relative to the root, or file names alone.
        paths: all images of the dataset, by path relative to the root.

    Returns:
        Name by path; and the names that fit no image, or several.
    """
    bare: dict[str, list[str]] = {}
    for path in paths:
        bare.setdefault(path.rsplit("/", 1)[-1], []).append(path)
    found, lost = {}, []
    for name in names:
        meant: list[str] = []
        for written in dict.fromkeys((name, name.replace("\\", "/"))):  # on Linux a name may have a backslash
            clean = written.removeprefix("./")
            meant = meant or ([clean] if clean in paths else bare.get(clean, []))
        if len(meant) == 1:
            found[meant[0]] = name
        else:
            lost.append(name)
    return found, lost
