"""`wsol list`: list the runs below a folder, the newest last."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from wsol.runs import Register
from wsol.runs.listing import RunSummary, summaries

HEADER = (
    "name",
    "time",
    "method",
    "backbone",
    "data",
    "seed",
    "GT-known",
    "top-1 loc",
    "top-1 cls",
    "evaluated by",
    "folder",
)
ERRORS = ("gt_known_error", "top1_error", "classification")
RIGHT = slice(5, 9)
"""The columns that hold numbers."""


def run(config: DictConfig) -> int:
    """List runs under a composed config; returns the exit code."""
    register = Register(Path(config.runs_dir))
    found = summaries(register, list(config.patterns))
    if config.json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2, default=str))
    elif found:
        print("\n".join(_aligned([HEADER, *map(_row, found)])))
        print("errors on the last split evaluated, percent")
    else:
        these = f" that match {' or '.join(config.patterns)}" if config.patterns else ""
        print(f"no runs{these} in {config.runs_dir}")
    if note := register.note():
        print(note, file=sys.stderr)
    return 0


def _row(one: RunSummary) -> tuple[str, ...]:
    errors = (f"{one.results[key]:.2f}" if key in one.results else "-" for key in ERRORS)
    evaluated = one.protocol or ("-" if one.is_finished else "not finished")
    seed = "-" if one.seed is None else str(one.seed)
    time = one.time.strftime("%Y-%m-%d %H:%M")
    return one.name, time, one.method, one.backbone, one.data, seed, *errors, evaluated, str(one.folder)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = range(len(widths))[RIGHT]
    return [
        "  ".join(
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
