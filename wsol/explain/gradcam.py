r"""Grad-CAM: features weighted by the mean gradient of the class score.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", equations 1
and 2, with A_k the k-th of the layer's features and Z their number of cells::

    a_k^c = 1/Z sum_xy dS_c / dA_k(x, y)
    L_c(x, y) = ReLU(sum_k a_k^c A_k(x, y))

If the scores are linear in the mean of A, then dS_c/dA_k = w_k^c / Z: Grad-CAM without its ReLU is CAM divided by Z.
"""

from __future__ import annotations

from torch import Tensor

from wsol.explain.layers import GradientCam


class GradCAM(GradientCam):
    """Grad-CAM.

    Args:
        layer: see `LayerExplainer`.
        layout: see `LayerExplainer`.
        chunk_size: see `Explainer`.
        relu: whether negative values become 0, as in the paper.

    Example:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> GradCAM()(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3], [5]])).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(
        self, layer: str | None = None, layout: str = "nchw", chunk_size: int | None = None, relu: bool = True
    ) -> None:
        super().__init__(layer, layout, chunk_size)
        self.relu = relu

    def weight_features(self, features: Tensor, grads: Tensor) -> Tensor:
        """See `GradientCam.weight_features`."""
        maps = (grads.mean((-2, -1), keepdim=True) * features).sum(2)
        return maps.relu() if self.relu else maps
