r"""PC1: the first principal component of a convolutional network's features.

Yasuki and Taki 2024, "CAM Back Again: Large Kernel CNNs from a Weakly Supervised Object Localization Perspective"
(CVPR): with f(x, y) the features of the last layer, m their mean and w the first principal component::

    M(x, y) = w . (f(x, y) - m)

Eigen-CAM (`wsol.explain.eigencam`) is the same without subtracting the mean. See `wsol.functional.principal` for the
sign.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from wsol.explain.base import scores
from wsol.explain.layers import LayerExplainer, captured, only
from wsol.explain.principal import PrincipalExplainer
from wsol.functional.principal import Sign


class PC1(PrincipalExplainer, LayerExplainer):
    """The first principal component of a layer's features.

    Args:
        layer: see `LayerExplainer`.
        layout: see `LayerExplainer`.
        fit_on: see `PrincipalExplainer`.
        sign: see `PrincipalExplainer`.
        centre: see `PrincipalExplainer`.
        state: see `PrincipalExplainer`.
        chunk_size: see `Explainer`.

    Example:
        >>> from torchvision.models import resnet18
        >>> PC1()(resnet18(), torch.randn(2, 3, 96, 96)).shape
        torch.Size([2, 1, 3, 3])
    """

    def __init__(
        self,
        layer: str | None = None,
        layout: str = "nchw",
        fit_on: Literal["image", "dataset"] = "image",
        sign: Sign = "border",
        centre: bool = True,
        state: str | Path | None = None,
        chunk_size: int | None = None,
    ) -> None:
        LayerExplainer.__init__(self, layer, layout, chunk_size)
        PrincipalExplainer.__init__(self, fit_on, sign, centre, state, chunk_size)

    def read_features(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the layer's features; see `PrincipalExplainer.read_features`."""
        with torch.enable_grad():  # needed to find the last map that the scores depend on
            layer = self.resolve_layer(model, images)
        with captured(model, layer) as seen:
            scores(model, images)
        return self.as_maps(only(seen, layer))

    def options(self) -> dict[str, str]:
        """Return rules and layer; see `FittedExplainer.options`."""
        return {**super().options(), "layer": str(self.layer), "layout": self.layout}
