"""Metrics as torchmetrics classes, one file each, with plain functions beside them; usable in anybody's loop."""

from wsol.metrics.baselines import BASELINES, Baselines
from wsol.metrics.box_accuracy import BoxAccuracy, Curves, box_accuracy
from wsol.metrics.classification import ClassificationError, classification_error
from wsol.metrics.error_split import ErrorSplit, error_split
from wsol.metrics.localization_error import (
    LocalizationError,
    MaxBoxAcc,
    MaxBoxAccV2,
    localization_error,
    max_box_acc,
)
from wsol.metrics.localization_rows import chosen, localization_rows
from wsol.metrics.per_image import PerImage
from wsol.metrics.pxap import PixelScores, PxAP, pxap

__all__ = [
    "BASELINES",
    "Baselines",
    "BoxAccuracy",
    "ClassificationError",
    "Curves",
    "ErrorSplit",
    "LocalizationError",
    "MaxBoxAcc",
    "MaxBoxAccV2",
    "PerImage",
    "PixelScores",
    "PxAP",
    "box_accuracy",
    "chosen",
    "classification_error",
    "error_split",
    "localization_error",
    "localization_rows",
    "max_box_acc",
    "pxap",
]
