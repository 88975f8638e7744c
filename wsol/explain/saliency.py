r"""The gradient of the class score with respect to the image: backpropagation saliency.

Simonyan, Vedaldi and Zisserman 2014, "Deep Inside Convolutional Networks", section 3::

    M_c(x, y) = max over colours of |dS_c / dX(x, y)|

The "Backprop" rows of CAM 2016, tables 2 and 3.
"""

from __future__ import annotations

from torch import Tensor, nn

from wsol.explain.base import PixelExplainer, class_scores, gradients, scores


class Saliency(PixelExplainer):
    """Vanilla gradient.

    Args:
        chunk_size: see `Explainer`.

    Example:
        >>> import torch
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> maps = Saliency()(linear, torch.randn(1, 3, 2, 2), torch.tensor([[1]]))
        >>> bool((maps[0, 0] == linear[1].weight[1].view(3, 2, 2).abs().amax(0)).all())
        True
    """

    def attributions(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return dS_c / dX; see `PixelExplainer.attributions`."""
        at = images.clone().requires_grad_()
        # The network gets a copy, because its first layer may work in place.
        return gradients(class_scores(scores(model, at.clone()), classes), at)
