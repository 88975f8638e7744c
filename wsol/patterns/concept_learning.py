"""Learning a concept from two folders of images, and maps of where images have it (`wsol features concept`)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig

from wsol import runs
from wsol.data.image_files import find_images, unique_names
from wsol.data.source import FileSplit
from wsol.errors import InputError
from wsol.features import feature_source, svm
from wsol.features.feature_source import FeatureSource
from wsol.features.svm import LinearSvm
from wsol.files import errors_naming
from wsol.functional.drawing import overlay, sheet
from wsol.functional.geometry import Geometry
from wsol.functional.maps import merge, place
from wsol.interop.image_file import write_png
from wsol.patterns.concept import NEGATIVE, POSITIVE, classification_metrics, concept_maps, files_as_split, hold_out
from wsol.types import Progress, no_progress

ON_SHEET = 24
"""Maximum number of images on the contact sheet; each also has its own file."""
COLUMNS = 6


class LearnedConcept(NamedTuple):
    """A concept and the quality of its classifier."""

    folder: Path
    svm: LinearSvm
    results: dict[str, Any]
    """The content of results.json: percentages for the images ``learned from`` and ``held out``."""


def run(config: DictConfig, progress: Progress = no_progress) -> LearnedConcept:
    """Learn a concept and draw its maps under a composed config of `wsol features concept`.

    Args:
        config: config of the verb.
        progress: called with the number of finished batches of images.

    Raises:
        InputError: no images, an image among both the positives and the negatives, or a value out of its range.
    """
    costs = svm.costs(config.C)
    output = runs.OutputFolder("features concept", config.out, config.force)
    split = _examples(config)
    held = hold_out(split.labels, config.held_out, config.seed)
    images = None if config.images is None else find_images(config.images)
    network = feature_source.find(config, "wsol features concept <run> positives=<folder> negatives=<folder>", progress)
    features = network.extractor.features(split)
    concept = svm.fit(features[~held], split.labels[~held], costs, scale=config.l2, seed=config.seed)
    scores = concept.scores(features)[:, POSITIVE]
    found: dict[str, dict[str, float]] = {
        "learned from": classification_metrics(scores[~held], split.labels[~held]),
        "held out": classification_metrics(scores[held], split.labels[held]),
    }
    held_out = split.subset(np.flatnonzero(held))
    shown = held_out if images is None else files_as_split("images", images, [0] * len(images))
    maps = _maps(network, shown, concept)
    results = {
        "network": network.title,
        "point": network.extractor.point,
        "C": concept.c,
        "positives": int((split.labels == POSITIVE).sum()),
        "negatives": int((split.labels == NEGATIVE).sum()),
        "images_held_out": int(held.sum()),
        **found,
    }
    with output.writing(network.folder / "concept") as folder:
        runs.write_config(folder, config)
        with errors_naming(folder / "concept.npz"):
            np.savez(folder / "concept.npz", weight=concept.weight[POSITIVE], bias=concept.bias[POSITIVE])
        runs.write_results(folder, results)
        _write_scores(folder / "scores.csv", split, held, scores)
        _draw(folder, shown, maps)
    return LearnedConcept(output.folder, concept, results)


def _examples(config: DictConfig) -> FileSplit:
    """Return positives and negatives as a split."""
    files = {}
    for label, key in ((POSITIVE, "positives"), (NEGATIVE, "negatives")):
        if config[key] is None:
            raise InputError(f"no images: set {key}=<a folder, a file, a glob in quotes, or a list of these>")
        try:
            files[label] = find_images(config[key])
        except InputError as error:
            raise InputError(f"{key}: {str(error).removeprefix('images=')}") from error
    if both := {file.resolve() for file in files[POSITIVE]} & {file.resolve() for file in files[NEGATIVE]}:
        raise InputError(f"{sorted(both)[0]}: among both the positives and the negatives, with {len(both) - 1} others")
    labels = [label for label, of_label in files.items() for _ in of_label]
    return files_as_split("examples", [file for of_label in files.values() for file in of_label], labels)


def _write_scores(file: Path, split: FileSplit, held: np.ndarray, scores: np.ndarray) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["image", "positive", "held_out", "score"])
        for name, label, out_of, score in zip(split.ids, split.labels, held, scores, strict=True):
            writer.writerow([name, int(label == POSITIVE), int(out_of), f"{score:.6g}"])


class ConceptMap(NamedTuple):
    """An image's concept map."""

    score: float
    score_map: np.ndarray
    view: Geometry


def _maps(network: FeatureSource, split: FileSplit, concept: LinearSvm) -> list[ConceptMap]:
    found = []
    for seen in network.extractor.extract(split, "maps"):
        scores = concept.scores(seen.features.cpu().numpy())[:, POSITIVE]
        sizes = [(int(width), int(height)) for width, height in seen.batch.sizes.tolist()]
        for score, of_image, size in zip(scores, concept_maps(seen, concept).cpu().numpy(), sizes, strict=True):
            found.append(ConceptMap(float(score), *merge(of_image, network.transform.views(size))))
    return found


def _draw(folder: Path, split: FileSplit, found: Sequence[ConceptMap]) -> None:
    """Write each image with its map, all maps on one scale, and the best and the worst of them on a sheet.

    Red is the maximum of all maps, blue is 0 and below: an image without the concept stays blue.
    """
    peak = max(*(float(one.score_map.max()) for one in found), 1e-30)
    names = unique_names([split.path(i) for i in range(len(split))])
    for i, name in enumerate(names):
        write_png(folder / "overlays" / f"{name}.png", under(split.image(i), found[i], peak))
    order = sorted(range(len(found)), key=lambda i: -found[i].score)
    chosen = order if len(order) <= ON_SHEET else [*order[: ON_SHEET // 2], *order[-ON_SHEET // 2 :]]
    rows = [chosen[start : start + COLUMNS] for start in range(0, len(chosen), COLUMNS)]
    captions = [[f"{found[i].score:+.2f}" for i in row] for row in rows]
    pictures = [[under(split.image(i), found[i], peak) for i in row] for row in rows]
    write_png(folder / "sheet.png", sheet("by score", list(zip(captions, pictures, strict=True))))


def under(image: np.ndarray, one: ConceptMap, peak: float) -> np.ndarray:
    """Return the image with its map overlaid, in which ``peak`` is red."""
    placed = place(one.score_map, one.view, Geometry.whole(one.view.image_size), scaling="max")
    share = max(float(one.score_map.max()), 0.0) / peak
    return overlay(image, placed * share, np.zeros(4), np.zeros((0, 4)))
