"""Localizers as ONNX files (https://onnx.ai), which onnxruntime runs without PyTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsol.errors import InputError, first_line
from wsol.extras import need
from wsol.files import errors_naming
from wsol.interop.export import INPUT, Answer, BoxAnswer, ExportGraph, answer, described, trace

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require() -> None:
    """Refuse where a package is missing; raises `wsol.extras.MissingExtra`."""
    need(*PACKAGES, what="format=onnx")


def write(graph: ExportGraph, file: Path, size: int, card: Mapping[str, Any], opset: int | None = None) -> None:
    """Write a graph for any number of images.

    Args:
        graph: graph to write.
        file: file to write.
        size: side of the input, pixels.
        card: description stored in the metadata, each entry as JSON.
        opset: ONNX opset; None for torch's choice.

    Raises:
        InputError: ONNX does not support a part of the network.
    """
    require()
    program = trace(graph, size)
    try:
        with _quiet():
            onnx = torch.onnx.export(
                program,
                (torch.zeros(2, 3, size, size),),
                dynamo=True,
                input_names=[INPUT],
                output_names=list(graph.outputs),
                opset_version=opset,
                verbose=False,
            )
            assert onnx is not None
            onnx.model.metadata_props.update(described(card))
            with errors_naming(file):
                onnx.save(str(file))
    except OSError:
        raise
    except Exception as error:  # torch.onnx documents no common base class
        raise InputError(
            f"torch.onnx cannot export this network: {first_line(error)}; try opset=18, or another format"
        ) from error


def runner(file: Path) -> Callable[[Tensor], Answer | BoxAnswer]:
    """Return a function that runs a written file with onnxruntime, on the CPU."""
    require()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Answer | BoxAnswer:
        return answer([torch.from_numpy(part) for part in session.run(None, {INPUT: images.numpy()})])

    return run


@contextmanager
def _quiet():
    """Suppress torch.onnx's messages about its own internals."""
    loud = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript"), logging.getLogger("onnx_ir")
    levels = [logger.level for logger in loud]
    try:
        for logger in loud:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)
