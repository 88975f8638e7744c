"""A paper's table: its published numbers beside those of your runs, and the runs that are missing."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from wsol.config.compose import compose, groups
from wsol.errors import unknown
from wsol.runs.identity import described
from wsol.runs.register import Register
from wsol.tables import collect
from wsol.tables.compare import Value, compare
from wsol.tables.layout import Cell, Layout
from wsol.tables.paired import against_baseline
from wsol.tables.pinned import pinned
from wsol.types import Progress, no_progress


class PaperTable:
    """A layout, the finished runs, and the overrides of all its runs.

    Args:
        layout: the table's layout.
        overrides: overrides of all rows, after the rows' own.
        runs_dir: the folder of the runs.
        config_dirs: the user's own config folders.
        only: the run folders to use; None for all below ``runs_dir``.
    """

    def __init__(
        self,
        layout: Layout,
        overrides: Sequence[str],
        runs_dir: Path,
        config_dirs: Sequence[str],
        only: Sequence[Path] | None = None,
    ) -> None:
        self.layout, self.runs_dir, self.config_dirs = layout, runs_dir, list(config_dirs)
        self.overrides = list(overrides)
        self._only = only
        self.register = Register(runs_dir, only)
        known = groups(self.config_dirs)
        self._known = known.get("experiment", {})
        for column in {cell.column for cell in layout.cells if cell.experiment} | {*layout.columns.values()}:
            if column.protocol is not None and column.protocol not in known.get("protocol", {}):
                raise unknown(self._named("protocol of a column"), column.protocol, known.get("protocol", {}))
        self._wanted: dict[tuple[str, ...], Mapping[str, Any]] = {}
        self._pinned: dict[tuple[str, ...], Mapping[str, Any]] = {}

    def _named(self, what: str) -> str:
        """Return what is unknown, with the file of the table."""
        return f"{what} of {self.layout.file}" if self.layout.file else what

    def words(self, cell: Cell) -> tuple[str, ...]:
        """Return the arguments of `wsol train` for a cell, without the seed."""
        return (f"experiment={cell.experiment}", *cell.overrides, *self.overrides)

    def command(self, cell: Cell, seed: int) -> list[str]:
        """Return the command line of a cell's run, as the words after ``wsol``."""
        folders = [word for folder in self.config_dirs for word in ("--config-dir", folder)]
        own = [] if self.runs_dir == Path("runs") else [f"runs_dir={self.runs_dir}"]
        verb = "regress" if cell.regress else "train"
        return [verb, *folders, *self.words(cell), *cell.regress, f"seed={seed}", *own, "resume=true"]

    def wanted(self, cell: Cell) -> Mapping[str, Any]:
        """Return the values that the config of a cell's runs must have."""
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
        """Return the value of every cell from the finished runs."""
        self.register = Register(self.runs_dir, self._only)
        found = collect.collect(self.register)
        return against_baseline(self.layout, [self._value(cell, found) for cell in self.layout.cells])

    def _value(self, cell: Cell, found: Sequence[collect.Run]) -> Value:
        if cell.experiment is None:
            return compare(cell, {}, {})
        commands = {seed: shlex.join(["wsol", *self.command(cell, seed)]) for seed in self.layout.seeds}
        if cell.experiment not in self._known:
            raise unknown(self._named(f"experiment of row {cell.row!r}"), cell.experiment, self._known)
        close = self._close(cell, found)
        if not close:
            return compare(cell, {}, commands)
        runs = collect.matching(close, self.wanted(cell))
        near = None if runs else collect.nearest(close, self.wanted(cell))
        text = f"{near[0].folder} nearly matches, but differs in {described(near[1])}" if near else None
        return compare(cell, runs, commands, text)

    def _close(self, cell: Cell, found: Sequence[collect.Run]) -> list[collect.Run]:
        """Return the runs that may match a cell, or nearly: its config is only composed for them."""
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

    def missing(self) -> list[list[str]]:
        """Return the command lines of the missing or unfinished runs, as the words after ``wsol``, cell by cell."""
        found = collect.collect(Register(self.runs_dir, self._only))
        cells = {self.words(cell): cell for cell in self.layout.cells if cell.experiment is not None}
        return [
            self.command(cell, seed)
            for cell in cells.values()
            for close in [self._close(cell, found)]
            for runs in [collect.matching(close, self.wanted(cell)) if close else {}]
            for seed in self.layout.seeds
            if seed not in runs
        ]

    def make_missing(self, train: Callable[[list[str]], int] | None = None, progress: Progress = no_progress) -> int:
        """Make the missing runs one after another; a failed run does not stop the others.

        A run that another process is training therefore counts as failed here.

        Args:
            train: runs a command line, given as the words after ``wsol``, and returns its exit code;
                None for `train_alone`.
            progress: called before each run with its command line, its position and the number of runs.

        Returns:
            The worst exit code; 0 if nothing was missing.
        """
        worst, todo = 0, self.missing()
        for position, words in enumerate(todo, 1):
            progress(shlex.join(["wsol", *words]), position, len(todo))
            worst = max(worst, (train or train_alone)(words))
        return worst


def train_alone(words: Sequence[str]) -> int:
    """Run a command line of `wsol` in a separate process; returns the exit code."""
    return abs(subprocess.run([sys.executable, "-m", "wsol.cli", *words], check=False).returncode)
