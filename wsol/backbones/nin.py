"""Network in Network (Lin et al. 2014, https://arxiv.org/abs/1312.4400), the ImageNet model of Caffe's model zoo.

Section 3.2 of the paper introduced global average pooling: the last 1x1 convolution makes one score map per class, and
its mean is the class score. CAM 2016 uses these maps as class activation maps; its Tables 1 and 2 have a row for NIN
(``method=cam_1x1``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from wsol.backbones.base import Backbone, Stage, dense_pool, lower_strides


class NIN(Backbone):
    """NIN without its last layer (6x6 at 224): four convolutions, each followed by two 1x1 convolutions.

    Points: ``conv1``, ``cccp1``, ``cccp2``, ``pool1``, ``conv2``, ``cccp3``, ``cccp4``, ``pool2``, ``conv3``,
    ``cccp5``, ``cccp6``, ``pool3`` (after dropout), ``conv4``, ``cccp7``: Caffe's names, all after their ReLU. The head
    provides the classifier, Caffe's ``cccp8``.

    Args:
        output_stride: 4, 8, 16 or 32 (as published). Lower strides set the last pools to stride 1 (3x3, padding 1).
        dropout: dropout probability after pool3.
        weights: path to a state dict of this network, with ``classifier.weight`` and ``classifier.bias`` for
            ``pretrained_classifier`` (torchvision has none); or None.
        preprocessing: entries that replace the default (ImageNet's mean, 224 pixels).

    Raises:
        InputError: an impossible output stride, or weights that do not fit.

    Example:
        >>> NIN().points["last"]
        FeatureInfo(channels=1024, stride=32)
    """

    min_size = 39
    dropped = ("classifier.",)
    classifier_name = "classifier"
    rectified = True

    def __init__(
        self,
        output_stride: int | None = 32,
        dropout: float = 0.5,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        first, second, third = lower_strides([4, 2, 2, 2], output_stride, fixed=1, network="NIN")[1:]
        a, b = 4 * first, 4 * first * second
        self.features = nn.Sequential()
        self._made: list[Stage] = []
        self._block(("conv1", "cccp1", "cccp2"), nn.Conv2d(3, 96, 11, stride=4), 4)
        self._add("pool1", _pool(first), 96, a)
        self._block(("conv2", "cccp3", "cccp4"), nn.Conv2d(96, 256, 5, padding=2), a)
        self._add("pool2", _pool(second), 256, b)
        self._block(("conv3", "cccp5", "cccp6"), nn.Conv2d(256, 384, 3, padding=1), b)
        self._add("pool3", nn.Sequential(_pool(third), nn.Dropout(dropout)), 384, b * third)
        self._block(("conv4", "cccp7"), nn.Conv2d(384, 1024, 3, padding=1), b * third)
        self.declare(self._made, aliases=("cccp4", "cccp6", "cccp7"))
        self.load(weights, None, preprocessing)

    def _block(self, names: tuple[str, ...], conv: nn.Conv2d, stride: int) -> None:
        """Add a convolution and the 1x1 convolutions after it, each with ReLU."""
        channels = conv.out_channels
        for layer in (conv, *(nn.Conv2d(channels, channels, 1) for _ in names[1:])):
            self._add(names[0], nn.Sequential(layer, nn.ReLU(inplace=True)), channels, stride)
            names = names[1:]

    def _add(self, name: str, module: nn.Module, channels: int, stride: int) -> None:
        self.features.add_module(name, module)
        self._made.append(Stage(name, (f"features.{name}",), channels, stride))


def _pool(stride: int) -> nn.Module:
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True) if stride == 2 else dense_pool()
