"""`wsol ilsvrc-kit`: score or write guesses in the text format of the ILSVRC challenge."""

from __future__ import annotations

from omegaconf import DictConfig

from wsol.engine import challenge_kit
from wsol.engine.challenge_kit import KitFile


def run(config: DictConfig) -> int:
    """Score or write under a composed config; returns the exit code."""
    found = challenge_kit.run(config)
    if isinstance(found, KitFile):
        print(f"{found.images:,} images, up to {found.guesses} guesses each, written to {found.file}")
        return 0
    print(
        f"{found.images:,} validation images, {found.blacklisted:,} of them blacklisted "
        "(they only count for classification)"
    )
    for name, error in found.errors.items():
        print(f"{name}: {error:.2f} %")
    return 0
