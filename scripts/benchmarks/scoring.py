"""Seconds and memory of `wsol score` on a whole dataset's maps from a store, without images.

    python scripts/benchmarks/scoring.py --metadata <folder with CUB/test, ILSVRC/test> [--dataset CUB] [--side 14]

The store is made up first (smooth maps, deterministic); the time is that of reading and judging under the protocols,
with the baselines and without the start of Python. Memory is what the process grows by meanwhile.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from measuring import machine

from wsol.data.datasets.wsolevaluation import WsolEvaluation
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.saved_maps import score
from wsol.functional.geometry import Geometry
from wsol.interop.map_store import MapStore, MapWriter
from wsol.protocols import protocol


def main() -> None:
    """Make a store, score it, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metadata", type=Path, required=True)
    parser.add_argument("--dataset", default="CUB", choices=["CUB", "ILSVRC"])
    parser.add_argument("--side", type=int, default=14, help="of the maps, cells")
    parser.add_argument("--protocols", nargs="+", default=["choe2020", "choe2020-v2"])
    parser.add_argument("--baselines", action="store_true")
    options = parser.parse_args()
    split = WsolEvaluation(options.metadata / options.dataset, None).split("test")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "maps")
        started = time.perf_counter()
        rng = np.random.default_rng(0)
        with MapWriter(store, header={}) as writer:
            for i, name in enumerate(split.ids):
                cells = cv2.GaussianBlur(rng.standard_normal((options.side, options.side)), (0, 0), 1.5)
                size = split.size(i)
                view = Geometry(size, cells.shape, (0, 0), cells.shape)
                writer.add(name, cells[None].astype(np.float32), [view])
        size = sum(file.stat().st_size for file in store.iterdir())
        print(f"{machine('cpu')}\nstore of {len(split):,} maps: {size / 1e6:.1f} MB")
        chosen = {name: protocol(name) for name in options.protocols}
        evaluation = SplitEvaluation(
            split, lambda size: [Geometry.whole(size)], chosen, topk=(), baselines=options.baselines
        )
        warm = SplitEvaluation(split.subset(range(4)), lambda size: [Geometry.whole(size)], chosen, topk=())
        maps = MapStore(store)
        score(warm, maps)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        measured = score(evaluation, maps)
        seconds = time.perf_counter() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    for name in chosen:
        best = measured.curves[name][LOCALIZER].gt_known.max(axis=1).mean()
        print(f"{name}: best GT-known accuracy {best:.2f} %")
    per_map = 1e3 * seconds / len(split)
    print(f"scored in {seconds:.1f} s ({per_map:.2f} ms a map); the process grew by {grown:.0f} MB at its peak")


if __name__ == "__main__":
    main()
