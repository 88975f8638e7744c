"""A localizer as one graph for other programs: from pixels to scores, top classes and their maps.

The written graph is compared with the network on random images, with other batch sizes than the traced one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from wsol.errors import InputError, first_line
from wsol.types import Output, Preprocessing

INPUT = "images"
OUTPUTS = ("logits", "classes", "maps")
TOLERANCE = 1e-4
"""Maximum difference from the network: absolute, or relative to the maximum if that exceeds 1."""


class Answer(NamedTuple):
    """The outputs of the graph."""

    logits: Tensor
    """float32 (N, K) class scores before softmax."""
    classes: Tensor
    """int64 (N, M) the M best classes, best first."""
    maps: Tensor
    """float32 (N, M, h, w) their maps, unscaled, over the whole input."""


class Portable(nn.Module):
    """The graph that is exported.

    Args:
        localizer: a `wsol.models.localizer.Localizer`; it is set to evaluation mode.
        top: number M of classes with maps.
        normalise: whether images are RGB in [0, 1]; otherwise the caller subtracts the mean and divides by the
            deviation.

    Raises:
        InputError: top is zero or above the number of classes.

    Example:
        >>> from functools import partial
        >>> from wsol.backbones.tiny import Tiny
        >>> from wsol.heads.gap import GapHead
        >>> from wsol.models.localizer import Localizer
        >>> graph = Portable(Localizer(Tiny(), partial(GapHead), num_classes=8), top=2)
        >>> [tuple(part.shape) for part in graph(torch.rand(3, 3, 32, 32))]
        [(3, 8), (3, 2), (3, 2, 8, 8)]
    """

    def __init__(self, localizer: Any, top: int, normalise: bool = True) -> None:
        super().__init__()
        if not 1 <= top <= localizer.num_classes:
            raise InputError(f"top: expected 1 to {localizer.num_classes}, the number of classes, got {top}")
        self.localizer, self.top = localizer.eval(), top
        given: Preprocessing = localizer.preprocessing if normalise else Preprocessing((0, 0, 0), (1, 1, 1))
        self.mean = nn.Buffer(torch.tensor(given.mean, dtype=torch.float32).view(3, 1, 1))
        self.std = nn.Buffer(torch.tensor(given.std, dtype=torch.float32).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the fields of an `Answer` for float32 images (N, 3, H, W)."""
        output: Output = self.localizer((images - self.mean) / self.std)
        logits = output.logits.float()
        classes = logits.topk(self.top).indices
        return logits, classes, self.localizer.maps(output, classes)


def trace(graph: Portable, size: int) -> ExportedProgram:
    """Return the program of a graph for any number of images of ``size`` x ``size`` pixels.

    Raises:
        InputError: torch.export cannot follow the network.
    """
    try:
        with torch.no_grad():
            return torch.export.export(
                graph, (torch.zeros(2, 3, size, size),), dynamic_shapes={INPUT: {0: Dim("batch")}}, strict=False
            )
    except InputError:
        raise
    except Exception as error:  # torch.export documents no common base class
        raise InputError(
            f"torch.export cannot follow {type(graph.localizer.backbone).__name__} with "
            f"{type(graph.localizer.head).__name__}: {first_line(error)}; format=safetensors saves it unchanged"
        ) from error


def described(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the description of a file as strings: each value as JSON."""
    return {key: json.dumps(value) for key, value in card.items()}


@torch.no_grad()
def compare(graph: Portable, run: Callable[[Tensor], Answer], size: int) -> float:
    """Compare a written graph with its original on random images, in batches of one and three.

    Args:
        graph: the original graph.
        run: runs the written graph.
        size: side of its input, pixels.

    Returns:
        The maximum difference, see `TOLERANCE`.

    Raises:
        InputError: it exceeds `TOLERANCE`, or shapes or classes differ.
    """
    draw = torch.Generator().manual_seed(0)
    found = []
    for count in (1, 3):
        images = torch.rand(count, 3, size, size, generator=draw)
        given = run(images)
        output: Output = graph.localizer((images - graph.mean) / graph.std)
        logits = output.logits.float()
        best = logits.topk(graph.top).values
        if given.classes.shape != best.shape or given.classes.min() < 0 or given.classes.max() >= logits.shape[1]:
            raise InputError(f"the exported graph names impossible classes, shape {tuple(given.classes.shape)}")
        maps = graph.localizer.maps(output, given.classes)
        pairs = [(given.logits, logits), (logits.gather(1, given.classes), best), (given.maps, maps)]
        found += [_difference(*pair) for pair in pairs]
    if wrong := [value for value in found if not value <= TOLERANCE]:
        raise InputError(
            f"the exported graph differs from the network by {wrong[0]:.2g}, more than {TOLERANCE}; check=false writes "
            "it nevertheless"
        )
    return max(found)


def _difference(given: Tensor, wanted: Tensor) -> float:
    if given.shape != wanted.shape:
        return float("nan")
    return float((given - wanted).abs().max() / wanted.abs().max().clamp(min=1))
