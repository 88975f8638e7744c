"""Models of timm that are built for one image size, such as ViTs and Swins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from wsol.errors import InputError, first_line


class FixedSize:
    """The size that a timm model was built for, and other sizes that it is known to accept.

    Args:
        name: timm's name of the model, for messages.
        network: the model.
        options: arguments of the model; ``img_size`` replaces the size of its pretrained config.
        key: config key of the options, for messages.
    """

    def __init__(self, name: str, network: Any, options: Mapping[str, Any], key: str) -> None:
        self.name, self.key = name, key
        config = getattr(network, "pretrained_cfg", None) or {}
        self.fixed = bool(config.get("fixed_input_size"))
        """Whether the model's config says that it is built for one size; some such models accept others anyway."""
        size = options.get("img_size") or config.get("input_size", (3, 0, 0))[1:]
        height, width = (size, size) if isinstance(size, int) else size
        self.built = (int(width), int(height))
        """Width and height, pixels."""
        self._taken = {self.built}

    @torch.no_grad()
    def check(self, network: nn.Module, width: int, height: int) -> None:
        """Run the model on an empty image if its config does not tell whether it accepts this size.

        Raises:
            InputError: it does not accept it.
        """
        if not self.fixed or (width, height) in self._taken:
            return
        mode, parameter = network.training, next(network.parameters())
        try:
            network.eval()(torch.zeros(1, 3, height, width, device=parameter.device, dtype=parameter.dtype))
        except (AssertionError, RuntimeError) as error:
            raise InputError(
                f"timm's {self.name} was built for images of {_size(*self.built)} pixels, got {_size(width, height)} "
                f"({first_line(error)}): give image_size={self.built[0]}, or build it for this size with "
                f"{self.key}.img_size={width if width == height else [height, width]}"
            ) from error
        finally:
            network.train(mode)
        self._taken.add((width, height))


def _size(width: int, height: int) -> str:
    return f"{width}x{height}"
