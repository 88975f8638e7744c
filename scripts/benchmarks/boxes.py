"""Microseconds from a score map to its overlap with the truth at 1,000 thresholds: this package against a loop.

    python scripts/benchmarks/boxes.py [--count 20] [--repeats 3] [--families cam7 cam14]

The reference is what clovaai/wsolevaluation does (Choe et al. 2020), written here afresh: for each threshold
`cv2.threshold`, `cv2.findContours` and the box of the largest contour (MaxBoxAcc, V1) or of all of them (MaxBoxAccV2,
V2); then the overlaps, both ends counted, and the best of each threshold. Both ways are given the same float64 maps in
[0, 1], in one process and taking turns, and must agree at every threshold. Each family is a pool of different maps: one
map over and over would train the processor's branch prediction.

Also: the slowest of some hard maps, histograms for PxAP, and two threads against one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from measuring import alternate, machine, positive, ratio

from wsol.functional.boxes import box_spans, cuts_of, fine_levels, half_open
from wsol.functional.iou import best_iou
from wsol.functional.maps import normalize
from wsol.functional.pixels import score_edges, score_histograms

SIZE = 224
THRESHOLDS = np.arange(0, 1, 0.001)
KINDS = {"V1": "largest_contour", "V2": "all_contours"}
PASSES = 5
"""Times that this package goes through a pool in a turn; a turn of the reference is long enough."""


def ours(score_map: np.ndarray, truth: np.ndarray, components: str) -> np.ndarray:
    """The best overlap at each threshold, float64 (1000,), by this package's functions."""
    levels = fine_levels(score_map)
    cuts, position = cuts_of(levels, THRESHOLDS)
    spans = box_spans(levels, cuts, components)
    corners = half_open(spans.boxes)
    np.minimum(corners, SIZE - 1, out=corners)  # x0 and y0 are smaller anyway
    return spans.best(best_iou(corners, truth, plus_one=True), len(cuts))[position]


def reference(score_map: np.ndarray, truth: np.ndarray, components: str) -> np.ndarray:
    """The same, threshold by threshold."""
    if np.isnan(score_map).any() or (score_map > 1).any() or (score_map < 0).any():
        raise ValueError("the map must lie in [0, 1]")
    height, width = score_map.shape
    levels = (score_map * 255).astype(np.uint8)
    boxes, counts = [], []
    for threshold in THRESHOLDS:
        _, binary = cv2.threshold(levels, int(threshold * np.max(levels)), 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if contours and components == "largest_contour":
            contours = [max(contours, key=cv2.contourArea)]
        found = []
        for x, y, w, h in map(cv2.boundingRect, contours):
            found.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
        boxes.append(np.asarray(found or [(0, 0, 0, 0)]))
        counts.append(len(boxes[-1]))
    overlap = overlaps(np.concatenate(boxes), truth)
    ends = np.cumsum(counts)
    return np.array([max(overlap.max(1)[end - count : end]) for count, end in zip(counts, ends, strict=True)])


def overlaps(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of every box with every true one, both ends counted: float64 (B, M)."""
    low, high = np.maximum(boxes[:, None, :2], truth[None, :, :2]), np.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    shared = (high - low + 1).clip(0).prod(2)
    areas = [(corners[:, 2:] - corners[:, :2] + 1).prod(1) for corners in (boxes, truth)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def enlarged(cells: np.ndarray) -> np.ndarray:
    """A map of cells as a score map."""
    return normalize(cv2.resize(cells, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC))


def cam(rng: np.random.Generator, cells: int) -> np.ndarray:
    """One to three oblong bumps and a little noise, float64 (cells, cells): what class activation maps look like."""
    y, x = np.mgrid[:cells, :cells] / cells
    out = 0.04 * rng.standard_normal((cells, cells))
    for _ in range(rng.integers(1, 4)):
        (cy, cx), (sy, sx), turn = rng.uniform(0.2, 0.8, 2), rng.uniform(0.08, 0.3, 2), rng.uniform(0, np.pi)
        along = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        across = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        out += rng.uniform(0.3, 1) * np.exp(-((along / sx) ** 2 + (across / sy) ** 2) / 2)
    return out


def blurred(noise: np.ndarray, sigma: float) -> np.ndarray:
    """Smoothed by a Gaussian."""
    return cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def rough(rng: np.random.Generator) -> np.ndarray:
    """Cells of 28 x 28 that a network may give: a rectified bump with texture."""
    return np.maximum(blurred(rng.standard_normal((28, 28)), 1) + 0.7 * cv2.resize(cam(rng, 28), (28, 28)), 0)


def guided(rng: np.random.Generator) -> np.ndarray:
    """Noise along edges within a bump, the largest of three channels: what guided backpropagation looks like."""
    picture = blurred(rng.standard_normal((SIZE, SIZE)), 6)
    edges = np.hypot(cv2.Sobel(picture, -1, 1, 0), cv2.Sobel(picture, -1, 0, 1))
    noise = np.stack([blurred(rng.laplace(size=(SIZE, SIZE)), 0.6) for _ in range(3)])
    return normalize(np.abs(noise * (edges / edges.max()) ** 1.5 * (0.2 + enlarged(cam(rng, 14)))).max(0))


def checkerboard(rng: np.random.Generator) -> np.ndarray:
    """Bright fields one pixel wide, of many levels."""
    y, x = np.mgrid[:SIZE, :SIZE]
    return normalize((y + x) % 2 * rng.uniform(0.5, 1, (SIZE, SIZE)))


FAMILIES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "gaussian": lambda rng: enlarged(blurred(rng.standard_normal((14, 14)), 1.5)),
    "cam7": lambda rng: enlarged(cam(rng, 7)),
    "cam14": lambda rng: enlarged(cam(rng, 14)),
    "cam28": lambda rng: enlarged(rough(rng)),
    "guided": guided,
}
HARD: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "guided": guided,
    "white noise": lambda rng: normalize(rng.random((SIZE, SIZE))),
    "few levels": lambda rng: normalize(np.floor(6 * enlarged(blurred(rng.standard_normal((14, 14)), 1.5)))),
    "nearest cells": lambda rng: normalize(np.kron(rng.random((14, 14)), np.ones((SIZE // 14, SIZE // 14)))),
    "dots": lambda rng: normalize((rng.random((SIZE, SIZE)) > 0.97) * rng.random((SIZE, SIZE))),
    "checkerboard": checkerboard,
    "binary noise": lambda rng: (rng.random((SIZE, SIZE)) > 0.5).astype(np.float64),
    "constant": lambda rng: np.full((SIZE, SIZE), rng.uniform(0.1, 1)),
}


def pool(make: Callable[[np.random.Generator], np.ndarray], count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Different maps, each with a true box int64 (1, 4)."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, SIZE, (count, 2, 2)), axis=1).reshape(count, 1, 4)
    return [(make(rng), box) for box in corners]


def ratios(name: str, count: int, repeats: int) -> None:
    """Print how a family goes."""
    maps = pool(FAMILIES[name], count)
    cells = []
    for kind, components in KINDS.items():
        for score_map, truth in maps:
            if ours(score_map, truth, components).tolist() != reference(score_map, truth, components).tolist():
                raise SystemExit(f"{name}, {kind}: the two ways differ")
        ways = {
            "ours": lambda components=components: [ours(*pair, components) for _ in range(PASSES) for pair in maps],
            "reference": lambda components=components: [reference(*pair, components) for pair in maps],
        }
        seconds = alternate(ways, repeats, "cpu")
        mine, theirs = [value / PASSES for value in seconds["ours"]], seconds["reference"]
        cells.append(
            f"{1e3 * statistics.median(theirs) / count:9.1f} ms {1e6 * statistics.median(mine) / count:7.0f} us"
            f"{ratio(theirs, mine):7.0f} x"
        )
    print(f"{name:14}" + "".join(cells), flush=True)


def slowest(count: int) -> None:
    """Print the longest time that a hard map takes."""
    print("slowest map, ms".ljust(20) + "".join(f"{kind:>8}" for kind in KINDS))
    for name, make in HARD.items():
        cells = []
        for components in KINDS.values():
            times, pairs = [], pool(make, count)
            ours(*pairs[0], components)
            for pair in pairs:
                start = time.perf_counter()
                ours(*pair, components)
                times.append(1e3 * (time.perf_counter() - start))
            cells.append(f"{max(times):8.1f}")
        print(f"  {name:18}" + "".join(cells), flush=True)


def histograms(count: int, repeats: int) -> None:
    """Print how PxAP's histograms go."""
    rng = np.random.default_rng(0)
    pairs = [(enlarged(cam(rng, 14)), rng.choice([0, 1, 255], (SIZE, SIZE)).astype(np.uint8)) for _ in range(count)]
    edges = np.append(score_edges(), [2.0, 3.0])

    def mine() -> list[np.ndarray]:
        return [score_histograms(*pair) for pair in pairs]

    def loop() -> list[list[np.ndarray]]:
        return [[np.histogram(scores[mask == value], bins=edges)[0] for value in (0, 1)] for scores, mask in pairs]

    if any((own != np.stack(other)[:, :-1]).any() for own, other in zip(mine(), loop(), strict=True)):
        raise SystemExit("PxAP: the two ways differ")
    seconds = alternate({"ours": mine, "reference": loop}, repeats, "cpu")
    theirs, own = (1e6 * statistics.median(seconds[way]) / count for way in ("reference", "ours"))
    print(f"PxAP: {theirs:.0f} us, {own:.0f} us, {ratio(seconds['reference'], seconds['ours']):.1f} x")


def threads(count: int, repeats: int) -> None:
    """Print what a second thread gives."""
    pairs = pool(FAMILIES["cam14"], count) * 10

    def work(part: list[tuple[np.ndarray, np.ndarray]]) -> None:
        for pair in part:
            ours(*pair, "all_contours")

    with ThreadPoolExecutor(2) as executor:
        ways = {"one": lambda: work(pairs), "two": lambda: list(executor.map(work, [pairs[::2], pairs[1::2]]))}
        seconds = alternate(ways, repeats, "cpu")
    print(f"two threads: {ratio(seconds['one'], seconds['two']):.2f} x")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=positive, default=20, help="different maps in a pool")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--families", nargs="*", choices=FAMILIES, default=list(FAMILIES))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(machine("cpu"))
    print(f"{options.count} maps of {SIZE} x {SIZE} a family; reference, wsol, ratio")
    print(" " * 14 + "".join(f"{kind:>31}" for kind in KINDS))
    for name in options.families:
        ratios(name, options.count, options.repeats)
    slowest(options.count)
    histograms(options.count, options.repeats)
    threads(options.count, options.repeats)


if __name__ == "__main__":
    main()
