"""AlexNet (Krizhevsky et al. 2012) as a feature network, in two versions that differ in every layer.

`AlexNet` has torchvision's layers (one column, 64-192-384-256-256 channels, padded first convolution, no response
normalisation), so torchvision's weights fit. Without the layers after conv5 it is the trunk of AlexNet-GAP.

`AlexNetStar` is the trunk of AlexNet*-GAP as released with CAM: Caffe's layers (96-256-384-384 channels, two groups,
local response normalisation), conv5 widened to 384, a pool of stride 1 and two further convolutions of 512 channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from wsol.backbones.base import Backbone, Stage, dense_pool, lower_strides
from wsol.types import Preprocessing


class AlexNet(Backbone):
    """torchvision's AlexNet up to conv5 (13x13 at 224), or to pool5.

    Points: ``conv1`` ... ``conv5`` (after ReLU), ``pool1``, ``pool2``, and ``pool5`` under output stride 32.

    Args:
        output_stride: 4, 8, 16 (as CAM 2016: nothing after conv5) or 32 (with pool5). Lower strides set pool2 and pool1
            to stride 1 (3x3, padding 1).
        weights: torchvision name, path, or None.
        preprocessing: entries that replace those of the weights.

    Raises:
        InputError: an impossible output stride, or weights that do not fit.

    Example:
        >>> AlexNet().points["last"]
        FeatureInfo(channels=256, stride=16)
    """

    min_size = 31
    pretrained = "DEFAULT"
    dropped = ("classifier.",)

    def __init__(
        self,
        output_stride: int | None = 16,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        first, second, third = lower_strides([4, 2, 2, 2], output_stride, fixed=1, network="AlexNet")[1:]
        pools = [_pool(first), _pool(second)]
        a, b = 4 * first, 4 * first * second
        self.features = nn.Sequential(
            *_conv(3, 64, 11, stride=4, padding=2),
            pools[0],
            *_conv(64, 192, 5, padding=2),
            pools[1],
            *_conv(192, 384, 3, padding=1),
            *_conv(384, 256, 3, padding=1),
            *_conv(256, 256, 3, padding=1),
        )
        widths = {"conv1": (64, 4), "pool1": (64, a), "conv2": (192, a), "pool2": (192, b)}
        widths |= {"conv3": (384, b), "conv4": (256, b), "conv5": (256, b)}
        if third == 2:
            self.features.append(_pool(third))
            widths["pool5"] = (256, b * third)
            self.min_size = 63
        self.declare(_steps(self.features, widths), aliases=("pool2", "conv4", "conv5"))
        self.load(weights, "alexnet", preprocessing)


class AlexNetStar(Backbone):
    """The trunk of AlexNet*-GAP (11x11 at 227).

    Points: ``conv1`` ... ``conv7`` (after ReLU), ``pool1``, ``pool2`` (after normalisation), ``pool5``.

    Args:
        groups: groups of conv2, conv4, conv5, conv6 and conv7: 2 as in Caffe's AlexNet, 1 for none.
        output_stride: 16 as published; 4 and 8 set pool2 and pool1 to stride 1 (3x3, padding 1).
        weights: path to a file of this network (torchvision has none), or None.
        preprocessing: entries that replace the default (ImageNet's mean, 227 pixels).

    Raises:
        InputError: an impossible output stride, or weights that do not fit.

    Example:
        >>> AlexNetStar().points["last"]
        FeatureInfo(channels=512, stride=16)
    """

    min_size = 67

    def __init__(
        self,
        groups: int = 2,
        output_stride: int | None = 16,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        first, second = lower_strides([4, 2, 2], output_stride, fixed=1, network="AlexNetStar")[1:]
        a, b = 4 * first, 4 * first * second
        self.features = nn.Sequential(
            *_conv(3, 96, 11, stride=4),
            nn.Sequential(_pool(first), nn.LocalResponseNorm(5)),
            *_conv(96, 256, 5, padding=2, groups=groups),
            nn.Sequential(_pool(second), nn.LocalResponseNorm(5)),
            *_conv(256, 384, 3, padding=1),
            *_conv(384, 384, 3, padding=1, groups=groups),
            *_conv(384, 384, 3, padding=1, groups=groups),
            nn.MaxPool2d(kernel_size=3, stride=1),
            *_conv(384, 512, 3, padding=1, groups=groups),
            *_conv(512, 512, 3, padding=1, groups=groups),
        )
        widths = {"conv1": (96, 4), "pool1": (96, a), "conv2": (256, a), "pool2": (256, b)}
        widths |= {"conv3": (384, b), "conv4": (384, b), "conv5": (384, b), "pool5": (384, b)}
        widths |= {"conv6": (512, b), "conv7": (512, b)}
        self.declare(_steps(self.features, widths), aliases=("pool2", "conv5", "conv7"))
        self.preprocessing = Preprocessing(size=227)
        self.load(weights, None, preprocessing)


def _conv(
    before: int, channels: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> list[nn.Module]:
    return [nn.Conv2d(before, channels, kernel, stride, padding, groups=groups), nn.ReLU(inplace=True)]


def _pool(stride: int) -> nn.Module:
    return nn.MaxPool2d(kernel_size=3, stride=2) if stride == 2 else dense_pool()


def _steps(features: nn.Sequential, widths: Mapping[str, tuple[int, int]]) -> list[Stage]:
    """Name the layers: a step ends at each ReLU and at each pool."""
    steps, paths = [], []
    names = iter(widths.items())
    for index, layer in enumerate(features):
        paths.append(f"features.{index}")
        if not isinstance(layer, nn.Conv2d):
            name, (channels, stride) = next(names)
            steps.append(Stage(name, tuple(paths), channels, stride))
            paths = []
    return steps
