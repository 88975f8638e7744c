"""GoogLeNet (Szegedy et al. 2015) as a feature network, with torchvision's layers.

Surgery of CAM (Zhou et al. 2016, section 3): everything after inception 4e is removed, which leaves a 14x14 map at 224.
torchvision's layers differ from the paper's: batch normalisation, and 3x3 kernels where the paper has 5x5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchvision.models import GoogLeNet as Torchvision

from wsol.backbones.base import Stage, dense_pool, lower_strides
from wsol.backbones.rescaled import RescaledBackbone
from wsol.errors import unknown

CHANNELS = {
    "conv1": 64, "maxpool1": 64, "conv2": 64, "conv3": 192, "maxpool2": 192,
    "inception3a": 256, "inception3b": 480, "maxpool3": 480,
    "inception4a": 512, "inception4b": 512, "inception4c": 512, "inception4d": 528, "inception4e": 832,
    "maxpool4": 832, "inception5a": 832, "inception5b": 1024,
}  # fmt: skip
CUTS = {"inception4e": "inception4e", "whole": "inception5b"}
SHRINKING = ("conv1", "maxpool1", "maxpool2", "maxpool3", "maxpool4")


class GoogLeNet(RescaledBackbone):
    """GoogLeNet up to inception 4e or in full, without its classifiers.

    Points have torchvision's names: ``conv1``, ``maxpool1``, ... ``inception5b``.

    Args:
        cut: ``inception4e`` (832 channels) or ``whole`` (1024).
        output_stride: 8, 16, and 32 if whole; None leaves the network unchanged. Lower strides set the last pools
            to stride 1 (3x3, padding 1).
        weights: torchvision name, path, or None.
        transform_input: rescale the ImageNet-normalised input to mean 0.5 and deviation 0.5 per channel, as the weights
            that torchvision took from TensorFlow expect. None does this for torchvision's own weights and for files of
            this backbone that were trained with it. It is part of the state dict, as ``scale`` and ``shift``.
        preprocessing: entries that replace those of the weights.

    Raises:
        InputError: an unknown option, or weights that do not fit.

    Example:
        >>> GoogLeNet(cut="whole", output_stride=16).points["last"]
        FeatureInfo(channels=1024, stride=16)
    """

    min_size = 15
    pretrained = "DEFAULT"

    def __init__(
        self,
        cut: str = "inception4e",
        output_stride: int | None = None,
        weights: str | None = None,
        transform_input: bool | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if cut not in CUTS:
            raise unknown("cut of GoogLeNet", cut, CUTS)
        names = list(CHANNELS)
        names, rest = names[: (end := names.index(CUTS[cut]) + 1)], names[end:]
        shrinking = [name for name in SHRINKING if name in names]
        strides = lower_strides([2] * len(shrinking), output_stride, fixed=3, network=f"GoogLeNet (cut: {cut})")
        chosen = dict(zip(shrinking, strides, strict=True))
        whole = Torchvision(aux_logits=False, init_weights=False)
        steps, stride = [], 1
        for name in names:
            lowered = chosen.get(name) == 1
            self.add_module(name, dense_pool() if lowered else getattr(whole, name))
            stride *= chosen.get(name, 1)
            steps.append(Stage(name, (name,), CHANNELS[name], stride))
        self.declare(steps, aliases=("inception3b", "inception4d", CUTS[cut]))
        self.dropped = ("fc.", "aux1.", "aux2.", *(f"{name}." for name in rest))
        self.classifier_name = None if rest else "fc"
        self.load_rescaled(weights, "googlenet", transform_input, preprocessing)
