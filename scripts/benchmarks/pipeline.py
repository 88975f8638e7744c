"""Where the time of a training and of a validation goes: loading, the network, finding boxes, and all of them together.

    python scripts/benchmarks/pipeline.py [--backbone resnet50] [--size 224] [--stored 500 375] [--device cuda]

Each part is measured alone, then together as a run does it, in images per second. The part whose rate is nearest to
the whole is the one that binds: a faster network gains nothing where loading binds. Photographs are made up, weights
are random. The last line works out what share of an epoch of 100,000 images a validation of 2,000 takes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from evaluation import Photographs
from measuring import machine, positive
from torch import Tensor
from training import CLASSES, NETWORKS, Untracked, autocast, made_up

from wsol.config.build import resolve_layout, resolve_precision
from wsol.data.module import Loader, LocalizationData
from wsol.data.transforms import RandomCrop, ResizeSquare
from wsol.engine.evaluation import SplitEvaluation
from wsol.models.localizer import Localizer
from wsol.protocols import protocol
from wsol.types import Batch

PROTOCOLS = ("choe2020", "choe2020-v2")
EPOCH, VALIDATION = 100_000, 2_000


class Pipeline:
    """The parts of a training and of a validation, each a function that works through some batches."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.device = torch.device(options.device)
        self.precision = resolve_precision(options.precision, options.device)
        self.source = Photographs(folder, options.count)
        for path in folder.glob("*.jpg"):
            cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), options.stored, interpolation=cv2.INTER_AREA))
        self.source.splits = ("train", "test")
        self.data = LocalizationData(
            self.source,
            RandomCrop(options.size, round(options.size * 8 / 7)),
            ResizeSquare(options.size),
            batch_size=options.batch_size,
            eval_batch_size=options.batch_size,
            num_workers=options.workers,
        )
        network = NETWORKS[options.backbone]
        torch.manual_seed(0)
        layout = resolve_layout("auto", self.precision, options.device, options.size)
        localizer = Localizer(network.backbone(), network.head, CLASSES)
        sgd = partial(torch.optim.SGD, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
        self.module = Untracked(
            localizer, optimizer=sgd, channels_last=layout, eval_precision=options.eval_precision
        ).to(self.device)
        self.optimizer = self.module.configure_optimizers()
        self.fixed = made_up(options.batch_size, options.size, options.device)
        self.loaders: dict[str, Loader] = {
            "train": self.data.train_dataloader(),
            "test": self.data.eval_dataloader("test"),
        }
        self.batches = len(self.loaders["test"])

    def load(self, split: str) -> int:
        """Read the images of a split."""
        return sum(len(batch.labels) for batch in self.loaders[split])

    def train(self, batches: Iterable[Batch]) -> int:
        """Train on batches."""
        self.module.train()
        images = 0
        for batch in batches:
            with autocast(self.precision, self.device.type):
                loss = self.module.training_step(self.data.transfer_batch_to_device(batch, self.device, 0), 0)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            images += len(batch.labels)
        return images

    @torch.inference_mode()
    def forward(self, batches: Iterable[Batch], evaluation: SplitEvaluation | None = None) -> int:
        """Scores and maps of batches, and the boxes where there is an evaluation."""
        self.module.eval()
        images = 0
        for batch in batches:
            on_device = self.data.transfer_batch_to_device(batch, self.device, 0)
            logits, maps = self.module.maps(on_device.images, on_device.labels[:, None])
            scores = maps[:, :, 0].float().cpu().numpy()
            if evaluation is not None:
                evaluation.update(batch, logits, scores)
            images += len(batch.labels)
        if evaluation is not None:
            evaluation.compute()
        return images

    def evaluation(self) -> SplitEvaluation:
        """A new evaluation of all images."""
        views = self.data.eval_transform.views
        return SplitEvaluation(self.source.test, views, {name: protocol(name) for name in PROTOCOLS}, topk=(1, 5))

    def find_boxes(self, kept: list[tuple[Batch, Tensor, np.ndarray]]) -> int:
        """Only what comes after the network, on maps made before."""
        evaluation = self.evaluation()
        for batch, logits, scores in kept:
            evaluation.update(batch, logits, scores)
        evaluation.compute()
        return sum(len(batch.labels) for batch, _, _ in kept)

    @torch.inference_mode()
    def kept(self) -> list[tuple[Batch, Tensor, np.ndarray]]:
        """The scores and maps of all test images."""
        self.module.eval()
        found = []
        for batch in self.loaders["test"]:
            on_device = self.data.transfer_batch_to_device(batch, self.device, 0)
            logits, maps = self.module.maps(on_device.images, on_device.labels[:, None])
            found.append((batch, logits.cpu(), maps[:, :, 0].float().cpu().numpy()))
        return found

    def parts(self) -> dict[str, dict[str, Callable[[], int]]]:
        """What is measured, for training and for validation; the last of each is the whole."""
        fixed = [self.fixed] * self.batches
        kept = self.kept()
        return {
            "training": {
                "loading": lambda: self.load("train"),
                "step": lambda: self.train(fixed),
                "together": lambda: self.train(self.loaders["train"]),
            },
            "validation": {
                "loading": lambda: self.load("test"),
                "network": lambda: self.forward(fixed),
                "boxes": lambda: self.find_boxes(kept),
                "together": lambda: self.forward(self.loaders["test"], self.evaluation()),
            },
        }


def rate(work: Callable[[], int], device: torch.device) -> float:
    """Images per second."""
    start = time.perf_counter()
    images = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=NETWORKS, default="resnet18w32")
    parser.add_argument("--count", type=positive, default=512, help="photographs, for training and validation alike")
    parser.add_argument("--size", type=positive, default=64, help="side of the network's input")
    parser.add_argument("--stored", type=positive, nargs=2, default=(64, 64), help="width and height of the files")
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--workers", default="auto", type=lambda text: text if text == "auto" else int(text))
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto", help="of training: auto, 32-true, bf16-mixed or 16-mixed")
    parser.add_argument("--eval-precision", default="32-true")
    options = parser.parse_args()
    options.stored = tuple(options.stored)
    print(machine(options.device))
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(options, Path(folder))
        print(f"{options.backbone} at {options.size}, {options.count} files of {options.stored}, images per second:")
        whole = {}
        for what, parts in pipeline.parts().items():
            rates: dict[str, list[float]] = {name: [] for name in parts}
            for turn in range(options.repeats + 1):
                for name, work in parts.items():
                    measured = rate(work, pipeline.device)
                    if turn:
                        rates[name].append(measured)
            middle = {name: statistics.median(values) for name, values in rates.items()}
            whole[what] = middle.pop("together")
            slowest = min(middle, key=lambda name: middle[name])
            cells = "  ".join(f"{name} {value:,.0f}" for name, value in middle.items())
            print(f"{what:10}  {cells}  together {whole[what]:,.0f}: {slowest} binds")
    share = (VALIDATION / whole["validation"]) / (EPOCH / whole["training"])
    print(
        f"validating {VALIDATION:,} images under {len(PROTOCOLS)} protocols takes {share:.1%} of an epoch of ", end=""
    )
    print(f"{EPOCH:,} images")


if __name__ == "__main__":
    main()
