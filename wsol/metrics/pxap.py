"""PxAP as a metric over a split with masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.errors import InputError
from wsol.functional.pixels import average_precision, score_histograms
from wsol.metrics.per_image import PerImage


class PixelScores(PerImage):
    """Background and object pixels by score, over all images: what PxAP, and precision and coverage, are read from.

    The histograms of an image would be far too much to keep, so they are summed as they come; of each image only its
    position is kept. An image that comes to one process again is left out at once. Had two processes measured the same
    image, it could not be taken out any more: that is refused at `compute`, on all processes alike.

    Args:
        num_thresholds: thresholds are ``0, 1 / num_thresholds, ...``.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = PixelScores(num_thresholds=2)
        >>> scores, mask = np.array([[0.9, 0.4, 0.2]]), np.array([[1, 0, 255]], np.uint8)
        >>> metric.update([scores], [mask], index=torch.tensor([0]))
        >>> metric.compute().tolist()
        [[1, 0, 0], [0, 1, 0]]
    """

    is_differentiable = False
    full_state_update = True
    histograms: Tensor

    def __init__(self, num_thresholds: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_thresholds = num_thresholds
        self.add_state("histograms", torch.zeros(2, num_thresholds + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, score_maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], index: Tensor) -> None:
        """Take some images.

        Args:
            score_maps: N of real (H, W) in [0, 1].
            masks: N of uint8 (H, W), 0 background, 1 object, 255 ignore, each of its map's shape.
            index: integer (N,) positions in the split.
        """
        positions = torch.as_tensor(index).reshape(-1).tolist()
        if not len(score_maps) == len(masks) == len(positions):
            raise InputError(f"PxAP: {len(score_maps)} maps, {len(masks)} masks, {len(positions)} positions")
        seen = set(self.joined("index").tolist())
        new: dict[int, np.ndarray] = {}
        for position, score_map, mask in zip(positions, score_maps, masks, strict=True):
            if position not in seen and position not in new:
                new[position] = score_histograms(score_map, mask, self.num_thresholds)
        if new:
            self.append(list(new))
            self.histograms = self.histograms + torch.as_tensor(sum(new.values())).to(self.device)

    def compute(self) -> Any:
        """The histograms of all images so far, int64 (2, num_thresholds + 1): background, object.

        Raises:
            InputError: several processes measured the same image.
        """
        _, times = self.joined("index").unique(return_counts=True)
        again = int((times > 1).sum())
        if again:
            raise InputError(
                f"{again} of the images were measured by several processes; use a sampler that neither pads nor repeats"
            )
        return self.histograms.cpu().numpy()


class PxAP(PixelScores):
    """Pixel-wise average precision (PxAP, Choe et al. 2020), percent; see `wsol.functional.pixels`.

    Args:
        num_thresholds: thresholds are ``0, 1 / num_thresholds, ...``.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = PxAP()
        >>> scores, mask = np.array([[0.9, 0.4, 0.2]]), np.array([[1, 0, 255]], np.uint8)
        >>> metric.update([scores], [mask], index=torch.tensor([0]))
        >>> metric.compute()
        100.0
    """

    higher_is_better = True

    def compute(self) -> float:
        """PxAP over all images so far, percent.

        Raises:
            InputError: several processes measured the same image, or no mask has an object pixel.
        """
        return average_precision(super().compute())


def pxap(score_maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], num_thresholds: int = 1000) -> float:
    """PxAP of one set, percent; the functional twin of `PxAP`, whose arguments these are.

    Example:
        >>> pxap([np.array([[0.9, 0.4, 0.2]])], [np.array([[1, 0, 255]], np.uint8)])
        100.0
    """
    metric = PxAP(num_thresholds, sync_on_compute=False)
    metric.update(score_maps, masks, torch.arange(len(score_maps)))
    return metric.compute()
