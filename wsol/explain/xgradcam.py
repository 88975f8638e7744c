r"""XGrad-CAM: gradients weighted by the share of each cell in its feature.

Fu et al. 2020, "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", equations 7 and 8::

    w_k^c = sum_xy A_k(x, y) / (sum_ab A_k(a, b)) dS_c / dA_k(x, y)
    L_c = ReLU(sum_k w_k^c A_k)
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsol.explain.layers import GradientCam


class XGradCAM(GradientCam):
    """XGrad-CAM.

    Args:
        layer: see `LayerExplainer`.
        layout: see `LayerExplainer`.
        chunk_size: see `Explainer`.

    Example:
        >>> from torchvision.models import resnet18
        >>> XGradCAM()(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3], [5]])).shape
        torch.Size([2, 1, 2, 2])
    """

    def weight_features(self, features: Tensor, grads: Tensor) -> Tensor:
        """See `GradientCam.weight_features`; a feature that sums to 0 has the weight 0."""
        total = features.sum((-2, -1), keepdim=True)
        share = torch.where(total != 0, features / total, 0.0)
        return ((share * grads).sum((-2, -1), keepdim=True) * features).sum(2).relu()
