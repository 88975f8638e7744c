"""Read text tables of annotations; every fault is reported with its file and line.

Every reader reports faults to a `Sink` and leaves out the faulty row. The usual sink, `STOP`, raises `InputError` at
the first fault, so that no training starts on bad lists; a `wsol.data.inspection.Report` collects them instead
(`verify`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from wsol.data.regular_files import name_fault, read_regular
from wsol.errors import InputError

NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,4})?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,15}", re.ASCII)

LARGEST_SIDE = 1_000_000
"""Pixels; a larger width or height of an image must be a typing error."""

TOLERANCE = 1.0
"""Pixels by which a box may exceed its image: CUB rounds, some ILSVRC files count from one."""


class Sink(Protocol):
    """Receives the faults of a dataset's files."""

    def add(self, file: str | Path, line: int | None, text: str) -> None:
        """Report one fault; ``line`` counts from 1, None if the fault is of no single line."""


class Stop:
    """The sink that raises `InputError` at the first fault."""

    def add(self, file: str | Path, line: int | None, text: str) -> None:
        """Raise."""
        raise InputError(f"{file}:{line}: {text}" if line else f"{file}: {text}")


STOP = Stop()


class Row(NamedTuple):
    """One line of a table."""

    fields: tuple[str, ...]
    file: Path
    line: int


def read_text(path: Path, sink: Sink = STOP) -> str:
    """Read a UTF-8 text file; an empty text if it cannot be read (the sink gets the fault)."""
    try:
        data = read_regular(path)
    except OSError as error:
        sink.add(path, None, f"cannot be read ({error.strerror}); expected this file of the published layout")
        return ""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        sink.add(path, data[: error.start].count(b"\n") + 1, "not UTF-8 text; save it as UTF-8")
        return ""


def read_rows(path: Path, fields: int, separator: str | None = ",", sink: Sink = STOP, rest: bool = False) -> list[Row]:
    r"""Read a table; blank lines are skipped.

    Args:
        path: a UTF-8 text file.
        fields: how many fields every line has.
        separator: text between fields; None for any number of blanks.
        sink: receives lines with another number of fields, or with an empty first field.
        rest: whether the last field takes the rest of the line, separators included.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "labels.txt")
        >>> _ = path.write_text("a.jpg,0\nb.jpg;1\n")
        >>> read_rows(path, 2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        wsol.errors.InputError: ...labels.txt:2: expected 2 fields separated by ',', got 1: 'b.jpg;1'
    """
    rows = []
    between = repr(separator) if separator else "blanks"
    for at, line in enumerate(read_text(path, sink).split("\n"), start=1):
        text = line.strip()
        if not text:
            continue
        parts = [part.strip() for part in text.split(separator, fields - 1 if rest else -1)]
        if len(parts) != fields:
            sink.add(path, at, f"expected {fields} fields separated by {between}, got {len(parts)}: {quoted(text)}")
        elif not parts[0] or name_fault(parts[0]) or "\0" in text:
            sink.add(path, at, f"expected a name in the first field, got {quoted(text)}")
        else:
            rows.append(Row(tuple(parts), path, at))
    return rows


def key_rows(rows: Iterable[Row], sink: Sink = STOP) -> dict[str, Row]:
    """Key rows by their first field; a second row of the same key is reported to the sink and left out."""
    table: dict[str, Row] = {}
    for row in rows:
        first = table.setdefault(row.fields[0], row)
        if first is not row:
            sink.add(row.file, row.line, f"{row.fields[0]!r} is already listed on line {first.line}")
    return table


def group_rows(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group rows by their first field, in order."""
    table: dict[str, list[Row]] = {}
    for row in rows:
        table.setdefault(row.fields[0], []).append(row)
    return table


def check_keys(first: Mapping[str, Row], second: Mapping[str, Row], second_file: Path, sink: Sink) -> None:
    """Report the keys of ``first`` that ``second``, read from ``second_file``, lacks."""
    for key, row in first.items():
        if key not in second:
            sink.add(row.file, row.line, f"{key!r} is not listed in {second_file}")


def parse_number(text: str) -> float | None:
    """Return a finite decimal number, or None.

    Example:
        >>> parse_number("60.5"), parse_number("1e3"), parse_number("nan"), parse_number("1_000"), parse_number("x")
        (60.5, 1000.0, None, None, None)
    """
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def parse_integer(text: str) -> int | None:
    """Return an integer, or None.

    Example:
        >>> parse_integer("17"), parse_integer("1.0"), parse_integer("")
        (17, None, None)
    """
    return int(text) if WHOLE.fullmatch(text) else None


def parse_side(text: str) -> int | None:
    """Return a width or height in pixels, or None.

    Example:
        >>> parse_side("640"), parse_side("0"), parse_side("999999999999999")
        (640, None, None)
    """
    value = parse_integer(text)
    return value if value is not None and 1 <= value <= LARGEST_SIDE else None


def numbers(row: Row, sink: Sink = STOP) -> tuple[float, ...] | None:
    """Return all fields but the first as numbers; None if one is not (the sink gets the fault)."""
    values = [parse_number(field) for field in row.fields[1:]]
    if None in values:
        sink.add(
            row.file, row.line, f"expected numbers after {row.fields[0]!r}, got {quoted(' '.join(row.fields[1:]))}"
        )
        return None
    return tuple(value for value in values if value is not None)


def size_of(row: Row, sink: Sink = STOP) -> tuple[int, int] | None:
    """Return fields 2 and 3 as width and height in pixels; None if they are not (the sink gets the fault)."""
    width, height = (parse_side(field) for field in row.fields[1:3])
    if width is None or height is None:
        sink.add(row.file, row.line, f"expected width and height in pixels, got {quoted(' '.join(row.fields[1:3]))}")
        return None
    return width, height


def class_of(row: Row, known: Container[int], sink: Sink = STOP) -> int | None:
    """Return field 2 as one of the known class numbers; None if it is not (the sink gets the fault)."""
    label = parse_integer(row.fields[1])
    if label is None:
        sink.add(row.file, row.line, f"expected a class number, got {quoted(row.fields[1])}")
    elif label not in known:
        sink.add(row.file, row.line, f"unknown class {label}")
        return None
    return label


def quoted(text: str, length: int = 80) -> str:
    """Return the text in quotes, cut to a readable length."""
    return repr(text if len(text) <= length else text[:length] + "...")


def box_fault(box: Sequence[float], inclusive: bool, size: tuple[int, int] | None = None) -> str | None:
    """Return what is wrong with a box; None if nothing is.

    Args:
        box: x0, y0, x1, y1 in the image frame.
        inclusive: True if x1, y1 name the last pixel inside: a box may then be one pixel wide.
        size: width and height of the image if known; a box may exceed them by `TOLERANCE`.

    Example:
        >>> box_fault([3, 3, 3, 9], inclusive=True), box_fault([3, 3, 3, 9], inclusive=False)
        (None, 'box 3 3 3 9 has no area')
        >>> box_fault([0, 0, 500, 375], True, (500, 375)), box_fault([0, 0, 502, 375], True, (500, 375))
        (None, 'box 0 0 502 375 (last pixels inside) lies outside its image of 500 x 375')
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    name = f"box {x0:g} {y0:g} {x1:g} {y1:g}"
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        return f"{name} has numbers that are not finite"
    x1, y1 = x1 + inclusive, y1 + inclusive
    if x1 <= x0 or y1 <= y0:
        return f"{name} has no area"
    width, height = size or (math.inf, math.inf)
    inside = min(x0, y0) >= -TOLERANCE and x1 <= width + TOLERANCE and y1 <= height + TOLERANCE
    touches = x0 < width and y0 < height and x1 > 0 and y1 > 0
    if inside and touches:
        return None
    ends = " (last pixels inside)" if inclusive else ""
    return f"{name}{ends} lies outside its image" + (f" of {size[0]} x {size[1]}" if size else "")


def check_boxes(boxes: Iterable[Sequence[float]], size: tuple[int, int], where: str, inclusive: bool) -> None:
    """Refuse boxes outside their image or without area.

    Args:
        boxes: (M, 4) corners in the image frame.
        size: width and height of the image, pixels.
        where: the start of the message, such as ``file:line`` or an image's name.
        inclusive: as in `wsol.types.GroundTruth`.

    Raises:
        InputError: at the first such box.
    """
    for box in boxes:
        fault = box_fault(box, inclusive, size)
        if fault:
            raise InputError(f"{where}: {fault}")
