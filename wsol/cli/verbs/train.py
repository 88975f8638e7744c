"""`wsol train`: train, evaluate the best checkpoint, print the table."""

from __future__ import annotations

from omegaconf import DictConfig

from wsol import runs
from wsol.cli import screen
from wsol.engine import training


def run(config: DictConfig) -> int:
    """Train under a composed config; returns the exit code."""
    screen.start_logging()
    folder = training.run(config)
    if runs.is_first_process():
        screen.results(folder / "results.json")
    return 0
