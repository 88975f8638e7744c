"""The share of a DA-WSOL training step that its clustering takes: k-means of the cells of each image.

    python scripts/benchmarks/clustering.py [--backbones vgg16 resnet50] [--batch-size 32]

The clock runs inside the steps that `methods.py` measures, so that other work on the machine slows both alike. The
images are noise; how many iterations k-means needs on photographs may differ, and it is at most those of the config.
"""

from __future__ import annotations

import argparse
import statistics
from unittest.mock import patch

from measuring import Clock, machine, positive
from methods import training_step
from torch import Tensor
from training import made_up

from wsol.config import build
from wsol.config.compose import groups
from wsol.functional import clusters
from wsol.heads import dawsol
from wsol.types import Batch


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=groups()["backbone"], default=["vgg16", "resnet50"])
    parser.add_argument("--batch-size", type=positive, default=32)
    parser.add_argument("--size", type=positive, default=224, help="side of the square images")
    parser.add_argument("--repeats", type=positive, default=5)
    options = parser.parse_args()
    precision = build.resolve_precision("auto", "cpu")
    batch = made_up(options.batch_size, options.size, "cpu")
    print(machine("cpu"))
    print(f"{options.batch_size} images of {options.size}, {precision}; medians of {options.repeats}")
    for backbone in options.backbones:
        step, clustering = measured(backbone, batch, precision, options.repeats)
        share = 100 * statistics.median(part / whole for whole, part in zip(step, clustering, strict=True))
        ms = 1000 * statistics.median(step), 1000 * statistics.median(clustering)
        print(f"{backbone:12} step {ms[0]:8.1f} ms, clustering {ms[1]:7.1f} ms: {share:5.2f} % of a step", flush=True)


def measured(backbone: str, batch: Batch, precision: str, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each step, and of the clustering inside it; the first step is not counted."""
    step, clock = training_step("dawsol", backbone, batch, "cpu", precision), Clock()

    def timed(cells: Tensor, starts: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        with clock.part("clustering"):
            return clusters.k_means(cells, starts, iterations)

    whole, part = [], []
    with patch.object(dawsol, "k_means", timed):
        for _ in range(repeats + 1):
            clock.seconds.clear()
            with clock.part("step"):
                step()
            whole.append(clock.seconds["step"])
            part.append(clock.seconds["clustering"])
    return whole[1:], part[1:]


if __name__ == "__main__":
    main()
