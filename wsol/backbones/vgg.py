"""VGG (Simonyan and Zisserman 2015) as a feature network.

Surgery of CAM (Zhou et al. 2016, section 3): everything from the fifth pool on is removed, which leaves a 14x14 map at
224. Pooling of ACoL (Zhang et al. 2018; authors' code): 3x3 pools with padding 1, the last ones with stride 1 (pool4
and pool5: 28x28 at 224), then average pooling 3x3 with stride 1 and padding 1. Choe et al. 2020 (authors' code, see
docs/peers.md) keep the 2x2 pools; for 28x28 they leave out the fourth, and at 14x14 their SPG has a fourth pool of 3x3
with padding 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from wsol.backbones.base import Backbone, Stage, dense_pool, lower_strides
from wsol.errors import unknown

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class Pooling(NamedTuple):
    """How the network pools."""

    sides: tuple[int, int, int, int, int] = (2, 2, 2, 2, 2)
    """Sides of the five pools; a pool of side 3 has a padding of 1."""
    dense: bool = True
    """Whether a pool that loses its stride becomes 3x3 with padding 1; otherwise it is left out."""
    closing: bool = False
    """Whether the network has the fifth pool and the average pool after it."""
    output_stride: int = 16
    """The paper's output stride."""


POOLINGS = {
    "standard": Pooling(),
    "dropped": Pooling(dense=False),
    "spg": Pooling(sides=(2, 2, 2, 3, 2), dense=False),
    "acol": Pooling(sides=(3, 3, 3, 3, 3), closing=True, output_stride=8),
}


class VGG(Backbone):
    """VGG-11, -13, -16 or -19 without its classifier.

    Points: ``conv1_1`` ... ``conv5_3`` (after ReLU), ``pool1`` ... ``pool5`` where kept, ``avgpool`` (ACoL's pooling).
    Lower output strides set the last pools to stride 1, 3x3 with padding 1, or leave them out; the convolutions keep
    torchvision's numbers. The fifth pool exists at stride 32, and always with ACoL's pooling.

    Args:
        depth: 11, 13, 16 or 19.
        batch_norm: batch normalisation after each convolution.
        pooling: ``standard`` (2x2), ``dropped`` (2x2; left out where the stride is lowered), ``spg`` (as dropped, the
            fourth 3x3 with padding 1), or ``acol``.
        output_stride: 4, 8, 16 or 32; None for the paper's (acol 8, others 16).
        weights: torchvision name, path, or None.
        preprocessing: entries that replace those of the weights.

    Raises:
        InputError: an unknown option, or weights that do not fit.

    Example:
        >>> VGG(depth=11).points["last"]
        FeatureInfo(channels=512, stride=16)
    """

    min_size = 32
    pretrained = "DEFAULT"
    dropped = ("classifier.",)

    def __init__(
        self,
        depth: int = 16,
        batch_norm: bool = False,
        pooling: str = "standard",
        output_stride: int | None = None,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise unknown("depth of VGG", str(depth), map(str, DEPTHS))
        if pooling not in POOLINGS:
            raise unknown("pooling of VGG", pooling, POOLINGS)
        pools = POOLINGS[pooling]
        strides = lower_strides([2] * 5, output_stride or pools.output_stride, fixed=2, network="VGG")
        self.features = nn.Sequential()
        steps: list[Stage] = []
        for stage, (count, width, stride) in enumerate(zip(DEPTHS[depth], WIDTHS, strides, strict=True), start=1):
            for number in range(1, count + 1):
                steps.append(self._conv(f"conv{stage}_{number}", steps, width, batch_norm))
            if stage < 5 or stride == 2 or pools.closing:
                steps.append(self._pool(f"pool{stage}", steps[-1], stride, pools.sides[stage - 1], pools.dense))
        if pools.closing:
            self.avgpool = nn.AvgPool2d(kernel_size=3, stride=1, padding=1)
            steps.append(steps[-1]._replace(name="avgpool", modules=("avgpool",)))
        self.declare(steps, aliases=("pool3", f"conv4_{DEPTHS[depth][3]}", f"conv5_{DEPTHS[depth][4]}"))
        self.load(weights, f"vgg{depth}{'_bn' * batch_norm}", preprocessing)

    def _conv(self, name: str, before: list[Stage], width: int, batch_norm: bool) -> Stage:
        channels, stride = (before[-1].channels, before[-1].stride) if before else (3, 1)
        layers = [nn.Conv2d(channels, width, kernel_size=3, padding=1)]
        return self._step(name, [*layers, *[nn.BatchNorm2d(width)] * batch_norm, nn.ReLU(inplace=True)], width, stride)

    def _pool(self, name: str, before: Stage, stride: int, side: int, dense: bool) -> Stage:
        pool: nn.Module = dense_pool() if dense else nn.Identity()
        if stride == 2:
            pool = nn.MaxPool2d(side, stride=2, padding=(side - 1) // 2)
        return self._step(name, [pool], before.channels, before.stride * stride)

    def _step(self, name: str, layers: list[nn.Module], channels: int, stride: int) -> Stage:
        first = len(self.features)
        self.features.extend(layers)
        paths = tuple(f"features.{index}" for index in range(first, len(self.features)))
        return Stage(name, paths, channels, stride)
