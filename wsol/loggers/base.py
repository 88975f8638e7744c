"""What a logger may receive besides the metrics of Lightning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wsol.types import Picture


class Chart(NamedTuple):
    """A table for display, plotted if it is a table of lines."""

    title: str
    columns: tuple[str, ...]
    """For plots: the columns of line name, x and y."""
    rows: list[tuple]
    plotted: bool


class RunLogger(ABC):
    """A logger that also receives the evaluated images and the end of the run."""

    @abstractmethod
    def log_evaluated(
        self, split: str, pictures: Sequence[Picture], charts: Mapping[str, Chart], classes: Sequence[str]
    ) -> None:
        """Log evaluated images with their boxes, and charts by name; ``classes`` are the names by label."""

    @abstractmethod
    def finish_run(self, folder: Path) -> None:
        """Log files of the run folder, including results.json, and finish."""
