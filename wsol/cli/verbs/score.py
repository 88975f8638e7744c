"""`wsol score`: evaluate saved maps under any protocols, or compare two sets of them."""

from __future__ import annotations

from omegaconf import DictConfig

from wsol.cli import screen
from wsol.engine import map_scoring


def run(config: DictConfig) -> int:
    """Score under a composed config; returns the exit code."""
    screen.start_logging()
    with screen.progress() as progress:
        folder = map_scoring.run(config, progress)
    screen.results(folder / "results.json")
    return 0
