"""`wsol features concept`: learn a concept from two folders of images and show where images have it."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from wsol.cli import screen


def run(config: DictConfig) -> int:
    """Learn and draw under a composed config; returns the exit code."""
    from wsol.patterns import concept_learning

    screen.start_logging()
    with screen.progress() as progress:
        learned = concept_learning.run(config, progress)
    show(learned.folder / "results.json")
    return 0


def show(file: Path) -> None:
    """Print the accuracy of a learned concept from its results.json."""
    results = json.loads(file.read_text(encoding="utf-8"))
    for name in ("learned from", "held out"):
        print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.1f} %" for key, value in results[name].items()))
    print(f"{results['positives']} positives, {results['negatives']} negatives; written to {file.parent}")
