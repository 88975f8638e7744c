r"""Score-CAM: each feature is weighted by the score of the image masked with it.

Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", equations 7 to
9 and algorithm 1: with H_k the k-th feature, enlarged to the input and scaled to [0, 1] by its minimum and maximum, X_b
an empty image, and o the elementwise product::

    C_k = S_c(X o H_k) - S_c(X_b)
    L_c = ReLU(sum_k softmax_k(C_k) A_k)

The softmax cancels S_c(X_b), so the empty image needs no forward pass. X is the normalised image: masked pixels get
the mean colour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.explain.base import class_scores, scores
from wsol.explain.layers import LayerExplainer, captured, only


class ScoreCAM(LayerExplainer):
    """Score-CAM; one forward pass for each channel and image, for any number of classes.

    Args:
        layer: see `LayerExplainer`.
        layout: see `LayerExplainer`.
        chunk_size: number of masked images in one forward pass; None for 32.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> ScoreCAM()(network, torch.randn(2, 3, 15, 15), torch.tensor([[3], [1]])).shape
        torch.Size([2, 1, 7, 7])
    """

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, h, w); see `Explainer.explain`."""
        layer = self.resolve_layer(model, images)
        with torch.no_grad():
            with captured(model, layer) as seen:
                class_scores(scores(model, images), classes)
            features = self.as_maps(only(seen, layer)).clone()
            kept = torch.stack(
                [self._masked_scores(model, *of_image) for of_image in zip(images, features, classes, strict=True)]
            )
            return torch.einsum("ncm,nchw->nmhw", kept.softmax(1), features).relu()

    def _masked_scores(self, model: nn.Module, image: Tensor, features: Tensor, classes: Tensor) -> Tensor:
        """Return the scores (C, M) of an image masked with each of its features."""
        found = []
        for some in features.split(self.chunk_size or 32):
            masks = F.interpolate(some[:, None], image.shape[-2:], mode="bilinear")
            low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
            masks = torch.where(high > low, (masks - low) / (high - low), 0.0)
            found.append(scores(model, image * masks)[:, classes])
        return torch.cat(found)
