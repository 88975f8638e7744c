"""`wsol table`: the numbers of a paper beside those of your runs; with --run it makes the missing runs."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from wsol import runs as run_folders
from wsol.config.compose import groups
from wsol.errors import InputError
from wsol.tables import render
from wsol.tables.layout import find_layout, read_layout
from wsol.tables.paper_table import PaperTable


def run(words: Sequence[str]) -> int:
    """Parse the words, make missing runs if asked to, and print; returns the worst exit code of the runs made."""
    arguments, overrides = parser().parse_known_args(words)
    for word in overrides:
        if word.startswith("-") or "=" not in word:
            raise InputError(f"wsol table: unknown option {word!r}; see wsol table --help")
    layout = read_layout(find_layout(arguments.name, arguments.config_dir))
    table = PaperTable(layout, overrides, arguments.runs_dir, arguments.config_dir)
    if arguments.out and arguments.out.exists() and not arguments.out.is_file():
        raise InputError(f"--out {arguments.out}: that is no file")
    code = table.make_missing(_run_alone, _announce) if arguments.run else 0
    values = table.values()
    if note := table.register.note():
        print(note, file=sys.stderr)
    form = arguments.format or {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}.get(
        arguments.out.suffix if arguments.out else "", "terminal"
    )
    on_screen = form == "terminal" and not arguments.out and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_screen else None
    text = render.render(layout, values, form, arguments.shape, width)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        run_folders.write_text(arguments.out, text)
        print(f"written to {arguments.out}", file=sys.stderr)
    else:
        print(text, end="")
    return code


def parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    known = groups().get("table", {})
    width = max(map(len, known), default=0)
    made = argparse.ArgumentParser(
        prog="wsol table",
        description=__doc__,
        epilog="tables:\n" + "\n".join(f"  {name:<{width}}  {about}" for name, about in known.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("name", help="of the table: a file of configs/table, or a path that ends in .yaml")
    made.add_argument("--run", action="store_true", help="make the runs that are missing; go on with interrupted ones")
    made.add_argument("--format", choices=render.FORMATS, help="default terminal, or what the suffix of --out says")
    made.add_argument("--shape", choices=render.SHAPES, help="a line a row (md, tex) or a cell (csv, json); see docs")
    made.add_argument("--out", type=Path, help="write there instead of to the screen")
    made.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where run folders lie; default runs")
    made.add_argument("--config-dir", action="append", default=[], help="a folder of your own configs; may be repeated")
    made.usage = made.format_usage().removeprefix("usage: ").rstrip() + " [KEY=VALUE ...]"
    return made


def _announce(command: str, position: int, total: int) -> None:
    print(f"run {position} of {total}: {command}", file=sys.stderr, flush=True)


def _run_alone(command: list[str]) -> int:
    """Run a command line as if it were the program's own, so that the processes it starts are of this run alone."""
    from wsol.cli.app import run_job
    from wsol.cli.multirun import command_line, end_process_group

    with command_line(command), contextlib.redirect_stdout(sys.stderr):  # the screen's output is the table alone
        code = run_job(command)
    end_process_group()
    return code
