"""Adversarial erasing (`wsol ae`): train, erase the regions found, train again, and evaluate the merged maps.

Wei et al. 2017, "Object Region Mining with Adversarial Erasing: A Simple Classification to Semantic Segmentation
Approach" (https://arxiv.org/abs/1703.08448), the baseline that ACoL replaces. Each round trains a network on images in
which the regions found in all earlier rounds are replaced by the mean pixel::

    <run>/round0/           a run of `wsol train`; round1, round2, ...: the same on images erased further
    <run>/round0/regions/   where its map of the label, scaled by its range, reaches the threshold (64 x 64 an image)
    <run>/round0/maps/      its maps of the val and test images, which nothing is erased from
    <run>/maps/             the rounds' maps, scaled by their range, merged by the maximum: for `wsol score <run>`
    <run>/results.json      their evaluation; the class scores are those of round 0, which learned from whole images

All rounds have the run's seed, because it determines which images are held out; their networks start alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from wsol.callbacks.progress_line import ProgressLine
from wsol.config import build
from wsol.config.construct import locate
from wsol.data.datasets.erased import write_regions
from wsol.data.source import Split
from wsol.engine import saved_maps, split_results, stages, training
from wsol.engine.evaluation import LOCALIZER
from wsol.engine.localization_table import localization_table
from wsol.engine.saved_maps import MapSaver
from wsol.engine.split_types import SplitResult
from wsol.errors import InputError
from wsol.files import atomic_folder
from wsol.functional.geometry import Geometry
from wsol.functional.maps import merge, normalize, place
from wsol.interop.map_folder import open_maps
from wsol.interop.map_store import MapWriter as StoreWriter
from wsol.interop.predictions import ranks_of, read_predictions
from wsol.runs import checkpoints

SIDE = 64
"""Number of cells along each side of a region."""
KEPT_CLASSES = 5
"""Number of predicted classes saved with the maps."""


def run(config: DictConfig, on_round: Callable[[Path], None] = lambda folder: None) -> Path:
    """Train the rounds under a composed config of `wsol ae` and evaluate their merged maps.

    Args:
        config: config of the verb.
        on_round: called with the folder of each round after its training, when results.json exists.

    Returns:
        The run folder, with results.json.

    Raises:
        InputError: a value out of its range, or processes that were started externally.
    """
    check(config)

    def train(place: Path) -> Path:
        """Train the round whose folder this is."""
        return training.run(settings(config, place.parent, int(place.name.removeprefix("round"))))

    return stages.run(config, "ae", train, lambda folder: rounds(config, folder, train, on_round))


def check(config: DictConfig) -> None:
    """Refuse settings that no dataset can work with."""
    if config.rounds < 1:
        raise InputError(f"rounds={config.rounds}: expected at least 1 (1 is an ordinary run)")
    if not 0 < config.threshold <= 1:
        raise InputError(f"threshold={config.threshold}: expected a share of the map's range, in (0, 1]")
    if max(config.topk, default=1) > KEPT_CLASSES:
        raise InputError(f"topk={list(config.topk)}: wsol ae saves the top {KEPT_CLASSES} classes of each image")
    head = locate(config.method.head._target_, "method.head")
    if not getattr(head, "classifies", True):
        raise InputError(
            f"method={config.choices.method}: does not classify; wsol ae hides from a classifier what it has found. "
            "Choose another method"
        )


def settings(config: DictConfig, folder: Path, number: int) -> DictConfig:
    """Return the config of a round: an ordinary run on images without the regions of earlier rounds."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    own: dict[str, Any] = {str(k): v for k, v in plain.items() if k not in ("rounds", "threshold")}
    own |= {"name": f"{config.name}-round{number}", "run_dir": str(folder / f"round{number}"), "resume": True}
    if number:
        mean = stages.results(folder / "round0")["preprocessing"]["mean"]
        before = [(folder / f"round{i}" / "regions").resolve() for i in range(number)]
        own["loader"]["erased"] = {str(regions): mean for regions in before}
    return OmegaConf.create(own)


def rounds(config: DictConfig, folder: Path, train: Callable[[Path], Path], on_round: Callable[[Path], None]) -> None:
    """Complete the remaining work in a run folder."""
    networks = []
    for number in range(config.rounds):
        place_of_round = folder / f"round{number}"
        stages.train_stage(train, place_of_round, on_round)
        networks.append(Round(settings(config, folder, number), place_of_round))
        if number + 1 < config.rounds:
            networks[-1].find_regions(config.threshold)
        networks[-1].keep_maps()
    merge_maps([network.folder / "maps" for network in networks], folder / "maps")
    networks[0].evaluate(config, folder)


class Round:
    """A finished round, run here in one process on one device.

    Args:
        config: config of the round.
        folder: folder of the round.
    """

    def __init__(self, config: DictConfig, folder: Path) -> None:
        best = folder / "checkpoints" / "best.ckpt"
        file = best if best.exists() else best.with_name("last.ckpt")
        self.config, self.folder = config, folder
        content, settings = checkpoints.read(file), config.copy()
        OmegaConf.set_struct(settings, False)
        settings.preprocessing = content["wsol"]["preprocessing"]
        # Built from the command line's config, not from the one in the file.
        localizer = build.build_localizer(settings, tuple(content["wsol"]["classes"]), load_weights=False)
        checkpoints.load_state(localizer, content["state_dict"], file)
        preprocessing = localizer.backbone.preprocessing
        self.data = build.build_data(config, build.build_source(config), preprocessing, seed=config.seed)
        self.module = split_results.evaluation_module(localizer, config)
        alone = {**config.trainer, "devices": 1, "num_nodes": 1, "strategy": "auto"}
        self.trainer = build.build_trainer(
            OmegaConf.create(alone), logger=False, callbacks=[ProgressLine()], default_root_dir=str(folder)
        )

    @property
    def evaluated(self) -> list[str]:
        """Names of the splits whose maps are saved."""
        return [name for name in ("val", "test") if name in self.data.splits]

    def find_regions(self, threshold: float) -> None:
        """Write the regions that the network finds in its training images, unless they exist."""
        if not (self.folder / "regions").exists():
            found = Regions(self.data.split("train"), threshold)
            split_results.write_label_maps(self.trainer, self.module, self.data, {"train": found})
            write_regions(self.folder / "regions", self.data.split("train"), found, SIDE)

    def keep_maps(self) -> None:
        """Save the maps of the evaluated splits, unless they exist."""
        if (self.folder / "maps").exists():
            return
        with atomic_folder(self.folder / "maps") as partial, ExitStack() as open_files:
            writers = {}
            for name in self.evaluated:
                header = {"split": name, "data_fingerprint": self.data.split(name).fingerprint()}
                kept = MapSaver(partial / name, self.data.source.classes, header)
                writers[name] = open_files.enter_context(kept)
            split_results.write_label_maps(self.trainer, self.module, self.data, writers)

    def evaluate(self, config: DictConfig, folder: Path) -> None:
        """Evaluate the merged maps of a run folder under its config and write results.json and per_image.csv."""
        evaluations = split_results.evaluations(config, self.data, self.evaluated, baselines=True)
        measured: dict[str, SplitResult] = {}
        extra: dict[str, Any] = {"rounds": [_of_round(folder / f"round{i}") for i in range(config.rounds)]}
        for name, evaluation in evaluations.items():
            maps, files = open_maps(folder / "maps" / name), sorted((folder / "maps" / name).glob("classes-*.csv"))
            ranks = ranks_of(
                evaluation.split.labels, read_predictions(files, evaluation.split, self.data.source.classes)
            )
            measured[name] = saved_maps.score(evaluation, maps, ranks)
            if name == self.evaluated[-1]:
                fullsup = measured.get("val") if name != "val" else None
                rows = saved_maps.per_image_results(evaluation, measured[name], maps, ranks, fullsup)
                extra["error_kinds"] = saved_maps.write_per_image(folder / "per_image.csv", rows)
        results = {
            "classification": {name: found.classification for name, found in measured.items()},
            "localization": [
                row
                for name in measured
                for row in localization_table(measured, evaluations, name, self.module.class_agnostic)
            ],
            "pixels": {name: found.pixels for name, found in measured.items() if found.pixels},
            "skipped_images": {},
            "not_finite_maps": {name: found.not_finite for name, found in measured.items() if found.not_finite},
            **split_results.about_pseudo_boxes(evaluations),
        }
        split_results.write_image_results(folder, measured, evaluations)
        split_results.write(
            folder, config, self.module, self.data, self.trainer, results, threshold=config.threshold, **extra
        )


class Regions:
    """Receives the maps of a split's images and stores where they reach a threshold.

    Iterating yields bool (`SIDE`, `SIDE`) over the whole image for each image of the split, in order: all False without
    a map or with a constant one, and False outside the part that a crop shows.

    Args:
        split: split of the images.
        threshold: threshold for min-max scaled maps, in (0, 1].

    Example:
        >>> from types import SimpleNamespace
        >>> found = Regions(SimpleNamespace(ids=("a", "b")), threshold=0.8)
        >>> found.add("b", np.array([[[0.0, 5.0]]]), [Geometry.square((10, 10), 8)], np.zeros(3))
        >>> [float(region.mean()) for region in found]
        [0.0, 0.34375]
    """

    def __init__(self, split: Split, threshold: float) -> None:
        self._row = {name: i for i, name in enumerate(split.ids)}
        self._bits = np.zeros((len(self._row), SIDE * SIDE // 8), np.uint8)
        self._threshold = threshold

    def add(self, image_id: str, maps: np.ndarray, geometries: Sequence[Geometry], logits: np.ndarray) -> None:
        """See `wsol.engine.split_types.MapWriter`."""
        whole, view = merge(maps, geometries)
        seen = place(whole, view, Geometry.square(view.image_size, SIDE), interpolation="linear")
        self._bits[self._row[image_id]] = np.packbits(seen >= self._threshold)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (np.unpackbits(row).reshape(SIDE, SIDE).astype(bool) for row in self._bits)


def merge_maps(folders: Sequence[Path], out: Path) -> None:
    """Merge the rounds' maps of each split by the maximum of the min-max scaled maps, unless this is done already.

    Args:
        folders: the rounds' map folders, with a store for each split.
        out: folder of the merged stores; their predicted classes are those of the first round.
    """
    if out.exists():
        return
    with atomic_folder(out) as partial:
        for of_split in sorted(path for path in folders[0].iterdir() if path.is_dir()):
            stores = [open_maps(folder / of_split.name) for folder in folders]
            with StoreWriter(partial / of_split.name, header=stores[0].about()["made_of"]) as writer:
                for name in stores[0].ids:
                    merged = [merge(*store.read(name)) for store in stores]
                    scaled = np.max([normalize(whole) for whole, _ in merged], axis=0)
                    writer.add(name, scaled[None], [merged[0][1]])
            for file in of_split.glob("classes-*.csv"):
                shutil.copy(file, partial / of_split.name)


def _of_round(folder: Path) -> dict[str, Any]:
    """Return a round's entry in results.json: its own errors, before merging."""
    found = stages.results(folder)
    own = [row for row in found["localization"] if row["maps"] == LOCALIZER]
    return {"folder": folder.name, "classification": found["classification"], "localization": own}
