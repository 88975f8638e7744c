"""`wsol ae`: adversarial erasing: train, erase the found regions, train again; the merged maps are evaluated."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from wsol import runs
from wsol.cli import screen
from wsol.engine import adversarial_erasing


def run(config: DictConfig) -> int:
    """Train the rounds under a composed config and print the results of the merged maps; returns the exit code."""
    screen.start_logging()
    _print(adversarial_erasing.run(config, _print))
    return 0


def _print(folder: Path) -> None:
    if runs.is_first_process():
        screen.results(folder / "results.json")
