"""SqueezeNet (Iandola et al. 2016, https://arxiv.org/abs/1602.07360) as a feature network.

A 1x1 convolution after the last features makes one score map per class, followed by ReLU and global average pooling:
these maps are class activation maps (``method=cam_1x1``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision.models.squeezenet import Fire

from wsol.backbones.base import Backbone, Stage, dense_pool, lower_strides
from wsol.errors import unknown

FIRES = {f"fire{i}": (16 * (i // 2), 64 * (i // 2)) for i in range(2, 10)}
"""Channels of a fire module's squeeze layer and of each of its two expand layers."""
LAYOUTS = {
    "1_0": ((96, 7), ("fire2", "fire3", "fire4", "pool", "fire5", "fire6", "fire7", "fire8", "pool", "fire9")),
    "1_1": ((64, 3), ("fire2", "fire3", "pool", "fire4", "fire5", "pool", "fire6", "fire7", "fire8", "fire9")),
}
"""Channels and kernel of the first convolution, and the modules after the first pool."""


class SqueezeNet(Backbone):
    """torchvision's SqueezeNet up to fire9 (13x13 at 224).

    Points: ``conv1`` (after ReLU), ``pool1``, ``fire2`` ... ``fire9``, and the pools, numbered by the fire module
    before them (``pool4`` and ``pool8`` in version 1.0).

    Args:
        version: ``1_0`` or ``1_1`` (2.4 times fewer operations).
        output_stride: 4, 8 or 16 (as published). Lower strides set the last pools to stride 1 (3x3, padding 1).
        weights: torchvision name, path, or None.
        preprocessing: entries that replace those of the weights.

    Raises:
        InputError: an unknown version, an impossible output stride, or weights that do not fit.

    Example:
        >>> SqueezeNet().points["last"]
        FeatureInfo(channels=512, stride=16)
    """

    min_size = 21
    pretrained = "DEFAULT"
    dropped = ("classifier.",)
    classifier_name = "classifier.1"
    rectified = True

    def __init__(
        self,
        version: str = "1_0",
        output_stride: int | None = 16,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if version not in LAYOUTS:
            raise unknown("version", version, LAYOUTS)
        (channels, kernel), layout = LAYOUTS[version]
        strides = lower_strides([2, 2, 2, 2], output_stride, fixed=2, network="SqueezeNet")
        layers: list[nn.Module] = [nn.Conv2d(3, channels, kernel, stride=2), nn.ReLU(inplace=True), _pool(strides[1])]
        steps = [
            Stage("conv1", ("features.0", "features.1"), channels, strides[0]),
            Stage("pool1", ("features.2",), channels, strides[0] * strides[1]),
        ]
        stride, later, before = strides[0] * strides[1], iter(strides[2:]), 1
        for name in layout:
            if name == "pool":
                step = next(later)
                stride *= step
                layers.append(_pool(step))
                name = f"pool{before}"
            else:
                squeezed, expanded = FIRES[name]
                layers.append(Fire(channels, squeezed, expanded, expanded))
                channels, before = 2 * expanded, int(name.removeprefix("fire"))
            steps.append(Stage(name, (f"features.{len(layers) - 1}",), channels, stride))
        self.features = nn.Sequential(*layers)
        self.declare(steps, aliases=("fire4", "fire7", "fire9"))
        self.load(weights, f"squeezenet{version}", preprocessing)


def _pool(stride: int) -> nn.Module:
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True) if stride == 2 else dense_pool()
