"""`wsol features units`: show the most important units of each class, and the image regions that activate them."""

from __future__ import annotations

from omegaconf import DictConfig

from wsol.cli import screen
from wsol.patterns import unit_sheets


def run(config: DictConfig) -> int:
    """Find and draw the units under a composed config; returns the exit code."""
    screen.start_logging()
    with screen.progress() as progress:
        found = unit_sheets.run(config, progress)
    print(f"{len(found.units):,} classes, {found.images:,} images searched, written to {found.folder}")
    return 0
