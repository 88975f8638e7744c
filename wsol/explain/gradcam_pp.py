r"""Grad-CAM++: weights that count each cell with a positive gradient equally.

Chattopadhyay et al. 2018, "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional Networks",
equations 5, 6 and 19, for Y = exp(S_c) and g = dS_c/dA, whose higher derivatives are powers of g::

    alpha(x, y) = g^2 / (2 g^2 + sum_ab A(a, b) g^3)        (per channel; 0 where g is 0)
    w_k = sum_xy alpha(x, y) ReLU(g(x, y))
    L_c = ReLU(sum_k w_k A_k)

The factor exp(S_c) of all w_k is left out: it only scales the map of an image, and it overflows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsol.explain.layers import GradientCam


class GradCAMPlusPlus(GradientCam):
    """Grad-CAM++.

    Args:
        layer: see `LayerExplainer`.
        layout: see `LayerExplainer`.
        chunk_size: see `Explainer`.

    Example:
        >>> from torchvision.models import resnet18
        >>> GradCAMPlusPlus()(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3], [5]])).min().item() >= 0
        True
    """

    def weight_features(self, features: Tensor, grads: Tensor) -> Tensor:
        """See `GradientCam.weight_features`; one g^2 is cancelled, so that small gradients do not underflow."""
        below = 2 + features.sum((-2, -1), keepdim=True) * grads
        alpha = torch.where((grads != 0) & (below != 0), 1 / below, 0.0)
        weights = (alpha * grads.relu()).sum((-2, -1), keepdim=True)
        return (weights * features).sum(2).relu()
