"""Draw docs/images/thresholds.svg: accuracy over the threshold, and where each origin puts it.

    python scripts/docs_thresholds.py

The images are those of the built-in dataset. The maps are made for illustration, with a blob at the object and one
beside it, and so are the pseudo boxes: the ground-truth boxes, moved and scaled at random.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from wsol.data.datasets.creatures import Creatures
from wsol.data.packed import Boxes
from wsol.data.source import Split
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.split_types import PseudoBoxes, SplitResult
from wsol.functional.geometry import Geometry
from wsol.metrics._curves import choose_thresholds
from wsol.protocols import protocol

FILE = Path(__file__).parents[1] / "docs" / "images" / "thresholds.svg"
WIDTH, HEIGHT, MARGIN = 760, 340, 50
COLOURS = {"fixed": "#6b7280", "pseudo": "#d97706", "fullsup": "#2563eb", "oracle": "#16a34a"}
FIXED = 0.2


def main() -> None:
    """Measure and draw."""
    rng = np.random.default_rng(0)
    rule = protocol("choe2020", fixed_threshold=FIXED, origins=["fixed", "fullsup", "oracle"], iou_thresholds=[0.7])
    with tempfile.TemporaryDirectory() as folder:
        source = Creatures(root=folder, train_images=8, val_images=160, test_images=160, size=64)
        splits = {name: source.split(name) for name in ("val", "test")}
        found = {name: measure(split, rule, rng) for name, split in splits.items()}
    pseudo, val, test = found["val"].pseudo["choe2020"], *(found[k].curves["choe2020"][LOCALIZER] for k in found)
    chosen = choose_thresholds(rule, test, val, pseudo=pseudo)
    lines = {"val, pseudo boxes": (pseudo, "pseudo"), "val, human boxes": (val, "fullsup")}
    lines["test, human boxes"] = (test, "oracle")
    parts = [axes()]
    for row, (label, (curves, origin)) in enumerate(lines.items()):
        pairs = zip(test.thresholds[::5], curves.gt_known[0, ::5], strict=True)
        points = " ".join(f"{x_of(t):.1f},{y_of(a):.1f}" for t, a in pairs)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[origin]}" stroke-width="2"/>')
        parts.append(text(WIDTH - 250, MARGIN + 18 * row, label, COLOURS[origin]))
    for row, (origin, at) in enumerate(chosen.items()):
        x = x_of(float(test.thresholds[at[0]]))
        dashes = f'stroke="{COLOURS[origin]}" stroke-width="1.5" stroke-dasharray="5 4"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN - 20}" y2="{HEIGHT - MARGIN}" {dashes}/>')
        error = f"{origin}: {100 - test.gt_known[0, at[0]]:.1f} % error"
        parts.append(text(x + 4, HEIGHT - MARGIN - 14 * (row + 1), error, COLOURS[origin]))
    body = "\n".join(parts)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    FILE.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n', encoding="utf-8")


def measure(split: Split, rule: object, rng: np.random.Generator) -> SplitResult:
    """Evaluate made maps of a split by its boxes and by made pseudo boxes."""
    maps, boxes = [], []
    for position in range(len(split)):
        truth, (width, height) = split.truth(position), split.size(position)
        assert truth is not None
        x0, y0, x1, y1 = truth.half_open[0]
        drawn = np.zeros((height, width), np.float32)
        scale = float(rng.uniform(0.6, 1))
        centre, half = (
            (int((x0 + x1) / 2), int((y0 + y1) / 2)),
            (int(scale * (x1 - x0) / 2), int(scale * (y1 - y0) / 2)),
        )
        cv2.ellipse(drawn, centre, half, 0, 0, 360, 1, -1)
        beside = tuple(int(v) for v in rng.uniform(0, (width, height)))
        cv2.circle(drawn, beside, width // 8, float(rng.uniform(0.2, 0.7)), -1)
        score_map = cv2.GaussianBlur(drawn, (0, 0), float(rng.uniform(2, 6)))
        maps.append({"mean": (score_map, Geometry.whole((width, height)))})
        size = np.array([x1 - x0, y1 - y0])
        middle = np.array([x0 + x1, y0 + y1]) / 2 + size * rng.normal(0, 0.08, 2)
        reach = size / 2 * rng.uniform(0.8, 1.5, 2)
        boxes.append(np.concatenate([middle - reach, middle + reach])[None])
    pseudo = PseudoBoxes(Boxes.pack(boxes, inclusive=False), {})
    evaluation = SplitEvaluation(split, lambda s: [Geometry.whole(s)], {"choe2020": rule}, topk=(), pseudo=pseudo)
    evaluation.evaluate(range(len(split)), maps, None)
    return evaluation.compute()


def x_of(threshold: float) -> float:
    """Where a threshold is, pixels."""
    return MARGIN + threshold * (WIDTH - 2 * MARGIN)


def y_of(accuracy: float) -> float:
    """Where an accuracy in percent is, pixels."""
    return HEIGHT - MARGIN - accuracy / 100 * (HEIGHT - 2 * MARGIN)


def axes() -> str:
    """Background, axes and their names."""
    lines = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for value in (0, 0.25, 0.5, 0.75, 1):
        lines.append(text(x_of(value) - 8, HEIGHT - MARGIN + 18, f"{value:g}"))
        lines.append(text(MARGIN - 34, y_of(100 * value) + 4, f"{100 * value:.0f}"))
    frame = f'x="{MARGIN}" y="{MARGIN}" width="{WIDTH - 2 * MARGIN}" height="{HEIGHT - 2 * MARGIN}"'
    lines.append(f'<rect {frame} fill="none" stroke="#9ca3af"/>')
    lines.append(text(WIDTH / 2 - 110, HEIGHT - 12, "threshold, part of the map's maximum"))
    lines.append(text(8, 20, "GT-known accuracy, percent"))
    return "\n".join(lines)


def text(x: float, y: float, words: str, colour: str = "#111827") -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-family="sans-serif" font-size="12" fill="{colour}">{words}</text>'


if __name__ == "__main__":
    main()
