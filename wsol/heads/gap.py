r"""Class activation mapping: global pooling, then one linear layer whose weights make the maps.

Zhou et al. 2016, "Learning Deep Features for Discriminative Localization". With f_k(x, y) the k-th feature at a cell,
F_k its mean over all cells, and w_k^c the weight of unit k for class c (section 2)::

    score S_c = sum_k w_k^c F_k                     equation 1
    map M_c(x, y) = sum_k w_k^c f_k(x, y)           equation 2

Hence the map's mean plus the bias is the score, and M_c is channel c of a 1x1 convolution with the weights w
(Zhang et al. 2018, ACoL, section 3.1). Global max pooling (GMP) is the comparison of Zhou et al., section 2;
log-sum-exp pooling (LSE) lies between the two (Pinheiro and Collobert 2015, equation 2)::

    s = 1/r log(1/(h w) sum_xy exp(r s_xy))

Thresholded average pooling (TAP; Bae et al., ECCV 2020, section 4.1) averages a unit over its active cells only::

    F_k = sum over T_k of f_k / max(|T_k|, 1),   T_k = {(x, y): f_k(x, y) > max(0, t max f_k)}

and their negative weight clamping (section 4.2) uses only the positive weights for maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import InputError, unknown
from wsol.heads.base import Head
from wsol.types import FeatureInfo, Output

POOLS = ("avg", "max", "lse", "thresholded")
PLACES = ("features", "scores")


class GapHead(Head):
    """Global pooling and a linear classifier.

    Args:
        points: the backbone's points.
        num_classes: number of classes K.
        point: the point whose features are read.
        conv_channels: channels of a convolution with ReLU before the pooling (1024 in the paper for VGG, GoogLeNet and
            AlexNet-GAP); None for none.
        conv_kernel: side of that convolution, odd; padding keeps the map's size.
        conv_groups: groups of that convolution (2 in the released code; the paper does not mention them).
        conv_bias: initial value of its biases (1 in the released GoogLeNet-GAP).
        dropout: dropout probability before the classifier, after any pooling of features.
        pool: ``avg``, ``max``, ``lse`` or ``thresholded`` (TAP).
        pool_at: ``features``: pool, then classify (CAM; GMP of Zhou et al.); ``scores``: classify each cell, then pool
            the planes of scores (Pinheiro and Collobert). With ``avg`` both are the same.
        rectify: ReLU on each cell's scores, bias included, before the pooling: the planes are the maps, and their means
            are the scores (NIN, SqueezeNet). Needs ``pool_at: scores``.
        lse_sharpness: r > 0 of log-sum-exp, which approaches the mean for r to 0 and the maximum for r to infinity.
        tap_threshold: t in [0, 1) of ``thresholded``, as a fraction of a unit's maximum over the cells of an image.
        positive_weights: whether negative weights count as 0 in maps; scores do not change.

    Raises:
        InputError: an unknown option, or an option out of its range.

    Example:
        >>> head = GapHead({"last": FeatureInfo(channels=64, stride=4)}, num_classes=8)
        >>> output = head({"last": torch.randn(2, 64, 16, 16)})
        >>> maps = head.maps(output, classes=torch.tensor([[3], [5]]))
        >>> maps.shape
        torch.Size([2, 1, 16, 16])
        >>> torch.allclose(maps[0, 0].mean() + head.classifier.bias[3], output.logits[0, 3], atol=1e-5)
        True
    """

    def __init__(
        self,
        points: Mapping[str, FeatureInfo],
        num_classes: int,
        point: str = "last",
        conv_channels: int | None = None,
        conv_kernel: int = 3,
        conv_groups: int = 1,
        conv_bias: float = 0.0,
        dropout: float = 0.0,
        pool: str = "avg",
        pool_at: str = "features",
        rectify: bool = False,
        lse_sharpness: float = 5.0,
        tap_threshold: float = 0.1,
        positive_weights: bool = False,
    ) -> None:
        super().__init__(points, num_classes)
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
        if pool_at not in PLACES:
            raise unknown("pool_at", pool_at, PLACES)
        if rectify and pool_at != "scores":
            raise InputError("rectify=true rectifies the scores of each cell before the pooling; set pool_at=scores")
        if pool == "thresholded" and pool_at != "features":
            raise InputError("pool=thresholded averages features over their active cells; set pool_at=features")
        if not 0 <= tap_threshold < 1:
            raise InputError(f"tap_threshold: expected a number in [0, 1), got {tap_threshold}")
        if positive_weights and rectify:
            raise InputError("positive_weights=true makes maps without the bias, rectify=true with it; choose one")
        if not lse_sharpness > 0:
            raise InputError(f"lse_sharpness: expected more than 0, got {lse_sharpness}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout: expected a probability in [0, 1), got {dropout}")
        self.taps = (point,)
        self.pool, self.pool_at, self.rectify, self.lse_sharpness = pool, pool_at, rectify, lse_sharpness
        self.tap_threshold, self.positive_weights = tap_threshold, positive_weights
        channels = self.point(point).channels
        self.conv: nn.Module = nn.Identity()
        if conv_channels is not None:
            self.conv = _conv(channels, conv_channels, conv_kernel, conv_groups, conv_bias)
            channels = conv_channels
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> Output:
        """Score the classes in float32, also under autocast; see `Head.forward`. ``labels`` are not used.

        The state has the ``features`` (N, C, h, w) for the maps.
        """
        x = self.conv(features[self.taps[0]])
        # Pooling and classifier take little time; full precision keeps the scores equal to the maps' means.
        with torch.autocast(x.device.type, enabled=False):
            if self.rectify:
                logits = self._pool(self._planes(self.dropout(x.float())))
            elif self.pool == "avg" or self.pool_at == "features":
                logits = self.classifier(self.dropout(self._pool(x.float())))
            else:
                planes = F.conv2d(self.dropout(x.float()), self.classifier.weight[:, :, None, None])
                logits = self._pool(planes) + self.classifier.bias
        return Output(logits, {"features": x})

    def maps(self, output: Output, classes: Tensor) -> Tensor:
        """Return the maps of equation 2 float32 (N, M, h, w); see `Head.maps`. With bias only if rectified."""
        x = output.state["features"]
        with torch.autocast(x.device.type, enabled=False):
            weights = self.classifier.weight[classes]
            found = torch.einsum(
                "nchw,nmc->nmhw", x.float(), weights.clamp(min=0) if self.positive_weights else weights
            )
            return (found + self.classifier.bias[classes][:, :, None, None]).relu() if self.rectify else found

    def load_classifier(self, state: Mapping[str, Tensor]) -> None:
        """Load ``weight`` (K, C) and ``bias`` (K,).

        Raises:
            InputError: the number of classes or features differs.
        """
        if {key: value.shape for key, value in state.items()} != {
            key: value.shape for key, value in self.classifier.state_dict().items()
        }:
            given = {key: tuple(value.shape) for key, value in state.items()}
            raise InputError(
                f"pretrained_classifier: expected one of {self.num_classes} classes on {self.classifier.in_features} "
                f"features, the weights have {given}. Set pretrained_classifier=false to start with a fresh one, or "
                "use the data and the head (conv_channels=null) the weights were made for"
            )
        self.classifier.load_state_dict(dict(state))

    def _planes(self, x: Tensor) -> Tensor:
        """Return the rectified scores (N, K, h, w) of each cell."""
        return F.conv2d(x, self.classifier.weight[:, :, None, None], self.classifier.bias).relu()

    def _pool(self, x: Tensor) -> Tensor:
        """Pool float32 (N, C, h, w) over its cells to (N, C)."""
        if self.pool == "avg":
            return x.mean((2, 3))
        if self.pool == "max":
            return x.amax((2, 3))
        if self.pool == "thresholded":
            active = x > (self.tap_threshold * x.amax((2, 3), keepdim=True)).clamp(min=0)
            return (x * active).sum((2, 3)) / active.sum((2, 3)).clamp(min=1)
        r = self.lse_sharpness
        return ((r * x).logsumexp((2, 3)) - math.log(x.shape[2] * x.shape[3])) / r


def _conv(before: int, channels: int, kernel: int, groups: int, bias: float) -> nn.Sequential:
    if channels < 1 or kernel < 1 or kernel % 2 == 0:
        raise InputError(f"conv_channels, conv_kernel: expected positive and odd, got {channels} and {kernel}")
    if groups < 1 or before % groups or channels % groups:
        raise InputError(f"conv_groups: {groups} does not divide {before} input and {channels} output channels")
    conv = nn.Conv2d(before, channels, kernel, padding=kernel // 2, groups=groups)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.constant_(conv.bias, bias)
    return nn.Sequential(conv, nn.ReLU(inplace=True))
