"""PxAP as a metric over a split with masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.errors import InputError
from wsol.functional.metric_inputs import Values, check_index, on_host, to_result
from wsol.functional.pixels import average_precision, check_masks, check_thresholds, score_histograms
from wsol.metrics._per_image import PerImage


class PxAP(PerImage):
    """Pixel-wise average precision (PxAP, Choe et al., CVPR 2020), percent.

    Over the pixels of all images together (`wsol.functional.pixels`)::

        PxAP = 100 * sum over l of precision(t_l) (recall(t_l) - recall(t_(l+1)))

    The histograms of an image are too large to store, so they are summed at once, and only the position of each image
    is stored. A process skips an image that it has already counted. If several processes count the same image, it can't
    be removed any more: all processes refuse this at `compute`.

    Args:
        num_thresholds: thresholds are ``0, 1 / num_thresholds, ...``.
        kwargs: arguments of `torchmetrics.Metric`.

    Example:
        >>> metric = PxAP()
        >>> metric.update([np.array([[0.9, 0.4, 0.2]])], [np.array([[1, 0, 255]], np.uint8)])
        >>> metric.compute().item()
        100.0
    """

    full_state_update = True
    higher_is_better = True
    histograms: Tensor

    def __init__(self, num_thresholds: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_thresholds = check_thresholds(num_thresholds)
        self.add_state("histograms", torch.zeros(2, num_thresholds + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, score_maps: Values, masks: Values, index: Values | None = None) -> None:
        """Add a batch. Tensors on another device are copied once.

        Args:
            score_maps: N maps, real (H, W) in [0, 1]: a tensor, an array, or a list of either.
            masks: N masks, uint8 (H, W), 0 background, 1 object, 255 ignore, each of its map's shape.
            index: integer (N,) position of each image in its split, at least 0, so that an image that comes twice
                counts once; None if every image comes once.

        Raises:
            InputError: other shapes, types, values or numbers of entries; see `wsol.functional.pixels`.
        """
        given_maps, given_masks, positions = on_host(score_maps, masks, index)
        maps, truths = check_masks(given_maps, given_masks)
        where = check_index(positions, len(maps))
        seen = set(self.joined("index").tolist()) if (where >= 0).any() else set()
        new: list[int] = []
        total = np.zeros((2, self.num_thresholds + 1), dtype=np.int64)
        for position, score_map, mask in zip(where.tolist(), maps, truths, strict=True):
            if position < 0 or position not in seen:
                total += score_histograms(score_map, mask, self.num_thresholds)
                seen.add(position)
                new.append(position)
        if new:
            self.append(np.array(new))
            self.histograms = self.histograms + torch.as_tensor(total).to(self.device)

    def counts(self) -> np.ndarray:
        """Count background and object pixels by score, over all images of all processes: int64 (2, num_thresholds + 1).

        Raises:
            InputError: several processes counted the same image.
        """
        found: np.ndarray = self._gathered(self._counts)
        return found

    def compute(self) -> Tensor:
        """Return PxAP over all images so far, 0-d float64 in [0, 100] on the metric's device; NaN before any image.

        Raises:
            InputError: several processes counted the same image, or no mask has an object pixel.
        """
        histograms = self.counts()
        return to_result(average_precision(histograms) if len(self.joined("index")) else float("nan"), self.device)

    def _counts(self) -> np.ndarray:
        index = self.joined("index")
        _, times = index[index >= 0].unique(return_counts=True)
        again = int((times > 1).sum())
        if again:
            raise InputError(
                f"{again} of the images were counted by several processes; use a sampler that neither pads nor repeats"
            )
        return self.histograms.cpu().numpy()
