"""`wsol concept`: learn a concept from two folders of images and show where pictures have it."""

from __future__ import annotations

from omegaconf import DictConfig

from wsol.cli import screen
from wsol.patterns import concept_learning


def run(config: DictConfig) -> int:
    """Learn and draw under a composed config; returns the exit code."""
    screen.start_logging()
    with screen.progress() as progress:
        learned = concept_learning.run(config, progress)
    results = learned.results
    for name in ("learned from", "held out"):
        print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.1f} %" for key, value in results[name].items()))
    print(f"{results['positives']} positives, {results['negatives']} negatives; written to {learned.folder}")
    return 0
