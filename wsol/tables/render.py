"""A table as text: for the terminal, Markdown, LaTeX, CSV and JSON. Every form has a line for each cell.

The forms for people leave out what no row has: published numbers, differences to them and to the baseline row.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from wsol.tables.compare import Value, Versus
from wsol.tables.layout import Layout

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
"""The columns that are set flush right."""
OPTIONAL = (2, 4, 5)
"""Positions of the columns that are left out where they would be empty."""
EXCLUDES = "(*) the 95 % interval of the difference does not reach zero"


def terminal(layout: Layout, values: Sequence[Value], width: int = 160) -> str:
    """With lines drawn, fit for ``width`` columns; the commands of missing runs below."""
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


def markdown(layout: Layout, values: Sequence[Value]) -> str:
    """A table of GitHub's Markdown."""
    header, aligned, lines, notes = _lines(values)
    rule = ["---:" if side == "right" else "---" for side in aligned]
    rows = [f"| {' | '.join(map(_piped, line))} |" for line in (header, rule, *lines)]
    foot = [f"{line}  " for line in _foot(layout, notes)]
    return "\n".join([f"**{layout.title}**", "", *rows, "", f"{layout.source}  ", *foot, *_missing(values, "    "), ""])


def latex(layout: Layout, values: Sequence[Value]) -> str:
    """A tabular with booktabs' rules."""
    header, aligned, lines, notes = _lines(values)
    align = "".join(side[0] for side in aligned)
    rows = [" & ".join(map(_escaped, line)) + r" \\" for line in lines]
    head = " & ".join(map(_escaped, header)) + r" \\"
    foot = [f"% {line}" for line in (layout.title, layout.source, *_foot(layout, notes))]
    body = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([*foot, rf"\begin{{tabular}}{{{align}}}", *body, r"\end{tabular}", ""])


def plain_csv(layout: Layout, values: Sequence[Value]) -> str:
    """A line for each cell; empty where there is nothing."""
    records = [_record(value) for value in values]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        joined = {key: "; ".join(map(str, item)) for key, item in record.items() if isinstance(item, list)}
        writer.writerow({**record, **joined})
    return text.getvalue()


def plain_json(layout: Layout, values: Sequence[Value]) -> str:
    """The same records, under the table's title and source."""
    content = {"title": layout.title, "source": layout.source, "notes": list(layout.notes)}
    return json.dumps({**content, "cells": [_record(value) for value in values]}, indent=2, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Layout, Sequence[Value]], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "latex": latex,
    "csv": plain_csv,
    "json": plain_json,
}


Side = Literal["left", "right"]


def _lines(values: Sequence[Value]) -> tuple[list[str], list[Side], list[list[str]], list[str]]:
    """The header, its alignment, the cells of the lines, and the notes that [1], [2], ... in them stand for."""
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
                "-" if value.difference is None else f"{value.difference:+.2f}",
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
    """The difference to the baseline; a star says that its interval excludes zero."""
    if versus is None:
        return "-"
    star = " (*)" if versus.excludes_zero else ""
    return f"{versus.difference:+.2f} ({versus.low:+.1f} to {versus.high:+.1f}, {versus.over}){star}"


def _measured(value: Value) -> str:
    if value.measured is None:
        return "-" if value.cell.experiment is None else "missing"
    if value.interval is None:
        return f"{value.measured:.2f}"
    low, high = value.interval
    return f"{value.measured:.2f} ({low:.1f} to {high:.1f}, {value.over})"


def _seeds(seeds: Sequence[int]) -> str:
    return f"{len(seeds)}: {', '.join(map(str, seeds))}" if seeds else "-"


def _foot(layout: Layout, notes: Sequence[str]) -> list[str]:
    numbered = [note if note == EXCLUDES else f"[{i}] {note}" for i, note in enumerate(notes, 1)]
    return [*numbered, *layout.notes]


def _missing(values: Sequence[Value], indent: str = "  ") -> list[str]:
    """The commands of the runs that are not there, and what is nearly what was looked for."""
    commands = dict.fromkeys(command for value in values for command in value.missing)
    near = dict.fromkeys(f"{value.cell.row}: {value.near}" for value in values if value.near)
    lines = ["", "missing runs (make_missing=true):", "", *(f"{indent}{each}" for each in commands)] if commands else []
    return [*lines, *(["", *near] if near else [])]


def _record(value: Value) -> dict[str, Any]:
    """A cell as plain values."""
    number = value.cell.published
    return {
        "row": value.cell.row,
        "column": value.cell.name,
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
    """Markdown's bar, escaped."""
    return text.replace("|", r"\|")


def _escaped(text: str) -> str:
    r"""LaTeX's special characters, escaped.

    Example:
        >>> _escaped("top_1 95 % & more")
        'top\\_1 95 \\% \\& more'
    """
    return "".join(
        {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}.get(
            letter, f"\\{letter}" if letter in "&%$#_{}" else letter
        )
        for letter in text
    )
