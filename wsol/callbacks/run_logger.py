"""What a logger may take beside the numbers that Lightning gives it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from wsol.evaluation import Picture


class RunLogger(ABC):
    """A logger that also wants pictures and the end of the run."""

    @abstractmethod
    def log_pictures(self, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
        """Take judged images with their boxes; ``classes`` are the names by label."""

    @abstractmethod
    def finish_run(self, folder: Path) -> None:
        """Take what lies in the run folder, results.json among it, and end."""
