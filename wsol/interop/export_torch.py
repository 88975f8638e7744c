"""Localizers as files of torch.export (.pt2): a graph that torch runs and compiles without this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsol.interop.export import Answer, BoxAnswer, ExportGraph, answer, described, trace


def write(graph: ExportGraph, file: Path, size: int, card: Mapping[str, Any]) -> None:
    """Write a graph for any number of images; ``card`` becomes extra files, see `torch.export.load`.

    Raises:
        InputError: torch.export cannot follow the network.
    """
    torch.export.save(trace(graph, size), file, extra_files=described(card))


def runner(file: Path) -> Callable[[Tensor], Answer | BoxAnswer]:
    """Return a function that runs a written file."""
    module = torch.export.load(file).module()
    return lambda images: answer(module(images))
