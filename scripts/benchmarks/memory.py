"""Bytes that evaluating takes for each image: all protocols and baselines, 1,000 classes, 50,000 images.

    python scripts/benchmarks/memory.py [--images 50000] [--evaluated 200]

What is fed are `wsol.engine.evaluation.SplitEvaluation` and its metrics, as in `wsol eval`, with made-up scores and
maps of 14 x 14. Looking for boxes takes time but leaves nothing behind, so after the first ``--evaluated`` images each
image's hits are drawn; the metrics take the same rows either way. Printed are the bytes of the metrics' states, what
Python and NumPy hold (tracemalloc), and the growth of the process: after the evaluated images, at the end, and at the
peak, which includes computing all errors.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from measuring import HEIGHT, WIDTH, Listed, machine, positive
from omegaconf import OmegaConf
from torchmetrics import Metric

from wsol.config.build import instantiate
from wsol.config.compose import config_root
from wsol.data.packed import Boxes
from wsol.data.transforms import ResizeSquare
from wsol.engine import chunk_evaluator
from wsol.engine.evaluation import SplitEvaluation
from wsol.protocols import LocalizationProtocol
from wsol.types import Batch


def drawn(
    protocols: Mapping[str, LocalizationProtocol], maps: Sequence[np.ndarray], *rest: Any
) -> dict[str, np.ndarray]:
    """Random results in the form of `wsol.box_evaluation.evaluate`, so that no time is spent on finding boxes."""
    rng = np.random.default_rng(0)
    return {
        name: rng.random((len(maps), len(protocol.iou_thresholds), protocol.num_columns)) < 0.5
        for name, protocol in protocols.items()
    }


def evaluation(images: int, classes: int, size: int) -> SplitEvaluation:
    """What `wsol eval` measures on a split of ILSVRC's size: both protocols, the baselines, top-1 and top-5."""
    labels = np.random.default_rng(0).integers(0, classes, images)
    boxes = Boxes.pack(np.tile([[50.0, 40.0, 400.0, 300.0]], (images, 1, 1)), inclusive=True)
    split = Listed("test", (f"ILSVRC2012_val_{i:08}" for i in range(images)), labels, boxes)
    nodes = (
        OmegaConf.load(file)
        for file in (config_root() / "protocol" / f"{name}.yaml" for name in ("cam2016", "choe2020"))
    )
    protocols = {node["name"]: instantiate(node, "protocol") for node in map(dict, nodes)}
    return SplitEvaluation(split, ResizeSquare(size).views, protocols, num_classes=classes, baselines=True)


def feed(measures: SplitEvaluation, start: int, end: int, batch_size: int, classes: int) -> None:
    """Give images from ``start`` up to ``end`` to the evaluation, with scores and maps of noise."""
    random = torch.Generator().manual_seed(start)
    for first in range(start, end, batch_size):
        positions = torch.arange(first, min(first + batch_size, end))
        count = len(positions)
        labels = torch.from_numpy(measures.split.labels[first : first + count])
        nothing = torch.empty(0, dtype=torch.int64)
        sizes = torch.tensor([[WIDTH, HEIGHT]]).expand(count, 2)
        scores = torch.randn(count, classes, generator=random)
        maps = torch.rand(count, 1, 14, 14, generator=random)
        measures.update(Batch(torch.empty(count, 0), labels, positions, sizes, nothing), scores, maps.numpy())
    measures.collect()


def state_bytes(measures: SplitEvaluation) -> int:
    """Bytes of all states of all metrics."""
    states = (
        state
        for metric in measures.modules()
        if isinstance(metric, Metric)
        for value in metric.metric_state.values()
        for state in (value if isinstance(value, list) else [value])
    )
    return sum(state.numel() * state.element_size() for state in states)


def process_bytes(field: str) -> int:
    """Memory of this process by Linux: ``VmRSS`` what it has now, ``VmHWM`` the most it ever had."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=positive, default=50_000)
    parser.add_argument("--evaluated", type=positive, default=200, help="of these images boxes are really looked for")
    parser.add_argument("--classes", type=positive, default=1000)
    parser.add_argument("--size", type=positive, default=224, help="side of the network's input")
    parser.add_argument("--batch-size", type=positive, default=100)
    options = parser.parse_args()
    evaluated, images = min(options.evaluated, options.images), options.images
    if evaluated == images:
        parser.error("--images must be more than --evaluated")
    measures = evaluation(images, options.classes, options.size)
    tracemalloc.start()
    feed(measures, 0, evaluated, options.batch_size, options.classes)
    held, resident, states = tracemalloc.get_traced_memory()[0], process_bytes("VmRSS"), state_bytes(measures)
    with mock.patch.object(chunk_evaluator, "evaluate", drawn):
        feed(measures, evaluated, images, options.batch_size, options.classes)
    grown = images - evaluated
    figures = {
        f"states, the first {evaluated:,} images, evaluated": states / evaluated,
        "states, the others": (state_bytes(measures) - states) / grown,
        "Python and NumPy hold": (tracemalloc.get_traced_memory()[0] - held) / grown,
        "the process grew by": (process_bytes("VmRSS") - resident) / grown,
    }
    tracemalloc.stop()
    measures.compute()
    figures["at its peak, computing included"] = (process_bytes("VmHWM") - resident) / grown
    print(machine("cpu"))
    names = " and ".join(measures.protocols)
    print(f"{images:,} images, {options.classes:,} classes, {names} with baselines; bytes for each image:")
    for name, value in figures.items():
        print(f"  {name:42}{value:9.1f}")
    print(f"  {'to compare: the scores alone, float32':42}{4 * options.classes:9.1f}")


if __name__ == "__main__":
    main()
