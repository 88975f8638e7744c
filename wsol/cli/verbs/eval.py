"""`wsol eval`: evaluate a trained network on a split, print the table."""

from __future__ import annotations

from omegaconf import DictConfig

from wsol import runs
from wsol.cli import screen
from wsol.engine import run_evaluation


def run(config: DictConfig) -> int:
    """Evaluate under a composed config; returns the exit code."""
    screen.start_logging()
    folder = run_evaluation.run(config)
    if runs.is_first_process():
        if config.pseudo is None:
            screen.results(folder / "results.json")
        else:
            screen.pseudo_targets(folder)
    return 0
