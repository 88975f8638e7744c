"""What a logger may take beside the numbers that Lightning gives it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wsol.types import Picture


class Chart(NamedTuple):
    """A table for people, plotted where it is one of lines."""

    title: str
    columns: tuple[str, ...]
    """Of a plot: the line's name, x, y."""
    rows: list[tuple]
    plotted: bool


class RunLogger(ABC):
    """A logger that also wants what was seen on the judged split, and the end of the run."""

    @abstractmethod
    def log_judged(
        self, split: str, pictures: Sequence[Picture], charts: Mapping[str, Chart], classes: Sequence[str]
    ) -> None:
        """Take judged images with their boxes, and charts by name; ``classes`` are the names by label."""

    @abstractmethod
    def finish_run(self, folder: Path) -> None:
        """Take what lies in the run folder, results.json among it, and end."""
