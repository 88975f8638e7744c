"""The tables of docs/reliability.md, and the blocks of the page that they go into."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.robustness.runner import VERDICTS, Judged, Try


def distinct(tries: Iterable[Try]) -> int:
    """How many different inputs there are."""
    return len({(one.kind, one.input) for one in tries})


def malformed(judged: Sequence[Judged]) -> str:
    """The table of malformed inputs, Markdown."""
    kinds = sorted({one.which.kind for one in judged})
    rows = [("input", "inputs", "tries", *VERDICTS)]
    for kind in [*kinds, None]:
        some = [one for one in judged if kind is None or one.which.kind == kind]
        counts = [sum(one.verdict == verdict for one in some) for verdict in VERDICTS]
        rows.append((kind or "**all**", str(distinct(one.which for one in some)), str(len(some)), *map(str, counts)))
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of a header and rows, the numbers to the right; below, when and on what they were measured."""
    line = "|" + "|".join(["---"] + ["---:"] * (len(rows[0]) - 1)) + "|"
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], line, *lines[1:], "", measured()])


def measured() -> str:
    """When, of which revision and on what machine."""
    import torch

    on = f"{platform.system()} {platform.machine()} with {os.cpu_count()} cores"
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    return f"Measured on {datetime.date.today()} at revision {revision()}: {on}, {versions}."


def revision() -> str:
    """Of this checkout."""
    here = Path(__file__).parent
    try:
        words = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(words, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_block(page: Path, name: str, text: str) -> None:
    """Replace what is between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``."""
    old = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if not pattern.search(old):
        raise SystemExit(f"{page}: no block <!-- begin {name} -->")
    page.write_text(pattern.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", old), encoding="utf-8")
