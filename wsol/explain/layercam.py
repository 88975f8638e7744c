r"""Layer-CAM: each cell is weighted by its own positive gradient, which also works for early, fine layers.

Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", equations 5 to 7::

    L_c(x, y) = ReLU(sum_k ReLU(dS_c / dA_k(x, y)) A_k(x, y))
"""

from __future__ import annotations

from torch import Tensor

from wsol.explain.layers import GradientCam


class LayerCAM(GradientCam):
    """Layer-CAM.

    Args:
        layer: see `LayerExplainer`.
        layout: see `LayerExplainer`.
        chunk_size: see `Explainer`.

    Example:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> LayerCAM("layer2")(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3], [5]])).shape
        torch.Size([2, 1, 8, 8])
    """

    def weight_features(self, features: Tensor, grads: Tensor) -> Tensor:
        """See `GradientCam.weight_features`."""
        return (grads.relu() * features).sum(2).relu()
