r"""BagCAMs: every cell of the gradient is used as a classifier, and the maps of these classifiers are added up.

Zhu et al. 2022, "Bagging Regional Classification Activation Maps for Weakly Supervised Object Localization" (ECCV). At
a layer with features f_k and the score S_c, g is the gradient of log S_c::

    g_k = (dS_c / df_k) / S_c
    M_c(x, y) = sum_k relu( mean_ab(g_k(a, b) f_k(a, b) + 1) g_k(x, y) f_k(x, y) )

As in the released code, but not in the paper, the gradient passes each ReLU after the layer by the rule of guided
backpropagation (``relu: plain`` switches that off), and g has the sign of -dS_c/df if S_c is negative.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from wsol.errors import InputError, unknown
from wsol.explain.base import class_scores, gradients, scores
from wsol.explain.guided_relu import GuidedReLU
from wsol.explain.layers import LayerExplainer, captured, only

RELU = ("guided", "plain")


class BagCAMs(LayerExplainer):
    """BagCAMs.

    Args:
        layer: see `LayerExplainer`; the authors take ``layer3`` of ResNet-50.
        layout: see `LayerExplainer`.
        chunk_size: see `Explainer`.
        relu: ``guided``, as in the authors' code; or ``plain``, the unchanged gradient, as in the paper.

    Raises:
        InputError: another ``relu``; when called, ``guided`` for a network without ReLU.

    Example:
        >>> from torchvision.models import resnet18
        >>> BagCAMs("layer3")(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3], [5]])).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(
        self,
        layer: str | None = None,
        layout: str = "nchw",
        chunk_size: int | None = None,
        relu: Literal["guided", "plain"] = "guided",
    ) -> None:
        super().__init__(layer, layout, chunk_size)
        if relu not in RELU:
            raise unknown("relu", relu, RELU)
        self.relu = relu

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, h, w); see `Explainer.explain`."""
        layer = self.resolve_layer(model, images)
        mode = GuidedReLU() if self.relu == "guided" else nullcontext()
        with captured(model, layer, leaf=True) as seen, mode:
            asked = class_scores(scores(model, images), classes)
        if isinstance(mode, GuidedReLU) and not mode.count:
            raise InputError(f"{type(model).__name__} has no ReLU to guide the gradient; set relu=plain")
        features = only(seen, layer)
        grads = self.as_maps(gradients(asked, features))
        values = asked.detach()[..., None, None, None]
        tiny = torch.finfo(values.dtype).tiny
        values = torch.where(values.abs() < tiny, tiny, values)
        products = grads / values * self.as_maps(features.detach())[:, None]
        return ((products + 1).mean((-2, -1), keepdim=True) * products).relu().sum(2)
