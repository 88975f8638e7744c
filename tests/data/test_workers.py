"""What goes to worker processes that are spawned: paths and small arrays, no pixels, and no Lightning."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from layouts import make_openimages, write

from wsol.data.datasets.creatures import Creatures
from wsol.data.datasets.erased import ErasedSplit, write_regions
from wsol.data.datasets.openimages import OpenImages
from wsol.data.datasets.wsolevaluation import WsolEvaluation
from wsol.data.loading import Images
from wsol.data.source import Split
from wsol.data.transforms import ResizeSquare

COUNT = 50_000


def pickled(split: Split) -> int:
    """Bytes of a split; what comes out of them is the same split."""
    data = pickle.dumps(split)
    again = pickle.loads(data)
    assert again.fingerprint() == split.fingerprint()
    return len(data)


def test_mapped_pixels_stay_on_disk(tmp_path: Path) -> None:
    split = Creatures(tmp_path / "c", train_images=100, val_images=1, test_images=1, size=32).split("train")
    assert pickled(split) < 100 * 100 + 3000  # the pixels alone are 300 kB
    again = pickle.loads(pickle.dumps(split.subset([7, 3])))
    assert (again.image(1) == split.image(3)).all()
    assert (again.mask(0) == split.mask(7)).all()
    write_regions(tmp_path / "r", split, (np.eye(64, dtype=bool) for _ in range(100)))
    erased = ErasedSplit(split, tmp_path / "r", (0.5, 0.5, 0.5))
    assert pickled(erased) < 2 * 100 * 100 + 6000  # the regions alone are 51 kB
    assert (pickle.loads(pickle.dumps(erased)).image(5) == erased.image(5)).all()


def test_masks_go_as_paths(tmp_path: Path) -> None:
    root = make_openimages(tmp_path, per_class=4)
    split = OpenImages(root / "metadata", root / "images").split("test")
    assert pickled(split) < 300 * len(split) + 3000
    assert (pickle.loads(pickle.dumps(split)).mask(3) == split.mask(3)).all()


def lists(root: Path) -> Split:
    """ILSVRC's validation images by the lists of wsolevaluation: 50,000 names as long as theirs."""
    names = [f"val/ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, COUNT + 1)]
    tables = {
        "image_ids": names,
        "class_labels": [f"{name},{i % 1000}" for i, name in enumerate(names)],
        "image_sizes": [f"{name},500,375" for name in names],
        "localization": [f"{name},10,20,300,200" for name in names],
    }
    for table, rows in tables.items():
        write(root / "test" / f"{table}.txt", rows)
    return WsolEvaluation(root, None).split("test")


def test_a_worker_starts_within_a_second_on_ilsvrc(tmp_path: Path) -> None:
    split = lists(tmp_path)
    assert pickled(split) < 120 * COUNT
    (tmp_path / "images.pickle").write_bytes(pickle.dumps(Images(split, ResizeSquare(224))))
    script = """
import sys, time, pickle, torch, torch.utils.data
start = time.process_time()
images = pickle.load(open(sys.argv[1], "rb"))
print(time.process_time() - start, len(images), "pytorch_lightning" in sys.modules)
"""
    words = [sys.executable, "-c", script, str(tmp_path / "images.pickle")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ, timeout=120)
    seconds, count, lightning = done.stdout.split()
    assert (int(count), lightning) == (COUNT, "False")
    assert float(seconds) < 1
    start = time.process_time()
    pickle.loads(pickle.dumps(split))
    assert time.process_time() - start < 0.2
