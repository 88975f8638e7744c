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
    """A layout, the finished runs, and the words that every run of it is made with.

    Args:
        layout: of the table.
        overrides: of all rows, after the rows' own.
        runs_dir: where run folders lie.
        config_dirs: the user's own config folders.
        only: the run folders that count; None: all below ``runs_dir``.
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
        """Every cell, measured by the finished runs."""
        self.register = Register(self.runs_dir, self._only)
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

    def missing(self) -> list[list[str]]:
        """The command lines of the runs that are missing or not finished, as words behind ``wsol``, cell by cell."""
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
        """Make the missing runs one after another; a failed one stops no other.

        So a run that another process is training is passed over, and counts as failed here.

        Args:
            train: runs a command line, given as the words behind ``wsol``, and returns its exit code;
                None for `train_alone`.
            progress: is told each command line before it is run, its position, and how many there are.

        Returns:
            The worst exit code; 0 if nothing was missing.
        """
        worst, todo = 0, self.missing()
        for position, words in enumerate(todo, 1):
            progress(shlex.join(["wsol", *words]), position, len(todo))
            worst = max(worst, (train or train_alone)(words))
        return worst


def train_alone(words: Sequence[str]) -> int:
    """Run a command line of `wsol` in a process of its own; returns the exit code."""
    return abs(subprocess.run([sys.executable, "-m", "wsol.cli", *words], check=False).returncode)
