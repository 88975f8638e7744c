"""Backbones with weights that torchvision took from TensorFlow, which expect another normalisation than ImageNet's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wsol.backbones.base import Backbone
from wsol.types import Preprocessing


class RescaledBackbone(Backbone):
    """A backbone that can rescale its ImageNet-normalised input to mean 0.5 and deviation 0.5 per channel.

    The factors are part of its state dict, as ``scale`` and ``shift``, so a checkpoint records how it was trained.
    """

    scale: Tensor
    shift: Tensor

    def load_rescaled(
        self,
        weights: str | None,
        name: str,
        transform_input: bool | None,
        preprocessing: Mapping[str, Any] | None,
    ) -> None:
        """Load weights and set the rescaling.

        Args:
            weights: see `Backbone.load`.
            name: see `Backbone.load`.
            transform_input: whether to rescale; None does so for torchvision's own weights and for files of this
                backbone that were trained with it.
            preprocessing: see `Backbone.load`.
        """
        self.optional = (*self.optional, "scale", "shift")
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        official = self.load(weights, name, preprocessing)
        if transform_input or (transform_input is None and official):
            imagenet = Preprocessing()
            self.scale.copy_(torch.tensor(imagenet.std).view(1, 3, 1, 1) / 0.5)
            self.shift.copy_((torch.tensor(imagenet.mean).view(1, 3, 1, 1) - 0.5) / 0.5)
        elif transform_input is False:
            self.scale.fill_(1)
            self.shift.zero_()

    def prepare(self, images: Tensor) -> Tensor:
        """Rescale images (N, 3, H, W), or return them unchanged."""
        return images * self.scale + self.shift
