"""Splits that consist of annotation only, and a network's results for them: shared by tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from wsol.data.source import Boxes, Split
from wsol.engine.evaluation import SplitEvaluation
from wsol.engine.split_types import SplitResult
from wsol.protocols import LocalizationProtocol
from wsol.types import Batch

CLASSES = 6
FILES = sorted((Path(__file__).parents[1] / "configs" / "protocol").glob("*.yaml"))


def shipped(file: Path) -> LocalizationProtocol:
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    return LocalizationProtocol(**{key: value for key, value in fields.items() if not key.startswith("_")})


PROTOCOLS = {file.stem: shipped(file) for file in FILES}


class Marked(Split):
    """A split that is nothing but its annotation, with an image's size for each position."""

    def __init__(self, sizes, labels, boxes, masks=None, name="test"):
        packed = None if boxes is None else Boxes.pack(boxes, inclusive=False)
        super().__init__(name, [f"image{i}" for i in range(len(labels))], labels, packed, masks is not None)
        self.sizes, self.masks = sizes, masks

    def _read_image(self, row):
        width, height = self.sizes[row]
        return np.full((height, width, 3), row, np.uint8)

    def _read_mask(self, row):
        return self.masks[row]


class Case:
    """Random images of several sizes, some without a box or a mask, and what a network made of them."""

    def __init__(self, count: int, seed: int = 0, views: int = 1, name: str = "test") -> None:
        rng = np.random.default_rng(seed)
        self.sizes = [(int(w), int(h)) for w, h in rng.integers(20, 40, (count, 2))]
        self.labels = rng.integers(0, CLASSES, count)
        # Few distinct values, so that classes tie.
        self.logits = torch.from_numpy(rng.integers(0, 4, (count, CLASSES)).astype(np.float32))
        self.maps = rng.standard_normal((count, views, 6, 6)).astype(np.float32)
        self.maps[:, :, 1:4, 2:5] += 3
        masks = [None if i % 4 == 2 else _mask(size, rng) for i, size in enumerate(self.sizes)]
        boxes = [[] if i % 5 == 3 else [_box(size, rng) for _ in range(1 + i % 2)] for i, size in enumerate(self.sizes)]
        self.split = Marked(self.sizes, self.labels, boxes, masks, name)

    def feed(self, evaluation: SplitEvaluation, positions: Sequence[int], size: int) -> SplitEvaluation:
        for start in range(0, len(positions), size):
            some = list(positions[start : start + size])
            evaluation.update(batch(self.split, some), self.logits[some], self.maps[some])
        return evaluation


def _box(size, rng) -> list[float]:
    x, y = rng.uniform(0, 0.5, 2) * size
    w, h = rng.uniform(0.3, 0.5, 2) * size
    return [x, y, x + w, y + h]


def _mask(size, rng) -> np.ndarray:
    x, y = (int(side * rng.uniform(0.2, 0.4)) for side in size)
    mask = np.zeros(size[::-1], np.uint8)
    mask[y : 2 * y + 3, x : 2 * x + 3] = 1
    mask[0, :3] = 255
    return mask


def batch(split: Marked, positions: list[int], skipped: Sequence[int] = ()) -> Batch:
    return Batch(
        images=torch.zeros(len(positions), 3, 1, 1, dtype=torch.uint8),
        labels=torch.tensor(split.labels[positions]),
        positions=torch.tensor(positions, dtype=torch.int64),
        sizes=torch.tensor([split.sizes[i] for i in positions], dtype=torch.int64).reshape(-1, 2),
        skipped=torch.tensor(skipped, dtype=torch.int64),
    )


def plain(measured: SplitResult) -> dict:
    """All digits of what was measured, comparable by ``==``."""
    curves = {
        (name, maps): (curve.images, {of: curve.accuracy(of).tolist() for of in curve.names()})
        for name, of_maps in measured.curves.items()
        for maps, curve in of_maps.items()
    }
    return {"classification": measured.classification, "pixels": measured.pixels, "curves": curves}
