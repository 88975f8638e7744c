"""Images per second that one core decodes, resizes and crops: this package against torchvision's way over Pillow.

    python scripts/benchmarks/loading.py [--images data/CUB_200_2011/images]

Both sides make the same thing of the same files: the shorter side to 256, the 224 x 224 window at the centre. Loading
ends here with uint8 pixels, normalised in batches on the device, and with torchvision's usual transforms as normalised
float32; the other lines give both sides the same end. Runs alternate, medians are printed. Without ``--images``
photographs of CUB's size (500 x 375, about 100 kB) are made up.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from wsol.data.images import read_image
from wsol.data.transforms import ResizeCrop, resize

SIZE, SHORTER = 224, 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


Key = tuple[str, str]


def photographs(folder: Path, count: int = 24) -> list[Path]:
    """Write made-up photographs: noise with a natural spectrum, 500 x 375, quality 95."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        picture = np.zeros((375, 500, 3))
        for cells in (4, 16, 64, 256):
            coarse = rng.standard_normal((cells * 3 // 4, cells, 3)) * 90 / cells**0.35
            picture += cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
        out = io.BytesIO()
        Image.fromarray(np.clip(picture + 128, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=95)
        paths.append(folder / f"{i}.jpg")
        paths[-1].write_bytes(out.getvalue())
    return paths


def ours(normalise: bool) -> Callable[[Path], object]:
    """Decode by `read_image`, transform by `ResizeCrop`, copy as into a batch."""
    transform = ResizeCrop(SIZE, SHORTER)
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (MEAN, STD))

    def load(path: Path) -> object:
        pixels = torch.from_numpy(transform(read_image(path))).clone()
        return (pixels.to(torch.float32) - mean) / std if normalise else pixels

    return load


def torchvisions(normalise: bool) -> Callable[[Path], object]:
    """`torchvision.datasets.ImageFolder` with the usual transforms."""
    steps = [v2.Resize(SHORTER), v2.CenterCrop(SIZE), v2.PILToTensor()]
    if normalise:
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    transform = v2.Compose(steps)

    def load(path: Path) -> object:
        with open(path, "rb") as file:
            return transform(Image.open(file).convert("RGB"))

    return load


def rates(ways: dict[Key, Callable[[Path], object]], paths: list[Path], repeats: int) -> dict[Key, float]:
    """Images per second of each way, the median of alternating repeats; the first is not counted."""
    seconds: dict[Key, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, load in ways.items():
            start = time.perf_counter()
            for path in paths:
                load(path)
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: len(paths) / statistics.median(times) for name, times in seconds.items()}


def deviation(paths: list[Path]) -> tuple[float, float]:
    """Mean absolute difference between the two sides' resized pixels in grey levels: over all, and the worst one."""
    differences = []
    for path in paths:
        image = read_image(path)
        with Image.open(path) as file:
            other = np.array(file.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        differences.append(np.abs(resize(image, (SIZE, SIZE)).astype(int) - other).mean())
    return float(np.mean(differences)), float(np.max(differences))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEG photographs, searched to any depth")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--count", type=int, default=40, help="photographs to use")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(options.images.rglob("*.jpg")) if options.images else photographs(Path(folder))
        if not paths:
            parser.error(f"no .jpg files under {options.images}")
        paths = paths[:: max(1, len(paths) // options.count)][: options.count]
        ways = {
            (kind, name): make(kind == "float32")
            for kind in ("uint8", "float32")
            for name, make in (("wsol", ours), ("torchvision", torchvisions))
        }
        measured = rates(ways, paths, options.repeats)
        mean, worst = deviation(paths)
    print(f"{len(paths)} photographs, images per second on one core, median of {options.repeats}:")
    for what, mine, other in (
        ("each as it is used", "uint8", "float32"),
        ("both to uint8", "uint8", "uint8"),
        ("both to float32", "float32", "float32"),
    ):
        a, b = measured[mine, "wsol"], measured[other, "torchvision"]
        print(f"  {what:20} wsol {a:5.0f}   torchvision over Pillow {b:5.0f}   ratio {a / b:.2f}")
    print(f"pixels differ from Pillow's by {mean:.3f} grey levels on average, {worst:.3f} in the worst photograph")


if __name__ == "__main__":
    main()
