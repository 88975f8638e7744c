r"""Class activation mapping of any network that can have it.

Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", equation 2: with f_k(x, y) the k-th of the
last features and w_k^c the weight of the linear classifier on their means::

    M_c(x, y) = sum_k w_k^c f_k(x, y)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.explain.base import class_scores, scores
from wsol.explain.layers import LayerExplainer, captured, only
from wsol.heads.base import Head
from wsol.types import Output


class CAM(LayerExplainer):
    """CAM: a localizer's own maps; of a plain classifier those of its last linear layer.

    Args:
        layer: see `LayerExplainer`; a localizer's head has its own.
        layout: see `LayerExplainer`.
        chunk_size: see `Explainer`.

    Raises:
        InputError: when called, a classifier that is not linear on the mean of the layer, or a layer for a localizer.

    Example:
        >>> from torchvision.models import resnet18
        >>> CAM()(resnet18(), torch.randn(2, 3, 64, 64), torch.tensor([[3, 0], [5, 1]])).shape
        torch.Size([2, 2, 2, 2])
    """

    def explain(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return (N, M, h, w); see `Explainer.explain`."""
        if isinstance(head := getattr(model, "head", None), Head):
            return self._own(model, head, images, classes)
        layer = self.resolve_layer(model, images)
        linear = next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)
        if linear is None:
            raise InputError(f"{type(model).__name__}: no linear layer, so no CAM; use explainer=gradcam")
        read: list[Tensor] = []
        handle = linear.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0]))
        try:
            with torch.no_grad(), captured(model, layer) as seen:
                class_scores(scores(model, images), classes)
        finally:
            handle.remove()
        features = self.as_maps(only(seen, layer))
        mean = features.mean((-2, -1))
        if not read or read[0].shape != mean.shape or not torch.allclose(read[0], mean, rtol=1e-3, atol=1e-4):
            raise InputError(
                f"{type(model).__name__}: the last linear layer does not read the mean of {layer!r}, so there is no "
                "CAM; use explainer=gradcam, or name the layer"
            )
        return torch.einsum("nchw,nmc->nmhw", features, linear.weight[classes])

    def _own(self, model: nn.Module, head: Head, images: Tensor, classes: Tensor) -> Tensor:
        if self.layer is not None:
            raise InputError(f"layer={self.layer}: the head of this localizer makes its own CAM; leave the layer out")
        with torch.no_grad():
            output = model(images)
            assert isinstance(output, Output)
            class_scores(output.logits, classes)
            return head.maps(output, classes)
