"""How well a network's features describe any images, by a linear SVM on them (`wsol features svm`)."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from wsol import runs
from wsol.data.source import Split
from wsol.errors import InputError, unknown
from wsol.features import feature_source, svm
from wsol.features.crops import CroppedSplit, true_corners
from wsol.features.extract import FeatureBatch, linear_maps
from wsol.features.feature_source import FeatureSource
from wsol.features.svm import LinearSvm
from wsol.functional.bootstrap import interval
from wsol.protocols import LocalizationProtocol
from wsol.types import Progress, no_progress

CROPS = ("whole", "map", "box")
MAPS = ("localizer", "svm")
ON = ("same", "whole")


class SvmEvaluation(NamedTuple):
    """How the SVMs of `wsol features svm` did."""

    folder: Path
    results: dict[str, Any]
    """The content of results.json: ``svm`` has the accuracies by crops, percent."""


def run(config: DictConfig, progress: Progress = no_progress) -> SvmEvaluation:
    """Extract features, train SVMs and evaluate them under a composed config of `wsol features svm`.

    Args:
        config: config of the verb.
        progress: called with the number of finished batches of a split.

    Raises:
        InputError: a value out of its range, no network, or a dataset without a required split or annotation.
    """
    crops = [config.crops] if isinstance(config.crops, str) else list(dict.fromkeys(config.crops))
    for key, given, choices in (("crops", crops, CROPS), ("train_on", [config.train_on], ON)):
        for word in given:
            if word not in choices:
                raise unknown(key, str(word), choices)
    if not crops:
        raise InputError(f"crops: expected some of {', '.join(CROPS)}, got none")
    svm.costs(config.C)
    output = runs.OutputFolder("features svm", config.out, config.force)
    protocol = feature_source.one_protocol(config) if "map" in crops else None
    network = feature_source.find(config, "wsol features svm <run>", progress)
    maps = _whose_maps(config.maps, network)
    source = network.source()
    splits = {name: feature_source.part(source, name) for name in ("train", "test")}
    for name in splits:
        source.check(name)
    on_crops = _SvmsOnCrops(config, network, splits)
    by_map_first = sorted(crops, key=lambda name: name != "map")  # its pass also computes the features of whole images
    found = {name: on_crops.by(name, protocol, maps) for name in by_map_first}
    found = {name: found[name] for name in crops}
    results = {
        "network": network.title,
        "point": network.extractor.point,
        "features": on_crops.channels,
        "data": {name: {"images": len(s), "fingerprint": s.fingerprint()} for name, s in splits.items()},
        "classes": len(source.classes),
        "train_on": config.train_on,
        "maps": maps if "map" in crops else None,
        "protocol": None if protocol is None else dataclasses.asdict(protocol) | {"threshold": config.threshold},
        "svm": {name: _numbers(predicted, splits["test"], of) for name, (of, predicted) in found.items()},
    }
    with output.writing(network.folder / "svm") as folder:
        runs.write_config(folder, config)
        runs.write_results(folder, results)
        _write_predictions(folder / "predictions.csv", splits["test"], source.classes, found)
    return SvmEvaluation(output.folder, results)


class _SvmsOnCrops:
    """The SVMs on whole images and on crops; features of whole images are extracted once.

    Args:
        config: config of the verb.
        network: the network.
        splits: ``train`` and ``test``.
    """

    def __init__(self, config: DictConfig, network: FeatureSource, splits: Mapping[str, Split]) -> None:
        self._config, self._network, self._splits = config, network, splits
        self._cut: dict[str, dict[str, Split]] = {"whole": dict(splits)}
        self._features: dict[tuple[str, str], np.ndarray] = {}
        self._fitted: dict[str, LinearSvm] = {}

    @property
    def channels(self) -> int:
        """Number of features per image."""
        return next(iter(self._features.values())).shape[1]

    def by(self, crops: str, protocol: LocalizationProtocol | None, maps: str) -> tuple[LinearSvm, np.ndarray]:
        """Return the SVM and its predictions, int64 (N,), for the test images cropped this way."""
        if crops == "box":
            self._cut[crops] = {name: CroppedSplit(s, true_corners(s)) for name, s in self._splits.items()}
        elif crops == "map":
            assert protocol is not None
            self._cut[crops] = {name: self._by_map(s, protocol, maps) for name, s in self._splits.items()}
        fitted = self._fit("whole" if self._config.train_on == "whole" else crops)
        return fitted, fitted.predict(self._of(crops, "test"))

    def _by_map(self, split: Split, protocol: LocalizationProtocol, maps: str) -> Split:
        if split.name == "train" and self._config.train_on == "whole":
            return split  # no SVM is trained on its crops
        extractor = self._network.extractor
        if maps == "svm":
            self._fit("whole")  # before the second pass over the images
        of = extractor.own_maps if maps == "localizer" else self._svm_maps
        features, boxes = extractor.features_and_boxes(split, of, protocol, self._config.threshold)
        self._features["whole", split.name] = features
        return CroppedSplit(split, boxes)

    def _svm_maps(self, seen: FeatureBatch) -> Tensor:
        """Return maps of the class that the SVM on whole images predicts."""
        whole = self._fit("whole")
        best = whole.scores(seen.features.cpu().numpy()).argmax(1)
        return linear_maps(seen.cells, torch.from_numpy(whole.weight[best]).to(seen.cells))

    def _fit(self, crops: str) -> LinearSvm:
        if crops not in self._fitted:
            config, labels = self._config, self._splits["train"].labels
            features, costs = self._of(crops, "train"), svm.costs(config.C)
            self._fitted[crops] = svm.fit(features, labels, costs, scale=config.l2, seed=config.seed)
        return self._fitted[crops]

    def _of(self, crops: str, name: str) -> np.ndarray:
        """Features, float32 (N, C)."""
        if (crops, name) not in self._features:
            split = self._cut[crops][name]
            self._features[crops, name] = self._network.extractor.features(split, f"features of {crops}")
        return self._features[crops, name]


def _whose_maps(given: str | None, network: FeatureSource) -> str:
    if given is None:
        return "localizer" if network.is_run else "svm"
    if given not in MAPS:
        raise unknown("maps", given, MAPS)
    if given == "localizer" and not network.is_run:
        raise InputError("maps=localizer: a backbone without a head has no classes; use maps=svm, or run=...")
    return given


def _numbers(predicted: np.ndarray, split: Split, of: LinearSvm) -> dict[str, Any]:
    """Return accuracies in percent with their 95 % intervals over images."""
    right = 100.0 * (predicted == split.labels)
    by_image, by_class = interval(right), interval(right, split.labels)
    return {
        "C": of.c,
        **svm.accuracies(predicted, split.labels),
        "intervals": {
            "accuracy": [float(end) for end in by_image],
            "mean_class_accuracy": [float(end) for end in by_class],
        },
    }


def _write_predictions(
    file: Path, split: Split, classes: Sequence[str], found: Mapping[str, tuple[LinearSvm, np.ndarray]]
) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["image_id", "class", *found])
        for i, name in enumerate(split.ids):
            said = [classes[int(predicted[i])] for _, predicted in found.values()]
            writer.writerow([name, classes[int(split.labels[i])], *said])
