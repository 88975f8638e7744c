"""How fast maps are evaluated: this package, an older checkout of it, and the per-threshold loop over OpenCV.

    python scripts/benchmarks/box_evaluation.py [--old <checkout>] [--count 64] [--repeats 5] [--threads 1 2]

From float32 maps of 14 x 14 to whether the box at every threshold is correct, images of 500 x 375 and some other sizes.
Every side is a process of its own that waits for work; they take turns, so that other work of the machine slows
all alike. Ratios are of CPU time; only those of several threads over one are of wall time, and on a busy machine they
say little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from wsol.functional.geometry import Geometry
from wsol.metrics._baselines import Baselines
from wsol.protocols import protocol
from wsol.types import GroundTruth

try:
    from wsol.box_evaluation import GroundTruthBatch, evaluate
except ImportError:  # an older checkout
    evaluate = None

TEN = ("choe2020", "choe2020-v2", "cam2016", "cam2016-code", "bas2022")
TEN += ("adl2019", "psol2020", "tscam2021", "acol2018", "ilsvrc")
TASKS = {name: (name,) for name in ("choe2020", "choe2020-v2", "cam2016", "bas2022")} | {
    "choe2020 + v2": TEN[:2],
    "all ten, with baselines": TEN,
}
SIZES = ((500, 375), (375, 500), (500, 333), (400, 400))


def cells(rng: np.random.Generator) -> np.ndarray:
    """One to three bumps and a little noise, float32 (14, 14)."""
    y, x = np.mgrid[:14, :14] / 14
    out = 0.04 * rng.standard_normal((14, 14))
    for _ in range(rng.integers(1, 4)):
        (cy, cx), (sy, sx) = rng.uniform(0.2, 0.8, 2), rng.uniform(0.08, 0.3, 2)
        out += rng.uniform(0.3, 1) * np.exp(-(((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2)
    return out.astype(np.float32)


class Images:
    """Made-up maps, views and true boxes."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.maps = [cells(rng) for _ in range(count)]
        sizes = [SIZES[i % len(SIZES)] for i in range(count)]
        self.views = [Geometry.square(size, 224) for size in sizes]
        self.truths = [GroundTruth(np.array([[0.2 * w, 0.1 * h, 0.8 * w, 0.7 * h]]).round(), True) for w, h in sizes]

    def evaluated(self, names: tuple[str, ...], part: slice) -> list[str]:
        """Evaluate some of the images; a digest of what was found, by protocol."""
        protocols = {name: PROTOCOLS[name] for name in names}
        blind = BASELINES if names == TEN else {}
        maps, views, truths = self.maps[part], self.views[part], self.truths[part]
        if evaluate is not None:
            found = evaluate(protocols, maps, views, truths)
            for baselines in blind.values():
                baselines.correct(views, GroundTruthBatch.of(truths))
            return [str(found[name].sum((0, 2)).tolist()) for name in names]
        for baselines in blind.values():
            for view, truth in zip(views, truths, strict=True):
                baselines.correct(view, truth)
        images = list(zip(maps, views, truths, strict=True))
        return [str(sum(p.evaluate(*one).sum(1) for one in images).tolist()) for p in protocols.values()]


PROTOCOLS = {name: protocol(name) for name in TEN}
BASELINES = {name: Baselines(PROTOCOLS[name]) for name in TEN}


def opencv_loop(images: Images) -> None:
    """MaxBoxAcc by the book: resize, then 1,000 times threshold, contours and the box of the largest."""
    for score_map in images.maps[:4]:
        resized = cv2.resize(score_map.astype(np.float64), (224, 224), interpolation=cv2.INTER_CUBIC)
        levels = ((resized - resized.min()) / (resized.max() - resized.min()) * 255).astype(np.uint8)
        for threshold in np.arange(0, 1, 0.001):
            _, binary = cv2.threshold(levels, int(threshold * levels.max()), 255, cv2.THRESH_BINARY)
            contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            if contours:
                cv2.boundingRect(max(contours, key=cv2.contourArea))


def work(count: int) -> None:
    """Answer each line that asks for a task by microseconds an image and what was found."""
    cv2.setNumThreads(1)
    images = Images(count)
    for line in sys.stdin:
        task, num_threads = json.loads(line)
        found: list[str] = []
        if task == "loop":
            start = time.process_time()
            opencv_loop(images)
            micros = 1e6 * (time.process_time() - start) / min(4, count)
        elif num_threads:
            parts = [slice(start, start + 16) for start in range(0, count, 16)] * 4
            with ThreadPoolExecutor(num_threads) as pool:
                start = time.perf_counter()
                list(pool.map(images.evaluated, [TASKS[task]] * len(parts), parts))
                micros = 1e6 * (time.perf_counter() - start) / (4 * count)
        else:
            start = time.process_time()
            for begin in range(0, count, 16):
                found += images.evaluated(TASKS[task], slice(begin, min(begin + 16, count)))
            micros = 1e6 * (time.process_time() - start) / count
        print(json.dumps([micros, found]), flush=True)


class Side:
    """A process that does what it is asked."""

    def __init__(self, checkout: Path | None, count: int) -> None:
        environment = {**os.environ, **({"PYTHONPATH": str(checkout)} if checkout else {})}
        words = [sys.executable, __file__, "--work", "--count", str(count)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, task: str, num_threads: int = 0) -> tuple[float, list[str]]:
        """Microseconds an image, and what was found."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([task, num_threads]), file=self.process.stdin, flush=True)
        micros, found = json.loads(self.process.stdout.readline())
        return micros, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="a checkout of this repository to compare with")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.count)
        return
    new, old = Side(None, options.count), Side(options.old, options.count) if options.old else None
    start = time.perf_counter()
    for task in TASKS:
        results = [side.ask(task)[1] for side in (new, old) if side]
        if any(result != results[0] for result in results) and results[0]:
            raise SystemExit(f"{task}: the two checkouts differ")
    print(f"first use of everything, compiling included where nothing was kept: {time.perf_counter() - start:.0f} s")
    print("CPU microseconds an image, median; ratio old / new of each round, median")
    for task in TASKS:
        rounds = [[side.ask(task)[0] for side in (new, old) if side] for _ in range(options.repeats)]
        columns = [statistics.median(column) for column in zip(*rounds, strict=True)]
        compared = f"{statistics.median(r[1] / r[0] for r in rounds):6.2f} x" if old else ""
        print(f"{task:26}" + "".join(f"{value:9.0f}" for value in columns) + compared, flush=True)
    rounds = [[new.ask("loop")[0], new.ask("choe2020")[0]] for _ in range(options.repeats)]
    print(f"choe2020, OpenCV's loop: {statistics.median(a / b for a, b in rounds):.0f} x")
    for task in ("choe2020-v2", "choe2020 + v2"):
        rounds = [[new.ask(task, n)[0] for n in options.threads] for _ in range(options.repeats)]
        for i, n in enumerate(options.threads[1:], 1):
            print(f"{task}: {n} threads do {statistics.median(r[0] / r[i] for r in rounds):.2f} times the work of one")


if __name__ == "__main__":
    main()
