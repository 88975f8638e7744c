"""A finished run as an object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from wsol.runs import checkpoints
from wsol.runs.recorded_config import read_config
from wsol.runs.results import read_results


@dataclass(frozen=True)
class Run:
    """The folder of a finished training or evaluation.

    Example:
        >>> Run(Path("runs/demo-cam/2026-01-31_12-00-00"))
        Run('runs/demo-cam/2026-01-31_12-00-00')
    """

    folder: Path

    @property
    def results(self) -> dict[str, Any]:
        """The content of results.json.

        Raises:
            InputError: it is missing, or cannot be read.
        """
        return read_results(self.folder / "results.json")

    @property
    def config(self) -> DictConfig:
        """The resolved config.

        Raises:
            InputError: it is missing, or cannot be read.
        """
        return read_config(self.folder)

    def checkpoint(self, name: str = "best") -> Path:
        """Return the path of a checkpoint: ``best``, ``last``, or a file's name.

        Raises:
            InputError: no checkpoint of that name.
        """
        return checkpoints.find(self.folder, name)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"
