"""`wsol predict`: predict class, score, box and map of any images."""

from __future__ import annotations

from omegaconf import DictConfig

from wsol.cli import screen
from wsol.engine.prediction_files import ImagePredictor, UnreadableImage
from wsol.interop.coco import PredictedBox

SHOWN = 20
"""Largest number of images whose predictions are all printed."""


def run(config: DictConfig) -> int:
    """Predict under a composed config; returns the exit code, 1 if there are bad files."""
    screen.start_logging()
    predictor = ImagePredictor(config)
    show = _print if len(predictor.files) <= SHOWN else lambda found, name: None
    with screen.progress() as progress:
        done = predictor.write(progress=progress, on_prediction=show, on_unreadable=_warn)
    print(f"{done.images - len(done.unreadable):,} of {done.images:,} images, written to {done.folder}")
    return 1 if done.unreadable else 0


def _print(found: PredictedBox, name: str) -> None:
    corners = " ".join(f"{value:.0f}" for value in found.box)
    overlap = "" if found.iou is None else f", IoU {found.iou:.2f}"
    print(f"{found.image}: {name} {found.score:.3f}, box {corners}{overlap}")


def _warn(image: UnreadableImage) -> None:
    screen.warn(f"bad image: {image.error}")
