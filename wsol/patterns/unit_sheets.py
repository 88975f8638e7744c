"""Sheets of each class's most important units, and the image regions that activate them (`wsol features units`)."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from wsol import runs
from wsol.data.source import Split
from wsol.data.transforms import EvalTransform
from wsol.engine.recognition import crop
from wsol.errors import InputError
from wsol.features import feature_source
from wsol.functional.drawing import sheet
from wsol.interop.image_file import write_png
from wsol.patterns.units import Activation, TopActivations, class_weights, ranked, region
from wsol.types import Progress, no_progress

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


class UnitSheets(NamedTuple):
    """The content of a folder of units."""

    folder: Path
    units: dict[str, list[int]]
    """The units of each class by the class's name, largest weight first."""
    images: int
    """Number of images that the network processed."""


def run(config: DictConfig, progress: Progress = no_progress) -> UnitSheets:
    """Find and draw the units under a composed config of `wsol features units`.

    Args:
        config: config of the verb.
        progress: called with the number of finished batches of the split.

    Raises:
        InputError: a value out of its range, no network, or a network whose head ranks no units.
    """
    if config.units < 1 or config.images < 1:
        raise InputError(f"units, images: expected numbers from 1, got {config.units} and {config.images}")
    if not 0 <= config.threshold < 1:
        raise InputError(f"threshold: expected a number in [0, 1), got {config.threshold}")
    output = runs.OutputFolder("features units", config.out, config.force)
    network = feature_source.find(config, "wsol features units <run>", progress)
    localizer = network.localizer
    weights = class_weights(localizer)
    labels = feature_source.classes_asked(config.classes, localizer.classes, localizer.num_classes)
    source = network.source()
    split = feature_source.part(source, config.split)
    source.check(config.split)
    names = localizer.classes or tuple(map(str, range(localizer.num_classes)))
    units = {label: ranked(weights, label, config.units) for label in labels}
    top = TopActivations(sorted({unit for of_class in units.values() for unit in of_class}), config.images)
    for seen in network.extractor.extract(split, "units"):
        top.update(seen.cells, seen.batch.positions, seen.batch.sizes)
    unit_images = _UnitImages(split, source.classes, network.transform, config.threshold)
    with output.writing(network.folder / "units") as folder:
        runs.write_config(folder, config)
        lines: list[tuple] = []
        content: dict[str, list[dict]] = {}
        for label, of_class in units.items():
            name, rows = names[label], []
            for rank, unit in enumerate(of_class, start=1):
                weight = float(weights[label, unit])
                found = unit_images.found(top.of(unit))
                rows.append(
                    ([f"{rank}. unit {unit}, weight {weight:+.3f}"], [unit_images.picture(one) for one in found])
                )
                first = (name, rank, unit, f"{weight:.6g}")
                lines += [(*first, number, *_flat(one)) for number, one in enumerate(found, start=1)]
                content.setdefault(name, []).append({"unit": unit, "weight": weight, "images": found})
            file = folder / f"{label:04d}-{''.join(c if c.isalnum() else '_' for c in name)[:60]}.png"
            write_png(file, sheet(name, rows))
        _write(folder, lines, {"network": network.title, "split": config.split, "classes": content})
    return UnitSheets(output.folder, {names[label]: of_class for label, of_class in units.items()}, len(split))


class _UnitImages:
    """Activations with their images and regions.

    Args:
        split: the images.
        classes: names of the split's classes.
        transform: transform of the network.
        threshold: threshold for the regions.
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
        """Return the image cropped to the region."""
        return crop(self._split.image(self._positions[found["image_id"]]), np.array(found["box"]))


def _flat(found: Mapping) -> tuple:
    return (found["image_id"], found["image_class"], f"{found['activation']:.6g}", *found["box"])


def _write(folder: Path, lines: Sequence[tuple], content: Mapping) -> None:
    with (folder / "units.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *lines])
    runs.write_text(folder / "units.json", json.dumps(content, indent=1) + "\n")
