"""A localizer as one graph for other programs: from pixels to scores, top classes and their maps, or to boxes.

The written graph is compared with the network on random images, with other batch sizes than the traced one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from wsol.errors import InputError, first_line
from wsol.heads.base import NoMapsError
from wsol.types import Output, Preprocessing

INPUT = "images"
TOLERANCE = 1e-4
"""Maximum difference from the network: absolute, or relative to the maximum if that exceeds 1."""


class Answer(NamedTuple):
    """The outputs of the graph."""

    logits: Tensor
    """float32 (N, K) class scores before softmax; (N, 0) of a network that does not classify."""
    classes: Tensor
    """int64 (N, M) the M best classes, best first; 0 for the one map of a network that does not classify."""
    maps: Tensor
    """float32 (N, M, h, w) their maps, unscaled, over the whole input."""


class BoxAnswer(NamedTuple):
    """The outputs of the graph of a network that gives boxes."""

    logits: Tensor
    """float32 (N, K) class scores before softmax; (N, 0) of a network that does not classify."""
    boxes: Tensor
    """float32 (N, 4): x0, y0, x1, y1 in [0, 1] of the input."""


def answer(outputs: Sequence[Tensor]) -> Answer | BoxAnswer:
    """Return the outputs of a graph by name."""
    return BoxAnswer(*outputs) if len(outputs) == len(BoxAnswer._fields) else Answer(*outputs)


class ExportGraph(nn.Module):
    """The graph that is exported.

    Args:
        localizer: a `wsol.models.localizer.Localizer`; it is set to evaluation mode.
        top: number M of classes with maps; None of a network that gives boxes.
        normalise: whether images are RGB in [0, 1]; otherwise the caller subtracts the mean and divides by the
            deviation.

    Raises:
        InputError: top is zero or above the number of maps: one a class, or one if the network does not classify; or
            the network gives boxes and top is not None.

    Example:
        >>> from functools import partial
        >>> from wsol.backbones.tiny import Tiny
        >>> from wsol.heads.gap import GapHead
        >>> from wsol.models.localizer import Localizer
        >>> graph = ExportGraph(Localizer(Tiny(), partial(GapHead), num_classes=8), top=2)
        >>> [tuple(part.shape) for part in graph(torch.rand(3, 3, 32, 32))]
        [(3, 8), (3, 2), (3, 2, 8, 8)]
    """

    def __init__(self, localizer: Any, top: int | None, normalise: bool = True) -> None:
        super().__init__()
        most = num_maps(localizer)
        if localizer.gives_boxes:
            if top is not None:
                raise NoMapsError(f"top={top}")
        elif top is None or not 1 <= top <= most:
            what = "classes" if localizer.classifies else "maps of a network that does not classify"
            raise InputError(f"top: expected 1 to {most}, the number of {what}, got {top}")
        self.localizer, self.top = localizer.eval(), top
        given: Preprocessing = localizer.preprocessing if normalise else Preprocessing((0, 0, 0), (1, 1, 1))
        self.mean = nn.Buffer(torch.tensor(given.mean, dtype=torch.float32).view(3, 1, 1))
        self.std = nn.Buffer(torch.tensor(given.std, dtype=torch.float32).view(3, 1, 1))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return BoxAnswer._fields if self.localizer.gives_boxes else Answer._fields

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the fields of an `Answer` or a `BoxAnswer` for float32 images (N, 3, H, W)."""
        output: Output = self.localizer((images - self.mean) / self.std)
        logits = output.logits.float()
        if self.localizer.gives_boxes:
            return logits, self.localizer.boxes(output)
        classes = self.best(logits)
        return logits, classes, self.localizer.maps(output, classes)

    def best(self, logits: Tensor) -> Tensor:
        """Return the classes int64 (N, M) that get a map."""
        if self.localizer.classifies:
            assert self.top is not None
            return logits.topk(self.top).indices
        return torch.zeros_like(logits.sum(1, keepdim=True), dtype=torch.int64)


def num_maps(localizer: Any) -> int:
    """Return how many maps an image has: one a class, or one if the network does not classify."""
    return int(localizer.num_classes) if localizer.classifies else 1


def trace(graph: ExportGraph, size: int) -> ExportedProgram:
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
def compare(graph: ExportGraph, run: Callable[[Tensor], Answer | BoxAnswer], size: int) -> float:
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
        pairs = _pairs(graph, given, output) if isinstance(given, Answer) else _box_pairs(graph, given, output)
        found += [_difference(*pair) for pair in pairs]
    if wrong := [value for value in found if not value <= TOLERANCE]:
        raise InputError(
            f"the exported graph differs from the network by {wrong[0]:.2g}, more than {TOLERANCE}; check=false writes "
            "it nevertheless"
        )
    return max(found)


def _pairs(graph: ExportGraph, given: Answer, output: Output) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of what a graph gave and what it should have given, for the classes that it chose."""
    logits = output.logits.float()
    best, most = graph.best(logits), num_maps(graph.localizer)
    if given.classes.shape != best.shape or given.classes.min() < 0 or given.classes.max() >= most:
        raise InputError(f"the exported graph names impossible classes, shape {tuple(given.classes.shape)}")
    maps = (given.maps, graph.localizer.maps(output, given.classes))
    if not graph.localizer.classifies:
        return [maps]
    return [maps, (given.logits, logits), (logits.gather(1, given.classes), logits.gather(1, best))]


def _box_pairs(graph: ExportGraph, given: BoxAnswer, output: Output) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of what a graph gave and what it should have given."""
    boxes = (given.boxes, graph.localizer.boxes(output))
    return [boxes, (given.logits, output.logits.float())] if graph.localizer.classifies else [boxes]


def _difference(given: Tensor, wanted: Tensor) -> float:
    if given.shape != wanted.shape:
        return float("nan")
    return float((given - wanted).abs().max() / wanted.abs().max().clamp(min=1))
