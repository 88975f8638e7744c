"""Write a table for the terminal, Markdown, LaTeX, CSV or JSON, wide (as papers print it) or long (a line per cell).

The long forms for people leave out empty columns: published numbers, differences to them and to the baseline row.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from wsol.errors import unknown
from wsol.tables.compare import Value, Versus
from wsol.tables.layout import Layout
from wsol.tables.wide import Entry, Grid, grid

HEADER = (
    "row",
    "column",
    "published",
    "measured (95 % interval)",
    "difference",
    "against {baseline} (95 %)",
    "protocol",
    "threshold",
    "seeds",
)
NUMBERS = HEADER[2:6]
"""The columns that are aligned to the right."""
OPTIONAL = (2, 4, 5)
"""Positions of the columns that are left out if they are empty."""
EXCLUDES = "(*) the 95 % interval of the difference does not reach zero"


def terminal(layout: Layout, values: Sequence[Value], width: int = 160) -> str:
    """Return a table with rules, fitted to ``width`` columns, and the commands of missing runs below it."""
    header, aligned, lines, notes = _lines(values)
    table = Table(box=SIMPLE_HEAD, title=layout.title, title_justify="left", title_style="bold")
    for i, name in enumerate(header):
        table.add_column(name, justify=aligned[i], no_wrap=i > 0)
    for before, line in zip([None, *lines[:-1]], lines, strict=True):
        repeated = before is not None and before[0] == line[0]
        table.add_row("" if repeated else line[0], *line[1:])
    text = io.StringIO()
    Console(file=text, width=width, highlight=False, markup=False).print(table)
    drawn = [line.rstrip() for line in text.getvalue().rstrip().splitlines()]
    return "\n".join([*drawn, layout.source, *_foot(layout, notes), *_missing(values), ""])


def wide_terminal(layout: Layout, values: Sequence[Value], width: int = 160) -> str:
    """Return a table in plain text, with one row for each method, as papers print it."""
    found = grid(layout, values)
    table = Table(box=SIMPLE_HEAD, title=layout.title, title_justify="left", title_style="bold")
    for i, name in enumerate(found.header):
        table.add_column(name, justify="left" if i < found.texts else "right", no_wrap=i >= found.texts)
    for row in found.rows:
        table.add_row(*(_signed(entry) for entry in row))
    text = io.StringIO()
    Console(file=text, width=width, highlight=False, markup=False).print(table)
    drawn = [line.rstrip() for line in text.getvalue().rstrip().splitlines()]
    return "\n".join([*drawn, layout.source, *_wide_foot(layout, found), *_missing(values), ""])


def markdown(layout: Layout, values: Sequence[Value]) -> str:
    """Return a table in GitHub's Markdown."""
    header, aligned, lines, notes = _lines(values)
    return _markdown(layout, header, aligned, lines, _foot(layout, notes), values)


def wide_markdown(layout: Layout, values: Sequence[Value]) -> str:
    """Return a table in GitHub's Markdown, with one row for each method, as papers print it."""
    found = grid(layout, values)
    aligned: list[Side] = ["left" if i < found.texts else "right" for i in range(len(found.header))]
    lines = [[_starred(_signed(entry)) for entry in row] for row in found.rows]
    return _markdown(layout, found.header, aligned, lines, [*map(_starred, _wide_foot(layout, found))], values)


def latex(layout: Layout, values: Sequence[Value]) -> str:
    """Return a LaTeX table with the rules of booktabs, and notes by threeparttable."""
    header, aligned, lines, notes = _lines(values)
    rows = [[_escaped(cell) for cell in line] for line in lines]
    return _latex(layout, header, "".join(side[0] for side in aligned), rows, [("", n) for n in _foot(layout, notes)])


def wide_latex(layout: Layout, values: Sequence[Value]) -> str:
    """Return a table in LaTeX, with one row for each method, as papers print it."""
    found = grid(layout, values)
    rows = [
        [_escaped(entry.text) + (rf"\tnote{{{','.join(entry.marks)}}}" if entry.marks else "") for entry in row]
        for row in found.rows
    ]
    align = "l" * found.texts + "r" * (len(found.header) - found.texts)
    return _latex(layout, found.header, align, rows, [*found.notes, *(("", note) for note in layout.notes)])


def plain_csv(layout: Layout, values: Sequence[Value]) -> str:
    """Return a line for each cell; missing values are empty."""
    records = [_record(layout, value) for value in values]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        joined = {key: "; ".join(map(str, item)) for key, item in record.items() if isinstance(item, list)}
        writer.writerow({**record, **joined})
    return text.getvalue()


def wide_csv(layout: Layout, values: Sequence[Value]) -> str:
    """Return a line for each row, with two columns for each number, published and measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{column}, {kind}" for column in layout.columns for kind in ("published", "measured")]
    writer.writerow(["row", *layout.attributes, *names])
    for row, about, cells in _by_row(layout, values):
        numbers = [cell[kind] for cell in cells.values() for kind in ("published", "measured")]
        writer.writerow([row, *(about.get(name) for name in layout.attributes), *numbers])
    return text.getvalue()


def plain_json(layout: Layout, values: Sequence[Value]) -> str:
    """Return the same records as JSON, with the table's title and source."""
    return _json(layout, "cells", [_record(layout, value) for value in values])


def wide_json(layout: Layout, values: Sequence[Value]) -> str:
    """Return the records by row and column, with the table's title and source."""
    rows = [{"row": row, **about, "cells": cells} for row, about, cells in _by_row(layout, values)]
    return _json(layout, "rows", rows)


Render = Callable[[Layout, Sequence[Value]], str]

FORMATS: dict[str, dict[str, Render]] = {
    "terminal": {"long": terminal, "wide": wide_terminal},
    "markdown": {"wide": wide_markdown, "long": markdown},
    "latex": {"wide": wide_latex, "long": latex},
    "csv": {"long": plain_csv, "wide": wide_csv},
    "json": {"long": plain_json, "wide": wide_json},
}
"""Renderers by format and shape; the first shape of each format is the default."""

SHAPES = ("wide", "long")


def render(
    layout: Layout, values: Sequence[Value], form: str = "terminal", shape: str | None = None, width: int | None = None
) -> str:
    """Return a table as text.

    Args:
        layout: the table's layout.
        values: a value for each of its cells.
        form: one of `FORMATS`.
        shape: ``wide`` (a line for each row, as papers print tables) or ``long`` (a line for each cell); None for
            the table's own shape on the terminal, wide in Markdown and LaTeX, and long in CSV and JSON.
        width: width of the terminal in columns.

    Raises:
        InputError: unknown format or shape.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if shape not in (None, *SHAPES):
        raise unknown("shape", str(shape), SHAPES)
    chosen = shape or (layout.shape if form == "terminal" else None) or next(iter(FORMATS[form]))
    if form == "terminal" and width is not None:
        return (wide_terminal if chosen == "wide" else terminal)(layout, values, width)
    return FORMATS[form][chosen](layout, values)


Side = Literal["left", "right"]


def _lines(values: Sequence[Value]) -> tuple[list[str], list[Side], list[list[str]], list[str]]:
    """Return the header, its alignment, the cells of the lines, and the notes that [1], [2], ... in them refer to."""
    notes: list[str] = []
    lines: list[tuple[str, ...]] = []
    for value in values:
        for mark in value.marks:
            if mark not in notes:
                notes.append(mark)
        signs = "".join(f" [{notes.index(mark) + 1}]" for mark in value.marks)
        number = value.cell.published
        shown = "-" if number is None else f"{number.value:.2f}"
        sure = "" if number is None or number.provenance != "unverified" else "?"
        lines.append(
            (
                value.cell.row,
                value.cell.name,
                f"{shown}{sure}",
                _measured(value) + (signs if value.measured is not None else ""),
                "-" if value.difference is None else f"{value.difference:+z.2f}",
                _against(value.versus),
                value.protocol or value.cell.column.protocol or "-",
                value.threshold or value.cell.column.threshold or "-",
                _seeds(value.seeds),
            )
        )
    if any(value.versus and value.versus.excludes_zero for value in values):
        notes.append(EXCLUDES)
    kept = [i for i in range(len(HEADER)) if i not in OPTIONAL or any(line[i] != "-" for line in lines)]
    baseline = next((value.versus.baseline for value in values if value.versus), None)
    header = [HEADER[i].format(baseline=baseline) for i in kept]
    aligned: list[Side] = ["right" if HEADER[i] in NUMBERS else "left" for i in kept]
    return header, aligned, [[line[i] for i in kept] for line in lines], notes


def _against(versus: Versus | None) -> str:
    """Return the difference to the baseline; a star means that its interval excludes zero.

    Example:
        >>> _against(Versus("CAM", -0.001, -0.04, 0.2, "images"))
        '+0.00 (+0.0 to +0.2, images)'
    """
    if versus is None:
        return "-"
    star = " (*)" if versus.excludes_zero else ""
    return f"{versus.difference:+z.2f} ({versus.low:+z.1f} to {versus.high:+z.1f}, {versus.over}){star}"


def _measured(value: Value) -> str:
    if value.measured is None:
        return "-" if value.cell.experiment is None else "missing"
    if value.interval is None:
        return f"{value.measured:.2f}"
    low, high = value.interval
    return f"{value.measured:.2f} ({low:z.1f} to {high:z.1f}, {value.over})"


def _seeds(seeds: Sequence[int]) -> str:
    return f"{len(seeds)}: {', '.join(map(str, seeds))}" if seeds else "-"


def _markdown(
    layout: Layout,
    header: Sequence[str],
    aligned: Sequence[Side],
    lines: Sequence[Sequence[str]],
    foot: Sequence[str],
    values: Sequence[Value],
) -> str:
    rule = ["---:" if side == "right" else "---" for side in aligned]
    rows = [f"| {' | '.join(map(_piped, line))} |" for line in (header, rule, *lines)]
    below = [f"{line}  " for line in (layout.source, *foot)]
    return "\n".join([f"**{layout.title}**", "", *rows, "", *below, *_missing(values, "    "), ""])


def _latex(
    layout: Layout, header: Sequence[str], align: str, rows: Sequence[Sequence[str]], notes: Sequence[tuple[str, str]]
) -> str:
    """Return a LaTeX table; ``rows`` are already escaped."""
    items = [rf"\item{f'[{mark}]' if mark else ''} {_escaped(note)}" for mark, note in (("", layout.source), *notes)]
    lines = [
        r"% \usepackage{booktabs, threeparttable}",
        r"\begin{table}",
        r"\centering",
        r"\begin{threeparttable}",
        rf"\caption{{{_escaped(layout.title)}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(map(_escaped, header)) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\begin{tablenotes}\footnotesize",
        *items,
        r"\end{tablenotes}",
        r"\end{threeparttable}",
        r"\end{table}",
    ]
    return "\n".join([*lines, ""])


def _json(layout: Layout, key: str, records: Sequence[Mapping[str, Any]]) -> str:
    content = {"title": layout.title, "source": layout.source, "notes": list(layout.notes), key: records}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _by_row(
    layout: Layout, values: Sequence[Value]
) -> Iterator[tuple[str, Mapping[str, str], dict[str, dict[str, Any]]]]:
    """Return each row with its texts and its records by column."""
    records = [(value.cell.row, value.cell.name, _record(layout, value)) for value in values]
    for row in dict.fromkeys(value.cell.row for value in values):
        yield row, layout.about.get(row, {}), {name: record for of, name, record in records if of == row}


def _signed(entry: Entry) -> str:
    """Return the text with the marks of its notes in brackets."""
    return f"{entry.text} [{', '.join(entry.marks)}]" if entry.marks else entry.text


def _wide_foot(layout: Layout, found: Grid) -> list[str]:
    return [*(f"[{mark}] {note}" if mark else note for mark, note in found.notes), *layout.notes]


def _foot(layout: Layout, notes: Sequence[str]) -> list[str]:
    numbered = [note if note == EXCLUDES else f"[{i}] {note}" for i, note in enumerate(notes, 1)]
    return [*numbered, *layout.notes]


def _missing(values: Sequence[Value], indent: str = "  ") -> list[str]:
    """Return the commands of missing runs, and the near matches."""
    commands = dict.fromkeys(command for value in values for command in value.missing)
    near = dict.fromkeys(f"{value.cell.row}: {value.near}" for value in values if value.near)
    lines = ["", "missing runs (make_missing=true):", "", *(f"{indent}{each}" for each in commands)] if commands else []
    return [*lines, *(["", *near] if near else [])]


def _record(layout: Layout, value: Value) -> dict[str, Any]:
    """Return a cell as plain values."""
    number = value.cell.published
    return {
        "row": value.cell.row,
        "column": value.cell.name,
        **{name: layout.about.get(value.cell.row, {}).get(name) for name in layout.attributes},
        "published": number and number.value,
        "provenance": number and number.provenance,
        "measured": value.measured,
        "low": value.interval and value.interval[0],
        "high": value.interval and value.interval[1],
        "interval_over": value.over,
        "difference": value.difference,
        "published_protocol": value.cell.column.protocol,
        "published_threshold": value.cell.column.threshold,
        "protocol": value.protocol,
        "threshold": value.threshold,
        "measured_classes": value.classes,
        "seeds": list(value.seeds),
        "marks": value.marks,
        "experiment": value.cell.experiment,
        **_versus_record(value.versus),
        "runs": [str(run.folder) for run in value.runs],
        "missing": list(value.missing),
    }


def _versus_record(versus: Versus | None) -> dict[str, Any]:
    return {
        "baseline": versus and versus.baseline,
        "against": versus and versus.difference,
        "against_low": versus and versus.low,
        "against_high": versus and versus.high,
        "against_over": versus and versus.over,
        "excludes_zero": versus and versus.excludes_zero,
    }


def _piped(text: str) -> str:
    """Return the text with Markdown's bar escaped."""
    return text.replace("|", r"\|")


def _starred(text: str) -> str:
    """Return the text with Markdown's star escaped."""
    return text.replace("*", r"\*")


def _escaped(text: str) -> str:
    r"""Return the text with LaTeX's special characters escaped.

    Example:
        >>> _escaped("top_1 95 % & more")
        'top\\_1 95 \\% \\& more'
    """
    return "".join(
        {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}.get(
            letter, f"\\{letter}" if letter in "&%$#_{}" else letter
        )
        for letter in text
    )
