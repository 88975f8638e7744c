"""MobileNet-V1 (Howard et al. 2017, arXiv 1704.04861) as a feature network.

A convolution, then 13 depthwise separable blocks: 3x3 over each channel and 1x1 over all, each with batch norm and
ReLU. ``late_stride`` makes the map finer as in BAS (Wu et al. 2022): the sixth block keeps the map's size, the twelfth
halves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from wsol.backbones.base import Backbone, Stage, delay_stride, lower_strides
from wsol.errors import InputError

WIDTHS = (1, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)
"""Channels of the convolution and of the blocks, as multiples of the convolution's."""
SHRINKING = (0, 2, 4, 6, 12)
"""Numbers of the convolution (0) and of the blocks that halve the map."""


class MobileNetV1(Backbone):
    """MobileNet-V1 without its classifier. Parameters are named ``model.0.0``, ..., as in the code of BAS.

    Points: ``conv1``, then ``block1`` ... ``block13``.

    Args:
        width: channels of the first convolution; the last features have 32 times as many. The paper's is 32.
        output_stride: 8, 16 or 32; None leaves the network unchanged. Lower ones set the last strides to 1.
        late_stride: the sixth block keeps the size of its map, and the twelfth halves it, as in BAS (28x28 and 14x14
            at 224).
        weights: path, or None.
        preprocessing: entries that replace those of the network.

    Raises:
        InputError: an option out of its range, or weights that do not fit.

    Example:
        >>> MobileNetV1(width=8, late_stride=True).points["block11"]
        FeatureInfo(channels=128, stride=8)
    """

    min_size = 32
    dropped = ("fc.", "classifier.")

    def __init__(
        self,
        width: int = 32,
        output_stride: int | None = None,
        late_stride: bool = False,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width of MobileNet-V1: expected at least 1 channel, got {width}")
        chosen = lower_strides([2] * 5, output_stride, fixed=3, network="MobileNet-V1")
        if late_stride:
            chosen = delay_stride(chosen, output_stride is None, False, "MobileNet-V1")
        strides = dict(zip(SHRINKING, chosen, strict=True))
        self.model = nn.Sequential()
        steps: list[Stage] = []
        for number, multiple in enumerate(WIDTHS):
            channels, stride = width * multiple, strides.get(number, 1)
            before = steps[-1] if steps else Stage("", (), 3, 1)
            block = _conv(3, channels, stride) if number == 0 else _separable(before.channels, channels, stride)
            self.model.append(nn.Sequential(*block))
            name = f"block{number}" if number else "conv1"
            steps.append(Stage(name, (f"model.{number}",), channels, before.stride * stride))
        self.declare(steps, aliases=("block5", "block11", "block13"))
        self.load(weights, None, preprocessing)

    def initialise(self) -> None:
        """Initialise convolutions as He et al. 2015 (fan out; for depthwise ones, the number of the kernel's cells)."""
        super().initialise()
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                nn.init.normal_(module.weight, 0, (2 / module.weight[0].numel()) ** 0.5)


def _conv(before: int, channels: int, stride: int, kernel: int = 3, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _separable(before: int, channels: int, stride: int) -> list[nn.Module]:
    return [*_conv(before, before, stride, groups=before), *_conv(before, channels, 1, kernel=1)]
