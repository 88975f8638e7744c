"""A convolutional classifier that the heads of several methods share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsol.errors import InputError


class Branch(nn.Module):
    """Convolutions with ReLU, then a 1x1 convolution to one map per class, whose mean is the score of that class.

    The mean of a 1x1 convolution's map is a linear function of the mean features. So scores need no maps, and only the
    maps of requested classes are computed (Zhang et al. 2018, ACoL, section 3.1). Weights are initialised as in the
    released code of ACoL and SPG: Glorot and Bengio 2010, uniform, with biases of 0.

    Args:
        channels: channels of the features.
        num_classes: number of classes K.
        width: channels of the convolutions.
        kernel: side of the convolutions, odd; padding keeps the map's size.
        depth: number of convolutions; 0 leaves only the 1x1 convolution.
        dropout: dropout probability before each convolution, including the 1x1 one.

    Raises:
        InputError: an option out of its range.

    Example:
        >>> branch = Branch(channels=16, num_classes=5, width=8)
        >>> hidden = branch(torch.randn(2, 16, 6, 6))
        >>> class_maps = branch.class_maps(hidden, torch.tensor([[0, 4], [1, 1]]))
        >>> tuple(hidden.shape), tuple(branch.scores(hidden).shape), tuple(class_maps.shape)
        ((2, 8, 6, 6), (2, 5), (2, 2, 6, 6))
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        width: int = 1024,
        kernel: int = 3,
        depth: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 0:
            raise InputError(f"depth: expected a number of convolutions, 0 or more, got {depth}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout: expected a probability in [0, 1), got {dropout}")
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Dropout(dropout), *convolution(channels, width, kernel)]
            channels = width
        self.channels = channels
        """Number of channels after the convolutions."""
        self.trunk = nn.Sequential(*layers, nn.Dropout(dropout))
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features that the 1x1 convolution reads, (N, D, h, w), of features (N, C, h, w)."""
        found: Tensor = self.trunk(x)
        return found

    def scores(self, hidden: Tensor) -> Tensor:
        """Return the scores float32 (N, K) for features from `forward`, also under autocast."""
        with torch.autocast(hidden.device.type, enabled=False):
            found: Tensor = self.classifier(hidden.float().mean((2, 3)))
            return found

    def class_maps(self, hidden: Tensor, classes: Tensor) -> Tensor:
        """Return the maps float32 (N, M, h, w) of classes int64 (N, M), without bias, for features from `forward`."""
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.einsum("nchw,nmc->nmhw", hidden.float(), self.classifier.weight[classes])


def convolution(before: int, width: int, kernel: int) -> list[nn.Module]:
    """Return a convolution that keeps the map's size, and its ReLU.

    Raises:
        InputError: a width below 1, or a kernel that is not odd.
    """
    if width < 1 or kernel < 1 or kernel % 2 == 0:
        raise InputError(f"width, kernel: expected positive and odd, got {width} and {kernel}")
    return [nn.Conv2d(before, width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]


def initialise(module: nn.Module) -> None:
    """Initialise all convolutions and linear layers as Glorot and Bengio 2010 (uniform), their biases with 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
