r"""Guided Grad-CAM: guided backpropagation, weighted by Grad-CAM.

Selvaraju et al. 2017, section 3.2: the product of the guided gradient and Grad-CAM, enlarged bilinearly::

    M_c(x, y) = max over colours of |R(x, y)| * L_c(x, y)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wsol.explain.base import PixelExplainer
from wsol.explain.gradcam import GradCAM
from wsol.explain.guided_backprop import GuidedBackprop


class GuidedGradCAM(PixelExplainer):
    """Guided Grad-CAM.

    Args:
        layer: the layer of Grad-CAM, see `LayerExplainer`.
        layout: see `LayerExplainer`.
        chunk_size: see `Explainer`.

    Example:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> GuidedGradCAM()(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3], [5]])).shape
        torch.Size([2, 1, 64, 64])
    """

    def __init__(self, layer: str | None = None, layout: str = "nchw", chunk_size: int | None = None) -> None:
        super().__init__(chunk_size)
        self.grad_cam, self.guided = GradCAM(layer, layout), GuidedBackprop()

    def attributions(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return the product of both; see `PixelExplainer.attributions`."""
        coarse = self.grad_cam.explain(model, images, classes)
        fine = self.guided.attributions(model, images, classes)
        return fine * F.interpolate(coarse, images.shape[-2:], mode="bilinear")[:, :, None]
