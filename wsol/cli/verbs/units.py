"""`wsol units`: the units that speak for each class, and the image regions that activate them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from wsol import runs
from wsol.cli import screen
from wsol.data.source import Split
from wsol.data.transforms import EvalTransform
from wsol.engine.recognition import crop
from wsol.errors import InputError
from wsol.features import feature_source
from wsol.interop.png_file import write_png
from wsol.patterns.sheets import sheet
from wsol.patterns.units import Activation, TopActivations, class_weights, ranked, region

HEADER = (
    "class",
    "rank",
    "unit",
    "weight",
    "image_rank",
    "image_id",
    "image_class",
    "activation",
    "x0",
    "y0",
    "x1",
    "y1",
)


def run(config: DictConfig) -> int:
    """Find and draw the units under a composed config; returns the exit code."""
    screen.start_logging()
    if config.units < 1 or config.images < 1:
        raise InputError(f"units, images: expected numbers from 1, got {config.units} and {config.images}")
    if not 0 <= config.threshold < 1:
        raise InputError(f"threshold: expected a number in [0, 1), got {config.threshold}")
    output = runs.OutputFolder("units", config.out, config.force)
    looking = feature_source.find(config, "wsol units run=<run folder>")
    localizer = looking.localizer
    weights = class_weights(localizer)
    labels = feature_source.classes_asked(config.classes, localizer.classes, localizer.num_classes)
    source = looking.source()
    split = feature_source.part(source, config.split)
    source.check(config.split)
    names = localizer.classes or tuple(map(str, range(localizer.num_classes)))
    units = {label: ranked(weights, label, config.units) for label in labels}
    top = TopActivations(sorted({unit for of_class in units.values() for unit in of_class}), config.images)
    for seen in looking.extractor.look(split, "units"):
        top.update(seen.cells, seen.batch.positions, seen.batch.sizes)
    drawn = _Drawn(split, source.classes, looking.transform, config.threshold)
    with output.writing(looking.folder / "units") as folder:
        runs.write_config(folder, config)
        lines: list[tuple] = []
        content: dict[str, list[dict]] = {}
        for label, of_class in units.items():
            name, rows = names[label], []
            for rank, unit in enumerate(of_class, start=1):
                weight = float(weights[label, unit])
                found = drawn.found(top.of(unit))
                rows.append(([f"{rank}. unit {unit}, weight {weight:+.3f}"], [drawn.picture(one) for one in found]))
                first = (name, rank, unit, f"{weight:.6g}")
                lines += [(*first, number, *_flat(one)) for number, one in enumerate(found, start=1)]
                content.setdefault(name, []).append({"unit": unit, "weight": weight, "images": found})
            file = folder / f"{label:04d}-{''.join(c if c.isalnum() else '_' for c in name)[:60]}.png"
            write_png(file, sheet(name, rows))
        _write(folder, lines, {"network": looking.title, "split": config.split, "classes": content})
    print(f"{len(units):,} classes, {len(split):,} images looked at, written to {output.folder}")
    return 0


class _Drawn:
    """Activations with their images and regions.

    Args:
        split: the images.
        classes: names of the split's classes.
        transform: the network's.
        threshold: of the regions.
    """

    def __init__(self, split: Split, classes: Sequence[str], transform: EvalTransform, threshold: float) -> None:
        self._split, self._classes, self._transform, self._threshold = split, classes, transform, threshold
        self._positions = {name: i for i, name in enumerate(split.ids)}

    def found(self, activations: Sequence[Activation]) -> list[dict]:
        """Return id, class, activation and region (half-open, image frame) of each image."""
        return [
            {
                "image_id": self._split.ids[one.position],
                "image_class": self._classes[int(self._split.labels[one.position])],
                "activation": one.value,
                "box": region(one.cells, self._transform.views(one.size), self._threshold).tolist(),
            }
            for one in activations
        ]

    def picture(self, found: Mapping) -> np.ndarray:
        """The image cut to the region."""
        return crop(self._split.image(self._positions[found["image_id"]]), np.array(found["box"]))


def _flat(found: Mapping) -> tuple:
    return (found["image_id"], found["image_class"], f"{found['activation']:.6g}", *found["box"])


def _write(folder: Path, lines: Sequence[tuple], content: Mapping) -> None:
    with (folder / "units.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *lines])
    runs.write_text(folder / "units.json", json.dumps(content, indent=1) + "\n")
