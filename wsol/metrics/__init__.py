"""Metrics as torchmetrics classes, one file each, with plain functions beside them; usable in anybody's loop."""

from wsol.metrics.baselines import BASELINES, Baselines
from wsol.metrics.classification import ClassificationError, classification_error
from wsol.metrics.localization import BoxAccuracy, Curves, box_accuracy, localization_rows
from wsol.metrics.per_image import PerImage
from wsol.metrics.pixel_ap import PixelAveragePrecision

__all__ = [
    "BASELINES",
    "Baselines",
    "BoxAccuracy",
    "ClassificationError",
    "Curves",
    "PerImage",
    "PixelAveragePrecision",
    "box_accuracy",
    "classification_error",
    "localization_rows",
]
