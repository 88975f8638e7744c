"""A table as papers print it: a line for each row, a column for each number, published and measured in one cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from wsol.tables.compare import Value
from wsol.tables.layout import Layout

UNSURE = "?"
DIFFERS = "*"
CLASSES = "classes"
"""The attribute that says whose classes a row has."""


class Entry(NamedTuple):
    """The text of one place of the table."""

    text: str
    marks: tuple[str, ...] = ()
    """Marks of the notes below the table that belong to it."""


class Grid(NamedTuple):
    """A wide table with its notes: every mark has a note."""

    header: list[str]
    texts: int
    """Number of text columns, from the left."""
    rows: list[list[Entry]]
    notes: list[tuple[str, str]]
    """Mark (empty for a note on the whole table) and text."""


def grid(layout: Layout, values: Sequence[Value]) -> Grid:
    """Return the table of some values; if nothing is measured, or nothing published, only the others are shown.

    Args:
        layout: the table's layout.
        values: a value for each of its cells.
    """
    published = any(value.cell.published for value in values)
    measured = any(value.measured is not None for value in values) or not published
    seeds = Counter(value.seeds for value in values if value.measured is not None)
    usual = seeds.most_common(1)[0][0] if seeds else ()
    numbered: list[str] = []
    found = {}
    for value in values:
        marks = []
        if value.cell.published and value.cell.published.provenance == "unverified":
            marks.append(UNSURE)
        if value.versus and value.versus.excludes_zero:
            marks.append(DIFFERS)
        for note in _notes_of(value, usual):
            if note not in numbered:
                numbered.append(note)
            marks.append(str(numbered.index(note) + 1))
        parts = [*([_published(value)] if published else []), *([_measured(value)] if measured else [])]
        found[value.cell.row, value.cell.name] = Entry(" / ".join(parts) if set(parts) != {"-"} else "-", tuple(marks))
    rows = [
        [
            Entry(row),
            *(Entry(_text(layout, row, name, values)) for name in layout.attributes),
            *(found.get((row, column), Entry("-")) for column in layout.columns),
        ]
        for row in dict.fromkeys(value.cell.row for value in values)
    ]
    notes = [("", text) for text in _on_all(layout, values, published and measured, usual)]
    notes += [(str(i), note) for i, note in enumerate(numbered, 1)]
    used = {mark for entry in found.values() for mark in entry.marks}
    if UNSURE in used:
        notes.append((UNSURE, "the published number is unverified"))
    if DIFFERS in used:
        label = next(value.versus.baseline for value in values if value.versus)
        notes.append((DIFFERS, f"the 95 % interval of the difference to {label} does not reach zero"))
    header = ["", *layout.attributes, *layout.columns]
    return Grid(header, 1 + len(layout.attributes), rows, notes)


def _text(layout: Layout, row: str, name: str, values: Sequence[Value]) -> str:
    """Return a text about a row: ``published / measured`` if its runs had the classes of another classifier."""
    published = layout.about.get(row, {}).get(name) or "-"
    measured = next((value.classes for value in values if value.cell.row == row and value.classes), None)
    return f"{published} / {measured}" if name == CLASSES and measured not in (None, published) else published


def _notes_of(value: Value, usual: tuple[int, ...]) -> list[str]:
    """Return the notes on one cell."""
    found = [mark for mark in value.marks if mark != "published number unverified"]
    if value.measured is not None and value.seeds != usual:
        found.append(f"measured over seeds {', '.join(map(str, value.seeds))}")
    return found


def _on_all(layout: Layout, values: Sequence[Value], both: bool, seeds: tuple[int, ...]) -> list[str]:
    """Return the notes on the whole table."""
    said = ["published / measured, percent"] if both else []
    intervals = sorted({value.over for value in values if value.interval and value.over})
    if intervals:
        said.append(f"± half of the 95 % interval over {' or '.join(intervals)}")
    if seeds:
        said.append(f"measured over seeds {', '.join(map(str, seeds))}")
    return [*(["; ".join(said)] if said else []), *_evaluated(layout, values)]


def _evaluated(layout: Layout, values: Sequence[Value]) -> list[str]:
    """Return protocol and threshold of the columns, unless rows have their own."""
    ways: dict[str, set[str]] = {}
    for value in values:
        column = value.cell.column
        if column.of == "localization" and column.protocol:
            ways.setdefault(value.cell.name, set()).add(f"{column.protocol}, threshold {column.threshold}")
    if not ways or any(len(found) > 1 for found in ways.values()):
        return []
    first = {name: next(iter(found)) for name, found in ways.items()}
    if len(set(first.values())) == 1:
        return [f"boxes: protocol {next(iter(first.values()))}"]
    return [f"{name}: protocol {way}" for name, way in first.items()]


def _published(value: Value) -> str:
    if value.cell.published is None:
        return "-"
    text = f"{value.cell.published.value:.2f}"
    return text.removesuffix("0")


def _measured(value: Value) -> str:
    if value.measured is None:
        return "-" if value.cell.experiment is None else "missing"
    if value.interval is None:
        return f"{value.measured:.1f}"
    low, high = value.interval
    return f"{value.measured:.1f}±{(high - low) / 2:.1f}"
