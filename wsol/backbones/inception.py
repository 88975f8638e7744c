"""Inception-v3 (Szegedy et al. 2016) as a feature network, with torchvision's layers.

Surgery of SPG (Zhang et al. 2018) and of Choe et al. 2020: everything from the third group of Inception blocks
(Mixed_7) on is removed, and two convolutions of 1024 channels are added. In the code of both, the first convolution and
the pools are padded and Mixed_6a has stride 1, so that the cells are spread evenly over the image: 28x28 at 224. Choe
et al. put a pool of stride 2 before Mixed_6a: 14x14.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception3 as Torchvision
from torchvision.models.inception import InceptionB, InceptionD

from wsol.backbones.base import Stage, delay_stride, lower_strides
from wsol.backbones.rescaled import RescaledBackbone
from wsol.errors import InputError, unknown
from wsol.types import Preprocessing

CHANNELS = {
    "Conv2d_1a_3x3": 32, "Conv2d_2a_3x3": 32, "Conv2d_2b_3x3": 64, "maxpool1": 64,
    "Conv2d_3b_1x1": 80, "Conv2d_4a_3x3": 192, "maxpool2": 192,
    "Mixed_5b": 256, "Mixed_5c": 288, "Mixed_5d": 288, "maxpool3": 288,
    "Mixed_6a": 768, "Mixed_6b": 768, "Mixed_6c": 768, "Mixed_6d": 768, "Mixed_6e": 768,
    "Mixed_7a": 1280, "Mixed_7b": 2048, "Mixed_7c": 2048,
}  # fmt: skip
CUTS = {"Mixed_6e": ("Mixed_5d", "Mixed_6d"), "whole": ("Mixed_5d", "Mixed_6e")}
"""The possible cuts, each with the points ``early`` and ``mid``."""


class InceptionV3(RescaledBackbone):
    """Inception-v3 up to Mixed_6e or in full, without its classifiers.

    Points have torchvision's names, ``Conv2d_1a_3x3``, ``maxpool1``, ... ``Mixed_7c``; additional points are
    ``maxpool3`` (before Mixed_6a, if padded) and ``extra1``, ``extra2``, ... (after ReLU).

    Args:
        cut: ``Mixed_6e`` (768 channels) or ``whole`` (2048).
        padded: pad the first convolution and the pools, which torchvision does not (12x12 at 224); the stride of
            Mixed_6a then goes to a pool before it, as above.
        late_stride: Mixed_6a keeps the size of its map, and Mixed_7a halves it, as in BAS (28x28 and 14x14 at 224);
            needs ``cut: whole`` and padded layers.
        output_stride: 8, 16, and 32 if whole; None leaves the network unchanged. Lower ones set the last strides to 1.
        extra_convs: number of convolutions (3x3 with padding, ReLU) that follow; the papers have two. They have no
            pretrained weights.
        extra_channels: channels of each of them.
        extra_dropout: dropout probability before each of them (0.5 in SPG and in CAM of Choe et al.).
        weights: torchvision name, path, or None.
        transform_input: rescale the ImageNet-normalised input to mean 0.5 and deviation 0.5 per channel, as
            torchvision's weights, taken from TensorFlow, expect. None does this for those weights and for files of this
            backbone that were trained with it; Choe et al. do not. It is part of the state dict, as ``scale`` and
            ``shift``.
        preprocessing: entries that replace those of the weights (299 pixels).

    Raises:
        InputError: an unknown option, or weights that do not fit.

    Example:
        >>> InceptionV3(extra_convs=2).points["last"]
        FeatureInfo(channels=1024, stride=16)
    """

    pretrained = "DEFAULT"
    added = ("extra",)

    def __init__(
        self,
        cut: str = "Mixed_6e",
        padded: bool = True,
        late_stride: bool = False,
        output_stride: int | None = None,
        extra_convs: int = 0,
        extra_channels: int = 1024,
        extra_dropout: float = 0.0,
        weights: str | None = None,
        transform_input: bool | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if cut not in CUTS:
            raise unknown("cut of Inception-v3", cut, CUTS)
        if extra_convs < 0 or extra_channels < 1 or not 0 <= extra_dropout < 1:
            raise InputError(
                "extra layers of Inception-v3: expected extra_convs from 0, extra_channels from 1 and extra_dropout in "
                f"[0, 1), got {extra_convs}, {extra_channels} and {extra_dropout}"
            )
        self.min_size = 15 if padded else 75
        names = [name for name in CHANNELS if name != "maxpool3" or padded]
        end = len(names) if cut == "whole" else names.index(cut) + 1
        shrinking = ["Conv2d_1a_3x3", "maxpool1", "maxpool2", "maxpool3" if padded else "Mixed_6a", "Mixed_7a"]
        shrinking = [name for name in shrinking if name in names[:end]]
        strides = lower_strides([2] * len(shrinking), output_stride, fixed=3, network=f"Inception-v3 (cut: {cut})")
        if late_stride:
            if cut != "whole" or not padded:
                raise InputError("late_stride of Inception-v3 is the stride of Mixed_7a: set cut=whole and padded=true")
            strides = delay_stride(strides, output_stride is None, False, "Inception-v3")
        chosen = dict(zip(shrinking, strides, strict=True))
        layers = dict(Torchvision(aux_logits=False, init_weights=False).named_children())
        steps: list[Stage] = []
        for name in names[:end]:
            stride = chosen.get(name, 1)
            if name != "maxpool3" or stride == 2:
                self.add_module(name, _layer(name, layers, stride, padded))
                steps.append(Stage(name, (name,), CHANNELS[name], stride * (steps[-1].stride if steps else 1)))
        kept = cut if cut in CHANNELS else "Mixed_7c"
        for number in range(1, extra_convs + 1):
            name = f"extra{number}"
            self.add_module(name, _extra(steps[-1].channels, extra_channels, extra_dropout))
            steps.append(Stage(name, (name,), extra_channels, steps[-1].stride))
        self.declare(steps, aliases=(*CUTS[cut], kept) if not extra_convs else (CUTS[cut][0], kept, steps[-1].name))
        self.dropped = ("fc.", "AuxLogits.", *(f"{name}." for name in names[end:]))
        self.classifier_name = "fc" if cut == "whole" and not extra_convs else None
        self.optional = tuple(key for key in self.state_dict() if key.startswith("extra"))
        self.preprocessing = Preprocessing(size=299)
        self.load_rescaled(weights, "inception_v3", transform_input, preprocessing)


class _Reduced6(InceptionB):
    """Mixed_6a with a choice of stride and padding; torchvision's has 2 and 0."""

    def __init__(self, stride: int, padding: int) -> None:
        super().__init__(CHANNELS["Mixed_5d"])
        self.stride, self.padding = stride, padding
        for branch in (self.branch3x3, self.branch3x3dbl_3):
            _reshape(branch, stride, padding)

    def _forward(self, x: Tensor) -> list[Tensor]:
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [self.branch3x3(x), twice, F.max_pool2d(x, 3, self.stride, self.padding)]


class _Reduced7(InceptionD):
    """Mixed_7a with a choice of stride and padding; torchvision's has 2 and 0."""

    def __init__(self, stride: int, padding: int) -> None:
        super().__init__(CHANNELS["Mixed_6e"])
        self.stride, self.padding = stride, padding
        for branch in (self.branch3x3_2, self.branch7x7x3_4):
            _reshape(branch, stride, padding)

    def _forward(self, x: Tensor) -> list[Tensor]:
        once = self.branch3x3_2(self.branch3x3_1(x))
        wide = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return [once, wide, F.max_pool2d(x, 3, self.stride, self.padding)]


def _layer(name: str, layers: Mapping[str, nn.Module], stride: int, padded: bool) -> nn.Module:
    """Return torchvision's layer of this name, or its replacement if strides or paddings differ."""
    padding = 1 if padded or stride == 1 else 0
    if name == "maxpool3":  # 28x28 to 14x14 needs no padding
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)
    if name == "Mixed_6a":
        return _Reduced6(1 if padded else stride, padding)
    if name == "Mixed_7a":
        return _Reduced7(stride, padding)
    if padded and name.startswith("maxpool"):
        return nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
    if padded and name == "Conv2d_1a_3x3":
        _reshape(layers[name], stride, padding)
    return layers[name]


def _reshape(block: nn.Module, stride: int, padding: int) -> None:
    conv = block.get_submodule("conv")
    assert isinstance(conv, nn.Conv2d)
    conv.stride, conv.padding = (stride, stride), (padding, padding)


def _extra(before: int, channels: int, dropout: float) -> nn.Sequential:
    conv = nn.Conv2d(before, channels, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(nn.Dropout(dropout), conv, nn.ReLU(inplace=True))
