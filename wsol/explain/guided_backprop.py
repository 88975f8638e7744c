r"""Guided backpropagation: the gradient with respect to the image; each ReLU passes back only positive values.

Springenberg et al. 2015, "Striving for Simplicity: The All Convolutional Net", section 3.4: backwards through
``f = ReLU(x)``::

    R_x = [x > 0] [R_f > 0] R_f
"""

from __future__ import annotations

from torch import Tensor, nn

from wsol.errors import InputError
from wsol.explain.base import PixelExplainer, class_scores, gradients, scores
from wsol.explain.guided_relu import GuidedReLU


class GuidedBackprop(PixelExplainer):
    """Guided backpropagation.

    It applies to every ReLU, see `wsol.explain.guided_relu.GuidedReLU`.

    Args:
        chunk_size: see `Explainer`.

    Raises:
        InputError: when called, the network has no ReLU (but GELU or SiLU): the method is not defined for it.

    Example:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> GuidedBackprop()(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3], [5]])).shape
        torch.Size([2, 1, 64, 64])
    """

    def attributions(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return the guided gradient; see `PixelExplainer.attributions`."""
        at = images.clone().requires_grad_()
        with GuidedReLU() as guided:
            asked = class_scores(scores(model, at.clone()), classes)
        if not guided.count:
            raise InputError(f"{type(model).__name__} has no ReLU to guide the gradient; use explainer=saliency")
        return gradients(asked, at)
