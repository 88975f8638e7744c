"""ResNet (He et al. 2016) as a feature network, with torchvision's blocks and parameter names.

Output strides are lowered as in wsolevaluation: the last stages get stride 1 (output stride 16: layer4; 8: layer3 too).
With ``dilate`` their convolutions are also dilated, so every kernel keeps its receptive field (à trous: the features at
every second position equal those of the original network).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from wsol.backbones.base import Backbone, Stage, delay_stride, lower_strides
from wsol.errors import InputError, unknown

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STEMS = ("imagenet", "small")


class ResNet(Backbone):
    """ResNet-18, -34, -50, -101 or -152 without its classifier.

    Points: ``stem``, each block ``layer1.0``, ``layer1.1``, ..., and each stage ``layer1`` ... (its last block).

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem: ``imagenet`` (7x7 with stride 2, then a pool with stride 2) or ``small`` (3x3 with stride 1, no pool; for
            images of 32 to 64 pixels, output stride 1 to 8).
        width: channels of the first stage; each further stage doubles them. Pretrained weights have 64.
        output_stride: 4, 8, 16 or 32 (small stem: 1, 2, 4 or 8); None leaves the network unchanged.
        dilate: dilate the stages that lost their stride.
        late_stride: layer3 keeps the size of its map, and a 2x2 max-pool before layer4, which has no stride, halves it,
            as in BAS (28x28 and 14x14 at 224); needs the output stride of layer4 without stride.
        weights: torchvision name, path, or None.
        preprocessing: entries that replace those of the weights.

    Raises:
        InputError: an unknown option, or weights that do not fit.

    Example:
        >>> ResNet(depth=18, stem="small", width=16).points["layer4"]
        FeatureInfo(channels=128, stride=8)
    """

    pretrained = "DEFAULT"
    dropped = ("fc.",)
    classifier_name = "fc"

    def __init__(
        self,
        depth: int = 50,
        stem: str = "imagenet",
        width: int = 64,
        output_stride: int | None = None,
        dilate: bool = False,
        late_stride: bool = False,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise unknown("depth of ResNet", str(depth), map(str, DEPTHS))
        if stem not in STEMS:
            raise unknown("stem of ResNet", stem, STEMS)
        if width < 1:
            raise InputError(f"width of ResNet: expected at least 1 channel, got {width}")
        first = 4 if stem == "imagenet" else 1
        strides = lower_strides([first, 2, 2, 2], output_stride, fixed=1, network=f"ResNet (stem: {stem})")
        if late_stride:
            strides = delay_stride(strides, output_stride is None, dilate, "ResNet")
            self.late_pool = nn.MaxPool2d(2)
        block = BasicBlock if depth < 50 else Bottleneck
        steps = [self._stem(stem, width, first)]
        dilation = 1
        for number, (count, wanted) in enumerate(zip(DEPTHS[depth], [1, *strides[1:]], strict=True), start=1):
            before, planes = steps[-1], width * 2 ** (number - 1)
            pooled = late_stride and number == 4
            stage = _stage(block, before.channels, planes, count, 1 if pooled else wanted)
            if dilate:
                dilation = _dilate(stage, dilation, lost=2 if number > 1 and wanted == 1 else 1)
            self.add_module(f"layer{number}", stage)
            names = [f"layer{number}.{index}" for index in range(count)]
            steps += [Stage(name, (name,), planes * block.expansion, before.stride * wanted) for name in names]
            if pooled:
                steps[-count] = steps[-count]._replace(modules=("late_pool", names[0]))
        stages = {f"layer{number}": f"layer{number}.{count - 1}" for number, count in enumerate(DEPTHS[depth], start=1)}
        self.declare(steps, aliases=("layer2", "layer3", "layer4"), also=stages)
        self.load(weights, f"resnet{depth}" if (stem, width) == ("imagenet", 64) else None, preprocessing)

    def _stem(self, stem: str, width: int, stride: int) -> Stage:
        kernel, first = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = nn.Conv2d(3, width, kernel, stride=first, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        return Stage("stem", ("conv1", "bn1", "relu", "maxpool"), width, stride)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], before: int, planes: int, count: int, stride: int
) -> nn.Sequential:
    channels = planes * block.expansion
    shortcut = None
    if stride != 1 or before != channels:
        shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
    return nn.Sequential(block(before, planes, stride, shortcut), *(block(channels, planes) for _ in range(1, count)))


def _dilate(stage: nn.Sequential, dilation: int, lost: int) -> int:
    """Dilate the 3x3 convolutions of a stage that lost a stride; return the dilation after it.

    The convolution that had the stride runs on the finer grid before it, the following ones on the coarser grid.
    """
    convs = [module for module in stage.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]
    for number, conv in enumerate(convs):
        rate = dilation if number == 0 else dilation * lost
        conv.dilation = conv.padding = (rate, rate)
    return dilation * lost
