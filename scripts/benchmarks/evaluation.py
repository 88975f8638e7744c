"""Seconds of a whole evaluation, from JPEG files to MaxBoxAcc: this package against the way of the reference code.

    python scripts/benchmarks/evaluation.py [--backbone vgg16] [--count 16] [--device cuda] [--workers 4]

The reference is what clovaai/wsolevaluation does (Choe et al. 2020), written here afresh: a float32 pass over all
images for the classes and another for the maps, both without `torch.no_grad`, so that graphs for gradients are made;
each map is written to disk; then each of 1,000 thresholds is a `cv2.threshold`, a `cv2.findContours` and a box. This
package runs the network once, makes the map of the true class beside the scores, and finds the boxes at all thresholds
from one component tree: in float32, the default, and in the lower precision that `eval_precision=auto` chooses. As in
the command `wsol`, glibc keeps large freed blocks; the reference runs with glibc's defaults. Both load in the main
process, or in the same number of workers. Images are made up, weights random and the same for both.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from loading import photographs
from measuring import Clock, alternate, machine, positive, ratio
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from training import CLASSES, NETWORKS

from wsol.config.build import instantiate, resolve_layout, resolve_precision
from wsol.config.compose import config_root
from wsol.data.module import LocalizationData
from wsol.data.packed import Boxes
from wsol.data.source import FileSplit, Source, Split
from wsol.data.transforms import ResizeSquare
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.module import LocalizerModule
from wsol.models.localizer import Localizer
from wsol.process_memory import M_MMAP_MAX, M_TRIM_THRESHOLD, keep_large_blocks
from wsol.protocols import LocalizationProtocol
from wsol.types import Batch, Preprocessing

WIDTH, HEIGHT = 500, 375
REFERENCE = "reference"
M_MMAP_THRESHOLD = -3
"""Parameter of glibc's ``mallopt``, from ``malloc.h``."""


class FoundBoxes(NamedTuple):
    """What an evaluation says, percent, and where its time went."""

    top1_error: float
    max_box_acc: float
    clock: Clock


class Photographs(Source):
    """Made-up photographs as a test split, each with a class and one box; beyond 64 the same files come again."""

    def __init__(self, folder: Path, count: int) -> None:
        files = [path.name for path in photographs(folder, min(count, 64))]
        paths = [files[i % len(files)] for i in range(count)]
        rng = np.random.default_rng(1)
        near = rng.uniform(0, 0.4, (count, 2)) * (WIDTH, HEIGHT)
        far = rng.uniform(0.6, 1, (count, 2)) * (WIDTH, HEIGHT)
        boxes = Boxes.pack(np.hstack([near, far]).round()[:, None], inclusive=False)
        labels = rng.integers(0, CLASSES, count)
        self.classes, self.splits = tuple(f"class {k}" for k in range(CLASSES)), ("test",)
        self.test = FileSplit("test", [f"{i}/{path}" for i, path in enumerate(paths)], labels, folder, paths, boxes)

    def _split(self, name: str) -> Split:
        return self.test


def ours(
    source: Source, localizer: Localizer, size: int, batch_size: int, workers: int, device: str, precision: str
) -> Callable[[], FoundBoxes]:
    """The evaluation of this package, as `wsol eval eval_precision=...` runs it."""
    data = LocalizationData(source, None, ResizeSquare(size), eval_batch_size=batch_size, num_workers=workers)
    module = LocalizerModule(
        copy.deepcopy(localizer), channels_last=resolve_layout("auto", precision, device), eval_precision=precision
    )
    module.to(device).eval()
    protocol: LocalizationProtocol = instantiate(
        dict(OmegaConf.load(config_root() / "protocol" / "choe2020.yaml")), "protocol"
    )

    @torch.inference_mode()
    def run() -> FoundBoxes:
        keep_large_blocks()
        clock = Clock()
        measures = SplitEvaluation(source.split("test"), data.eval_transform.views, {"choe2020": protocol}, topk=(1,))
        for batch in clock.loading(data.eval_dataloader("test")):
            with clock.part("network"):
                on_device = Batch(*(None if part is None else part.to(device) for part in batch))
                logits, maps = module.maps(on_device.images, on_device.labels[:, None])
                scores = maps[:, :, 0].float().cpu().numpy()
            with clock.part("boxes"):
                measures.update(batch, logits.cpu(), scores)
        with clock.part("boxes"):
            found = measures.compute()
        return FoundBoxes(found.classification["top1_error"], found.curves["choe2020"][LOCALIZER].gt_known.max(), clock)

    return run


class Pillow(Dataset):
    """Images as torchvision's users load them."""

    def __init__(self, split: FileSplit, size: int, wanted: Preprocessing) -> None:
        self.split = split
        steps = [v2.Resize((size, size)), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
        self.transform = v2.Compose([*steps, v2.Normalize(wanted.mean, wanted.std)])

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        with Image.open(self.split.path(i)) as file:
            return self.transform(file.convert("RGB")), int(self.split.labels[i]), i


def reference(
    split: FileSplit, localizer: Localizer, size: int, batch_size: int, workers: int, device: str
) -> Callable[[], FoundBoxes]:
    """The evaluation of the reference code: two passes in float32, 1,000 thresholds one by one."""
    loader = DataLoader(Pillow(split, size, localizer.preprocessing), batch_size, num_workers=workers)
    network = copy.deepcopy(localizer).to(device).eval()
    truth = split.boxes.corners if split.boxes else np.zeros((0, 4))
    true_boxes = (truth * size / np.tile((WIDTH, HEIGHT), 2)).astype(int)
    thresholds = np.arange(0, 1, 0.001)

    def run() -> FoundBoxes:
        default_blocks()
        clock = Clock()
        wrong, right = 0, np.zeros(len(thresholds))
        for images, labels, _ in clock.loading(loader):
            with clock.part("network"):
                wrong += int((network(images.to(device)).logits.argmax(1).cpu() != labels).sum())
        for images, labels, positions in clock.loading(loader):
            with clock.part("network"):
                maps = network.maps(network(images.to(device)), labels[:, None].to(device))[:, 0].detach().cpu().numpy()
            with clock.part("boxes"), tempfile.TemporaryDirectory() as folder:
                for score_map, i in zip(maps, positions.tolist(), strict=True):
                    np.save(Path(folder) / f"{i}.npy", cv2.resize(score_map, (size, size)))
                    right += overlaps(boxes_of(score_map, size, thresholds), true_boxes[i]) >= 0.5
        return FoundBoxes(100.0 * wrong / len(split), 100.0 * right.max() / len(split), clock)

    return run


def default_blocks() -> None:
    """Undo `keep_large_blocks`: return what is free, and set the values that glibc's defaults reach in a long run."""
    if sys.platform == "linux" and keep_large_blocks():
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 65536)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)
        libc.malloc_trim(0)


def boxes_of(score_map: np.ndarray, size: int, thresholds: np.ndarray) -> np.ndarray:
    """The reference's box at every threshold: int (1000, 4) x0, y0, x1, y1 in the resized input."""
    resized = cv2.resize(score_map.astype(np.float64), (size, size), interpolation=cv2.INTER_CUBIC)
    levels = ((resized - resized.min()) / (resized.max() - resized.min()) * 255).astype(np.uint8)
    found = np.zeros((len(thresholds), 4), dtype=int)
    for row, threshold in zip(found, thresholds, strict=True):
        _, binary = cv2.threshold(levels, int(threshold * levels.max()), 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if contours:
            x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
            row[:] = x, y, min(x + width, size - 1), min(y + height, size - 1)
    return found


def overlaps(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of (B, 4) with one true box, both ends counted."""
    sides = np.minimum(boxes[:, 2:], truth[2:]) - np.maximum(boxes[:, :2], truth[:2]) + 1
    shared = sides.clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1) + (truth[2:] - truth[:2] + 1).prod()
    return shared / (areas - shared)


def report(found: dict[str, FoundBoxes], seconds: dict[str, list[float]], count: int) -> None:
    """Print the two ways, part by part, and the ratios."""
    parts = ("loading", "network", "boxes")
    print(
        f"milliseconds an image   {'whole':>9}" + "".join(f"{part:>9}" for part in parts) + "  top-1 error  MaxBoxAcc"
    )
    for name, result in found.items():
        cells = [statistics.median(seconds[name]), *(result.clock.seconds[part] for part in parts)]
        times = "".join(f"{1000 * value / count:9.1f}" for value in cells)
        print(f"{name:24}{times}{result.top1_error:13.2f}{result.max_box_acc:11.2f}")
    for name in [name for name in found if name != REFERENCE]:
        mine, theirs = (found[way].clock.seconds for way in (name, REFERENCE))
        by_part = ", ".join(f"{part} {theirs[part] / mine[part]:.2f}" for part in parts)
        print(f"ratio, {name}: {ratio(seconds[REFERENCE], seconds[name]):.2f} ({by_part})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=NETWORKS, default="vgg16")
    parser.add_argument("--count", type=positive, default=16, help="photographs to evaluate")
    parser.add_argument("--size", type=positive, default=224)
    parser.add_argument("--batch-size", type=positive, default=8)
    parser.add_argument("--workers", type=int, default=0, help="loading processes of each; 0: load in the main process")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = NETWORKS[options.backbone]
    localizer = Localizer(network.backbone(), network.head, CLASSES)
    found: dict[str, FoundBoxes] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Photographs(Path(folder), options.count)
        same = (localizer, options.size, options.batch_size, options.workers, options.device)
        precisions = dict.fromkeys(("32-true", resolve_precision("auto", options.device)))
        ways = {f"wsol {precision}": ours(source, *same, precision) for precision in precisions}
        ways[REFERENCE] = reference(source.test, *same)
        timed = {name: lambda name=name: found.update({name: ways[name]()}) for name in ways}
        seconds = alternate(timed, options.repeats, options.device)
    print(machine(options.device))
    print(f"{options.backbone} at {options.size}, {options.count} photographs, median of {options.repeats}, ", end="")
    print("parts of the last")
    report(found, seconds, options.count)


if __name__ == "__main__":
    main()
