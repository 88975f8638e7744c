"""`wsol report`: write a page that shows where one or several runs are correct or wrong, at any threshold."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from wsol.cli import screen
from wsol.errors import InputError
from wsol.report.report_runs import report


def run(config: DictConfig) -> int:
    """Report under a composed config; returns the exit code."""
    if not config.runs:
        raise InputError("which runs? wsol report RUN ..., or wsol report --help")
    screen.start_logging()
    with screen.progress() as progress:
        written = report([Path(folder) for folder in config.runs], config, progress)
    if written is not None:
        out = written.folder
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        print(
            f"{written.images:,} images, {size / 1e6:.0f} MB, written to {out}; open {out / 'index.html'} in a browser"
        )
    return 0
