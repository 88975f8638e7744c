r"""Eigen-CAM: the features projected onto their first principal direction, without a class.

Muhammad and Yeasin 2020, "Eigen-CAM: Class Activation Map using Principal Components", section III: with the features
as a matrix A with one row per cell and one column per channel (not centred), and v_1 its first right singular vector::

    A = U S V^T,    L = A v_1

A singular vector's sign is arbitrary; here it is chosen so that the map's sum is not negative.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsol.explain.base import class_scores, classifies, scores
from wsol.explain.layers import LayerExplainer, captured, only


class EigenCAM(LayerExplainer):
    """Eigen-CAM; the maps of all classes of an image are the same.

    Args:
        layer: see `LayerExplainer`.
        layout: see `LayerExplainer`.
        chunk_size: see `Explainer`.

    Example:
        >>> from torchvision.models import resnet18
        >>> EigenCAM()(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3], [5]])).shape
        torch.Size([2, 1, 2, 2])
    """

    class_agnostic = True
    needs_scores = False

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, h, w); see `Explainer.explain`."""
        layer = self.resolve_layer(model, images)
        with torch.no_grad(), captured(model, layer) as seen:
            logits = scores(model, images)
        if classifies(model):
            class_scores(logits, classes)
        features = self.as_maps(only(seen, layer))
        left, sizes, _ = torch.linalg.svd(features.flatten(2).transpose(1, 2), full_matrices=False)
        along = left[..., 0] * sizes[:, :1]
        along = torch.where(along.sum(1, keepdim=True) < 0, -along, along)
        found: Tensor = along.unflatten(1, features.shape[2:])[:, None].expand(-1, classes.shape[1], -1, -1)
        return found
