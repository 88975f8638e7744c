"""`wsol export`: write a trained network to a file for other programs, and compare its results with the network's."""

from __future__ import annotations

from omegaconf import DictConfig

from wsol.cli import screen
from wsol.engine import network_export


def run(config: DictConfig) -> int:
    """Export under a composed config; returns the exit code."""
    screen.start_logging()
    exported = network_export.run(config)
    print(f"{exported.file}: {exported.file.stat().st_size / 1e6:.1f} MB; {exported.note}")
    return 0
