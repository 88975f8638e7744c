"""`wsol table`: the numbers of a paper beside those of the runs at hand; with --run it makes the missing runs."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from wsol import runs as run_folders
from wsol.config.compose import compose, config_root, groups
from wsol.errors import InputError, unknown
from wsol.runs.identity import described
from wsol.runs.register import Register
from wsol.tables import collect, render
from wsol.tables.compare import Value, compare
from wsol.tables.layout import Cell, Layout, read_layout
from wsol.tables.paired import against_baseline
from wsol.tables.pinned import pinned


def run(words: Sequence[str]) -> int:
    """Parse the words, make missing runs if asked to, and print; returns the worst exit code of the runs made."""
    arguments, overrides = parser().parse_known_args(words)
    for word in overrides:
        if word.startswith("-") or "=" not in word:
            raise InputError(f"wsol table: unknown option {word!r}; see wsol table --help")
    layout = read_layout(find(arguments.name, arguments.config_dir))
    table = _Table(layout, overrides, arguments.runs_dir, arguments.config_dir)
    if arguments.out and arguments.out.exists() and not arguments.out.is_file():
        raise InputError(f"--out {arguments.out}: that is no file")
    code = table.make_missing() if arguments.run else 0
    values = table.values()
    if note := table.register.note():
        print(note, file=sys.stderr)
    form = arguments.format or {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}.get(
        arguments.out.suffix if arguments.out else "", "terminal"
    )
    text = render.FORMATS[form](layout, values)
    if form == "terminal" and not arguments.out and sys.stdout.isatty():
        text = render.terminal(layout, values, shutil.get_terminal_size().columns)
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
    made.add_argument("--out", type=Path, help="write there instead of to the screen")
    made.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where run folders lie; default runs")
    made.add_argument("--config-dir", action="append", default=[], help="a folder of your own configs; may be repeated")
    made.usage = made.format_usage().removeprefix("usage: ").rstrip() + " [KEY=VALUE ...]"
    return made


def find(name: str, config_dirs: Iterable[str] = ()) -> Path:
    """The file of a table.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise InputError(f"{name}: no such file")
        return Path(name)
    for root in (*map(Path, config_dirs), config_root()):
        if (file := root.expanduser() / "table" / f"{name}.yaml").is_file():
            return file
    raise unknown("table", name, groups(tuple(config_dirs)).get("table", ()))


class _Table:
    """A layout, the runs at hand, and the words that every run of it is made with.

    Args:
        layout: of the table.
        overrides: of all rows, after the rows' own.
        runs_dir: where run folders lie.
        config_dirs: the user's own config folders.
    """

    def __init__(self, layout: Layout, overrides: Sequence[str], runs_dir: Path, config_dirs: Sequence[str]) -> None:
        self.layout, self.runs_dir, self.config_dirs = layout, runs_dir, list(config_dirs)
        self.overrides = list(overrides)
        self.register = Register(runs_dir)
        known = groups(self.config_dirs)
        self._known = known.get("experiment", {})
        for column in layout.columns.values():
            if column.protocol is not None and column.protocol not in known.get("protocol", {}):
                raise unknown("protocol of a column", column.protocol, known.get("protocol", {}))
        self._wanted: dict[tuple[str, ...], Mapping[str, Any]] = {}
        self._pinned: dict[tuple[str, ...], Mapping[str, Any]] = {}

    def words(self, cell: Cell) -> tuple[str, ...]:
        """What `wsol train` is told for a cell, without the seed."""
        return (f"experiment={cell.experiment}", *cell.overrides, *self.overrides)

    def command(self, cell: Cell, seed: int) -> list[str]:
        """The command line of a cell's run, as words behind ``wsol``."""
        folders = [word for folder in self.config_dirs for word in ("--config-dir", folder)]
        own = [] if self.runs_dir == Path("runs") else [f"runs_dir={self.runs_dir}"]
        return ["train", *folders, *self.words(cell), f"seed={seed}", *own, "resume=true"]

    def wanted(self, cell: Cell) -> Mapping[str, Any]:
        """What the config of a cell's runs must be like."""
        words = self.words(cell)
        if words not in self._wanted:
            config = compose("train", words, self.config_dirs)
            if OmegaConf.is_missing(config.data, "root"):
                config.data.root = ""
            plain = OmegaConf.to_container(config, resolve=True)
            assert isinstance(plain, dict)
            self._wanted[words] = collect.comparable({str(key): value for key, value in plain.items()})
        return self._wanted[words]

    def values(self) -> list[Value]:
        """Every cell, measured by the runs at hand."""
        self.register = Register(self.runs_dir)
        found = collect.collect(self.register)
        return against_baseline(self.layout, [self._value(cell, found) for cell in self.layout.cells])

    def _value(self, cell: Cell, found: Sequence[collect.Run]) -> Value:
        if cell.experiment is None:
            return compare(cell, {}, {})
        commands = {seed: shlex.join(["wsol", *self.command(cell, seed)]) for seed in self.layout.seeds}
        if cell.experiment not in self._known:
            raise unknown(f"experiment of row {cell.row!r}", cell.experiment, self._known)
        close = self._close(cell, found)
        if not close:
            return compare(cell, {}, commands)
        runs = collect.matching(close, self.wanted(cell))
        near = None if runs else collect.nearest(close, self.wanted(cell))
        text = f"{near[0].folder} is nearly it, but differs in {described(near[1])}" if near else None
        return compare(cell, runs, commands, text)

    def _close(self, cell: Cell, found: Sequence[collect.Run]) -> list[collect.Run]:
        """The runs that may be a cell's, or nearly so: only for them it is composed what its config must be like."""
        assert cell.experiment is not None
        words = self.words(cell)
        if words not in self._pinned:
            self._pinned[words] = pinned(cell.experiment, words, self.config_dirs)
        known = self._pinned[words]
        return [
            run
            for run in found
            if run.experiment == cell.experiment
            or all(key in run.config and run.config[key] == value for key, value in known.items())
        ]

    def make_missing(self) -> int:
        """Make the missing runs one after another; returns the worst exit code; a failed one stops no other.

        So a run that another process is training is passed over, and counts as failed here.
        """
        worst = 0
        found = collect.collect(self.runs_dir)
        cells = {self.words(cell): cell for cell in self.layout.cells if cell.experiment is not None}
        todo = [
            self.command(cell, seed)
            for cell in cells.values()
            for close in [self._close(cell, found)]
            for runs in [collect.matching(close, self.wanted(cell)) if close else {}]
            for seed in self.layout.seeds
            if seed not in runs
        ]
        for position, command in enumerate(todo, 1):
            print(f"run {position} of {len(todo)}: {shlex.join(['wsol', *command])}", file=sys.stderr, flush=True)
            worst = max(worst, _run_alone(command))
        return worst


def _run_alone(command: list[str]) -> int:
    """Run a command line as if it were the program's own, so that the processes it starts are of this run alone."""
    from wsol.cli.app import run_job
    from wsol.cli.multirun import command_line, end_process_group

    with command_line(command), contextlib.redirect_stdout(sys.stderr):  # the screen's output is the table alone
        code = run_job(command)
    end_process_group()
    return code
