"""Seconds and memory of `wsol score` on a whole dataset's maps from a store, without images.

    python scripts/benchmarks/scoring.py [--metadata <folder with CUB/test, ILSVRC/test>] [--dataset CUB] [--side 14]

Without metadata the split is made up: ``--images`` of ILSVRC's usual sizes with one box each. The store is made up
first (smooth maps, deterministic); the time is that of reading and evaluating under the protocols, without the start of
Python. Memory is what the process grows by meanwhile. To compare with an older checkout, run it again with
``PYTHONPATH=<checkout>``.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from measuring import Listed, machine

from wsol.data.datasets.wsolevaluation import WsolEvaluation
from wsol.data.packed import Boxes
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.saved_maps import score
from wsol.functional.geometry import Geometry
from wsol.interop.map_store import MapStore, MapWriter
from wsol.protocols import protocol


def main() -> None:
    """Make a store, score it, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metadata", type=Path)
    parser.add_argument("--images", type=int, default=50000, help="of a made-up split")
    parser.add_argument("--dataset", default="CUB", choices=["CUB", "ILSVRC"])
    parser.add_argument("--side", type=int, default=14, help="of the maps, cells")
    parser.add_argument("--protocols", nargs="+", default=["choe2020", "choe2020-v2"])
    parser.add_argument("--baselines", action="store_true")
    options = parser.parse_args()
    if options.metadata:
        split = WsolEvaluation(options.metadata / options.dataset, None).split("test")
    else:
        boxes = Boxes.pack(np.tile([[50.0, 40.0, 400.0, 300.0]], (options.images, 1, 1)), inclusive=True)
        names = (f"ILSVRC2012_val_{i:08}" for i in range(options.images))
        split = Listed("test", names, np.zeros(options.images, np.int64), boxes)
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
        started, busy = time.perf_counter(), time.process_time()
        measured = score(evaluation, maps)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    for name in chosen:
        best = measured.curves[name][LOCALIZER].gt_known.max(axis=1).mean()
        print(f"{name}: best GT-known accuracy {best:.2f} %")
    per_map = 1e3 * seconds / len(split)
    print(f"{1e3 * busy / len(split):.3f} ms of CPU time a map")
    print(f"scored in {seconds:.1f} s ({per_map:.2f} ms a map); the process grew by {grown:.0f} MB at its peak")


if __name__ == "__main__":
    main()
