"""`wsol regress`: a localizer finds pseudo boxes, and a box regressor learns from them."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from wsol import runs
from wsol.cli import screen
from wsol.engine import box_regression


def run(config: DictConfig) -> int:
    """Complete the stages under a composed config and print the results of each; returns the exit code."""
    screen.start_logging()
    _print(box_regression.run(config, _print))
    return 0


def _print(folder: Path) -> None:
    if runs.is_first_process():
        screen.results(folder / "results.json")
