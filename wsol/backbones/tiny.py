"""A small network for small images, such as the built-in dataset's 64x64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from wsol.backbones.base import Backbone, Stage, dense_pool, lower_strides
from wsol.errors import InputError
from wsol.types import Preprocessing


class Tiny(Backbone):
    """Four convolutions and two pools; each output cell sees 18x18 input pixels, at stride 4.

    Points: ``conv1`` (3x3), ``pool1``, ``conv2`` (3x3), ``pool2``, ``conv3`` (3x3), ``conv4`` (1x1); convolutions are
    followed by batch normalisation and ReLU.

    Args:
        widths: channels of the four convolutions.
        output_stride: 1, 2 or 4; lower strides set the last pools to stride 1 (3x3, padding 1).
        weights: path to a file of this network, or None.
        preprocessing: entries that replace the default (mean 0.5, deviation 0.25, 64 pixels).

    Raises:
        InputError: not four widths, an impossible output stride, or weights that do not fit.

    Example:
        >>> Tiny(widths=[8, 8, 8, 24]).points["last"]
        FeatureInfo(channels=24, stride=4)
    """

    min_size = 4

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 64),
        output_stride: int | None = None,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(widths) != 4 or min(widths) < 1:
            raise InputError(f"widths of Tiny: expected four positive numbers, got {list(widths)}")
        first, second = lower_strides([2, 2], output_stride, fixed=0, network="Tiny")
        inputs = [3, *widths[:3]]
        for number, (before, channels, kernel) in enumerate(zip(inputs, widths, (3, 3, 3, 1), strict=True), start=1):
            self.add_module(f"conv{number}", _conv(before, channels, kernel))
        self.pool1, self.pool2 = _pool(first), _pool(second)
        a, b = first, first * second
        sizes = {"conv1": (widths[0], 1), "pool1": (widths[0], a), "conv2": (widths[1], a), "pool2": (widths[1], b)}
        sizes |= {"conv3": (widths[2], b), "conv4": (widths[3], b)}
        self.declare([Stage(name, (name,), *size) for name, size in sizes.items()], aliases=("conv2", "conv3", "conv4"))
        self.preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, size=64)
        self.load(weights, None, preprocessing)


def _conv(before: int, channels: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(before, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _pool(stride: int) -> nn.Module:
    return nn.MaxPool2d(kernel_size=2, stride=2) if stride == 2 else dense_pool()
