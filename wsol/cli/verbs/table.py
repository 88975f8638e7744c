"""`wsol table`: print the numbers of a paper beside those of your runs; make_missing=true makes the missing runs."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

from omegaconf import DictConfig

from wsol import runs
from wsol.config.compose import compose
from wsol.errors import InputError, unknown
from wsol.tables import render
from wsol.tables.layout import find_layout, read_layout
from wsol.tables.paper_table import PaperTable

SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}


def run(config: DictConfig) -> int:
    """Print or write a table under a composed config; returns the worst exit code of the runs made."""
    if config.table is None:
        raise InputError("which table? wsol table cam2016-2, or wsol table --help")
    out = None if config.out is None else Path(config.out)
    if out and not config.format and out.suffix not in {*SUFFIXES, ".txt", ""}:
        raise InputError(f"{out}: expected the ending {', '.join(SUFFIXES)} or .txt; or set format=...")
    form = config.format or SUFFIXES.get(out.suffix if out else "", "terminal")
    if form not in render.FORMATS:
        raise unknown("format", form, render.FORMATS)
    if out:
        runs.check_file(out, config.force)
    compose("train", config.overrides, config.config_dirs)  # a misspelt word is refused even if no run needs it
    layout = read_layout(find_layout(config.table, config.config_dirs))
    only = [Path(folder) for folder in config.runs] or None
    table = PaperTable(layout, config.overrides, Path(config.runs_dir), config.config_dirs, only)
    code = table.make_missing(_run_alone, _announce) if config.make_missing else 0
    values = table.values()
    if note := table.register.note():
        print(note, file=sys.stderr)
    on_screen = form == "terminal" and not out and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_screen else None
    text = render.render(layout, values, form, config.shape, width)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        runs.write_text(out, text)
        print(f"written to {out}", file=sys.stderr)
    else:
        print(text, end="")
    return code


def _announce(command: str, position: int, total: int) -> None:
    print(f"run {position} of {total}: {command}", file=sys.stderr, flush=True)


def _run_alone(command: list[str]) -> int:
    """Run a command line as if it were the program's own, so that the processes it starts belong to this run only."""
    from wsol.cli.app import run_job
    from wsol.cli.multirun import command_line, end_process_group

    with command_line(command), contextlib.redirect_stdout(sys.stderr):  # standard output has only the table
        code = run_job(command)
    end_process_group()
    return code
