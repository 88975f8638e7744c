"""Metrics as torchmetrics classes for any training loop, each with a plain function for a whole set.

=====================  ===========================  ===============================================================
class                  function                     result
=====================  ===========================  ===============================================================
`LocalizationError`    `localization_error`         GT-known and top-k localization errors under any protocol
`MaxBoxAcc`            `max_box_acc`                GT-known accuracy at the best threshold
`MaxBoxAccV2`          `max_box_acc` (``v2=True``)  the same, mean over IoU 0.3, 0.5 and 0.7
`PxAP`                 `pxap`                       pixel-wise average precision against masks
`TopKError`            `topk_error`                 classification errors
`ErrorSplit`           `error_split`                what is wrong with incorrect boxes
=====================  ===========================  ===============================================================

``update(predictions, truth, ..., index=None)`` adds a batch, ``metric(...)`` also returns the value of this batch, and
``compute()`` returns 0-d tensors in percent. Values are stored per image: with ``index``, an image that comes twice
counts once. Results do not depend on the number of processes or the size of batches, to the last digit. `PerImage` is
the base class of your own metrics.
"""

from wsol.functional.error_kinds import error_split
from wsol.functional.pixels import pxap
from wsol.functional.ranks import topk_error
from wsol.metrics._localization_functions import localization_error, max_box_acc
from wsol.metrics._per_image import PerImage
from wsol.metrics.classification import TopKError
from wsol.metrics.error_kinds import ErrorSplit
from wsol.metrics.localization import LocalizationError, MaxBoxAcc, MaxBoxAccV2
from wsol.metrics.pixels import PxAP

__all__ = [
    "ErrorSplit",
    "LocalizationError",
    "MaxBoxAcc",
    "MaxBoxAccV2",
    "PerImage",
    "PxAP",
    "TopKError",
    "error_split",
    "localization_error",
    "max_box_acc",
    "pxap",
    "topk_error",
]
