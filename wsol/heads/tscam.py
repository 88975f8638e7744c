r"""TS-CAM: class maps of patch tokens, coupled with the attention of the class token.

Gao et al., "TS-CAM: Token Semantic Coupled Attention Map for Weakly Supervised Object Localization", ICCV 2021 (arXiv
2103.14862). t is the map of the patch tokens of a vision transformer after its final norm, and A^{l,h} is the softmax
attention of the class token to the patches in head h (of H) of block l (of L)::

    semantic maps   S_c = (k_c * t) + b_c             3x3 convolution, padding 1
    score           s_c = mean_xy S_c(x, y)
    attention map   A = sum_l 1/H sum_h A^{l,h}
    map             M_c(x, y) = A(x, y) S_c(x, y)

As in the released code, the attention of all blocks is summed, not averaged, which only scales the map; and b_c is part
of S_c, so it counts in the map. The loss is the cross entropy of s alone: the attention does not affect the scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import InputError, unknown
from wsol.heads.base import Head
from wsol.types import FeatureInfo, Output

MAPS = ("product", "attention", "semantic")


class TscamHead(Head):
    """A convolution to one map per class, whose mean is the score; the maps are multiplied by class-agnostic attention.

    Only the maps of requested classes are computed: the mean of a map is a linear function of the means of the windows
    that each cell of the kernel covers.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: point of the patch tokens.
        attention: point of the class token's attention.
        kernel: side of the convolution, odd.
        map: ``product``; or one of its factors: ``attention``, the same for all classes, or ``semantic``.

    Raises:
        InputError: an unknown option, an even kernel, or a backbone without attention.

    Example:
        >>> points = {"last": FeatureInfo(24, 16), "attention": FeatureInfo(4, 16, groups=2)}
        >>> head = TscamHead(points, num_classes=8, map="semantic")
        >>> output = head({"last": torch.randn(2, 24, 6, 6), "attention": torch.rand(2, 4, 6, 6)})
        >>> maps = head.maps(output, classes=torch.tensor([[3], [5]]))
        >>> torch.allclose(maps[0, 0].mean(), output.logits[0, 3], atol=1e-5)
        True
    """

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        point: str = "last",
        attention: str = "attention",
        kernel: int = 3,
        map: Literal["product", "attention", "semantic"] = "product",
    ) -> None:
        super().__init__(points, num_classes)
        if map not in MAPS:
            raise unknown("map", map, MAPS)
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"kernel: expected an odd number of cells, got {kernel}")
        rows = self.point(attention)
        self.taps = (point, attention)
        self.map = map
        self.class_agnostic = map == "attention"
        self.heads = rows.channels // rows.groups
        """Number of attention heads H per block."""
        # The authors intend a truncated normal but get torch's default: their initialisation skips convolutions.
        self.classifier = nn.Conv2d(self.point(point).channels, num_classes, kernel, padding=kernel // 2)

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Compute the class scores in float32, also under autocast; see `Head.forward`. ``labels`` are not used.

        The state contains ``tokens`` (N, C, h, w) and the ``attention`` map A (N, h, w).
        """
        tokens, rows = (features[tap] for tap in self.taps)
        with torch.autocast(tokens.device.type, enabled=False):
            attention = rows.float().sum(1) / self.heads
            padded = F.pad(tokens.float(), [self.classifier.weight.shape[-1] // 2] * 4)
            windows = F.avg_pool2d(padded, tokens.shape[2:], stride=1)
            logits = torch.einsum("ncij,kcij->nk", windows, self.classifier.weight.float()) + self._bias
        return Output(logits, {"tokens": tokens, "attention": attention})

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return the maps float32 (N, M, h, w); see `Head.maps`."""
        tokens, attention = output.state["tokens"], output.state["attention"][:, None]
        if self.map == "attention":
            shared: Tensor = attention.expand(-1, classes.shape[1], -1, -1)
            return shared
        with torch.autocast(tokens.device.type, enabled=False):
            kernel = self.classifier.weight.shape[-1]
            columns = F.unfold(tokens.float(), kernel, padding=kernel // 2)
            weights = self.classifier.weight.float()[classes].flatten(2)
            class_maps = weights @ columns + self._bias[classes][..., None]
            semantic: Tensor = class_maps.unflatten(2, tokens.shape[2:])
        return semantic * attention if self.map == "product" else semantic

    @property
    def _bias(self) -> Tensor:
        assert self.classifier.bias is not None
        return self.classifier.bias.float()
