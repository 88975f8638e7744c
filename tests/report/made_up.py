"""A small split with all that a report may meet, and runs over it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wsol.data.images import BadImage
from wsol.data.packed import Boxes
from wsol.data.source import Split
from wsol.engine.chunk_evaluator import given_box
from wsol.functional.geometry import Geometry
from wsol.interop.map_store import MapStore, MapWriter
from wsol.interop.predictions import ranks_of
from wsol.report.site import ReportColumn

CLASSES = ["gull", '<b>tern</b> & "co"', "auk"]
IMAGES = 24
NO_TRUTH, NO_MAP, NOT_FINITE, FLAT, UNREADABLE, BLACKLISTED = 3, 5, 7, 9, 11, 13
"""Positions of the images with something about them."""


class MadeUp(Split):
    """Images of random sizes with one to three boxes."""

    def __init__(self, count: int = IMAGES) -> None:
        rng = np.random.default_rng(0)
        self._sizes = rng.integers(24, 60, (count, 2))
        boxes = []
        for i, size in enumerate(self._sizes):
            corners = np.sort(rng.uniform(0, 1, (rng.integers(1, 4), 2, 2)), axis=1) * (size - 1)
            boxes.append(corners.reshape(-1, 4) if i != NO_TRUTH else np.zeros((0, 4)))
        blacklist = np.arange(count) == BLACKLISTED
        labels = rng.integers(len(CLASSES), size=count)
        ids = [f"dir/{i:02d}.jpg" for i in range(count)]
        super().__init__("test", ids, labels, Boxes.pack(boxes, inclusive=True), blacklist=blacklist)

    def _read_image(self, row: int) -> np.ndarray:
        if row == UNREADABLE:
            raise BadImage("broken")
        width, height = self._sizes[row]
        return np.full((height, width, 3), 40 + 5 * (row % 30), np.uint8)

    def _read_size(self, row: int) -> tuple[int, int]:
        width, height = self._sizes[row].tolist()
        return width, height


def made_up_boxes(split: Split, name: str, seed: int = 0, classes: bool = True) -> ReportColumn:
    """A run whose network gave boxes, one of them missing, one not finite, one empty."""
    rng = np.random.default_rng(seed)
    boxes = {}
    for i, image in enumerate(split.ids):
        corners = np.sort(rng.uniform(0, 1, (2, 2)), axis=0).reshape(1, 4)
        if i == NOT_FINITE:
            corners[0, 2] = np.nan
        if i == FLAT:
            corners[0, 2:] = corners[0, :2]
        if i != NO_MAP:
            boxes[image] = given_box(corners, [Geometry.crop(split.size(i), 20, 17)])
    ranked, ranks = made_up_classes(split, rng) if classes else (None, None)
    row = {"protocol": "mine", "maps": "localizer", "threshold_origin": "none", "threshold": None}
    metrics = {"localization": [{**row, "gt_known_error": 62.5}], "classification": {}, "pixels": {}}
    correct = {"mine": np.array([1, 0, -1] * (len(split) // 3)), "other": np.zeros(len(split), int)}
    return ReportColumn(name, boxes, ranked, ranks, metrics, {"seed": seed}, correct)


def made_up_classes(split: Split, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes, and ranks of the true ones."""
    ranked = rng.permuted(np.tile(np.arange(len(CLASSES)), (len(split), 1)), axis=1)
    return ranked, ranks_of(split.labels, ranked)


def made_up_run(folder: Path, split: Split, name: str, seed: int = 0, classes: bool = True) -> ReportColumn:
    """A run with maps on disk, one of them missing, one not finite, one flat."""
    rng = np.random.default_rng(seed)
    with MapWriter(folder / name, header={}) as writer:
        for i, image in enumerate(split.ids):
            cells = cv2.GaussianBlur(rng.standard_normal((9, 9)), (0, 0), 1.2).astype(np.float32)
            if i == NOT_FINITE:
                cells[2, 2] = np.nan
            if i == FLAT:
                cells[:] = 0.5
            if i != NO_MAP:
                writer.add(image, cells[None], [Geometry(split.size(i), (9, 9), (0, 0), (9, 9))])
    ranked, ranks = made_up_classes(split, rng) if classes else (None, None)
    row = {
        "protocol": "mine",
        "maps": "localizer",
        "threshold_origin": "fixed",
        "threshold": 0.3,
        "gt_known_error": 50.0,
    }
    metrics = {"localization": [row], "classification": {"top1_error": 12.5}, "pixels": {}}
    return ReportColumn(name, MapStore(folder / name), ranked, ranks, metrics, {"seed": seed})
