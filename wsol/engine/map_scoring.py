"""Scoring of saved maps (`wsol score`): under any protocols, against other maps, and image by image."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.config import build
from wsol.data.source import Source, Split
from wsol.engine import saved_maps, split_results
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.localization_table import localization_table
from wsol.engine.split_types import PseudoBoxes, SplitResult
from wsol.errors import InputError, unknown
from wsol.functional.geometry import Geometry
from wsol.heads.base import NoMapsError
from wsol.interop.map_folder import open_maps
from wsol.interop.maps import Maps
from wsol.interop.predictions import ranks_of, read_predictions
from wsol.protocols import LocalizationProtocol
from wsol.types import Progress, no_progress

CONFIG_PARENTS = 3
"""Number of folders above the maps in which a run's config.yaml is searched."""


def run(config: DictConfig, progress: Progress = no_progress) -> Path:
    """Score under a composed config of `wsol score`; returns the folder with results.json.

    Raises:
        InputError: no maps, maps that do not match the split, or a file that exists already.
    """
    if config.maps is None:
        raise InputError("which maps? wsol score <run or folder>")
    output = runs.OutputFolder("score", config.out, config.force)
    below = config.data_dir
    source = build.build_source(_settings(config), trust=config.trust or config.data is not None, data_dir=below)
    if config.split not in source.splits:
        raise unknown("split", config.split, source.splits)
    protocols = build.build_protocols(config)
    val = source.split("val") if "val" in source.splits else None
    pseudo = split_results.pseudo_boxes(config.pseudo_boxes, protocols, val)
    ours = MapSet(config, source, protocols, config.maps, config.classes, pseudo)
    theirs = MapSet(config, source, protocols, config.against, pseudo=pseudo) if config.against else None
    name = "-".join(Path(config.maps).resolve().parts[-2:])
    with output.writing(Path(config.runs_dir) / f"score-{name}") as folder:
        for one in (ours, theirs) if theirs else (ours,):
            one.score(progress)
        results = _results(config, ours, theirs)
        if config.per_image:
            results["error_kinds"] = ours.write_per_image(folder / "per_image.csv", progress)
        runs.write_results(folder, results)
    return output.folder


class MapSet:
    """One set of saved maps; all quick checks run in the constructor.

    Args:
        config: config of the verb.
        source: the dataset.
        protocols: protocols by name.
        maps: the folder given.
        classes: CSV of predicted classes; None for those saved with the maps, if any.
        pseudo: pseudo boxes of val images, for thresholds of that origin.

    Raises:
        InputError: a split without boxes and masks, maps that do not match, or pseudo boxes without maps of val images.
    """

    def __init__(
        self,
        config: DictConfig,
        source: Source,
        protocols: Mapping[str, LocalizationProtocol],
        maps: str,
        classes: str | None = None,
        pseudo: PseudoBoxes | None = None,
    ) -> None:
        self.split = source.split(config.split)
        if not self.split.has_boxes and not self.split.has_masks:
            raise InputError(f"the {config.split} split has neither boxes nor masks to evaluate maps with")
        self.folder = _of_split(Path(maps), config.split)
        _refuse_boxes(self.folder)
        self.maps = open_maps(self.folder, view=config.view)
        self.absent = saved_maps.check(self.maps, self.split, config.missing, others=_others(source, config.split))
        self.val = self._val(config, source, Path(maps)) if config.split != "val" else None
        files = [Path(classes)] if classes else sorted(self.folder.glob("classes-*.csv"))
        topk = split_results.fitting_topk(config.topk, len(source.classes)) if files else ()
        self.ranks = self._ranks(files, source, max(topk, default=1))
        if pseudo is not None and config.split != "val" and self.val is None:
            raise InputError(
                f"pseudo_boxes={config.pseudo_boxes}: {maps} has no maps of the val split, on which they choose the "
                "threshold; name them with val_maps=..."
            )
        made = partial(self._evaluation, config, protocols=protocols, pseudo=pseudo)
        self.evaluation = made(self.split, topk=topk)
        self.val_evaluation = made(self.val[0]) if self.val else None
        self.measured: SplitResult | None = None
        self.fullsup: SplitResult | None = None

    def _val(self, config: DictConfig, source: Source, given: Path) -> tuple[Split, Maps] | None:
        """Return the val split and its maps: those named, those beside the evaluated maps, or in the same folder."""
        if "val" not in source.splits:
            return None
        split = source.split("val")
        if config.val_maps:
            maps = open_maps(Path(config.val_maps), view=config.view)
            saved_maps.check(maps, split, config.missing, others=_others(source, "val"))
            return split, maps
        beside = _of_split(given, "val")
        maps = open_maps(beside, view=config.view) if beside != self.folder and beside != given else self.maps
        return (split, maps) if set(split.ids) <= set(maps.ids) else None

    def _ranks(self, files: list[Path], source: Source, most: int) -> np.ndarray | None:
        if not files:
            return None
        ranked = read_predictions(files, self.split, source.classes)
        if most > ranked.shape[1]:
            raise InputError(f"{files[0]}: {ranked.shape[1]} classes per image at most, too few for top-{most}")
        return ranks_of(self.split.labels, ranked)

    def _evaluation(
        self,
        config: DictConfig,
        split: Split,
        protocols: Mapping[str, LocalizationProtocol],
        topk: Sequence[int] = (),
        pseudo: PseudoBoxes | None = None,
    ) -> SplitEvaluation:
        return SplitEvaluation(
            split,
            lambda size: [Geometry.whole(size)],
            protocols,
            topk=topk,
            baselines=config.baselines,
            pseudo=pseudo if split.name == "val" else None,
        )

    def score(self, progress: Progress) -> None:
        """Evaluate the maps, first those of the val split."""
        if self.val and self.val_evaluation:
            self.fullsup = self._scored(progress, self.val_evaluation, self.val[1], None)
        self.measured = self._scored(progress, self.evaluation, self.maps, self.ranks)

    def _scored(
        self, progress: Progress, evaluation: SplitEvaluation, maps: Maps, ranks: np.ndarray | None
    ) -> SplitResult:
        what, total = f"{self.folder.name}, {evaluation.split.name}", len(evaluation.split)
        return saved_maps.score(evaluation, maps, ranks, progress=lambda done: progress(what, done, total))

    def write_per_image(self, file: Path, progress: Progress) -> dict[str, Any]:
        """Write the box of each image and return the shares of the kinds of error."""
        assert self.measured is not None
        rows = saved_maps.per_image_results(self.evaluation, self.measured, self.maps, self.ranks, self.fullsup)
        return saved_maps.write_per_image(file, self._counted(rows, progress))

    def _counted(self, rows: Iterable[saved_maps.ImageResult], progress: Progress) -> Iterator[saved_maps.ImageResult]:
        """Yield the rows, and report progress at the first row of each image."""
        total, seen = len(self.split), 0
        before = None
        for row in rows:
            if row.image_id != before:
                before, seen = row.image_id, seen + 1
                progress("image by image", seen, total)
            yield row

    def all_measured(self) -> tuple[dict[str, SplitResult], dict[str, SplitEvaluation]]:
        """Return results and evaluations by split."""
        assert self.measured is not None
        measured, evaluations = {self.split.name: self.measured}, {self.split.name: self.evaluation}
        if self.fullsup and self.val_evaluation:
            measured, evaluations = {"val": self.fullsup, **measured}, {"val": self.val_evaluation, **evaluations}
        return measured, evaluations


def _results(config: DictConfig, ours: MapSet, theirs: MapSet | None) -> dict[str, Any]:
    """Return the content of results.json."""
    measured, evaluations = ours.all_measured()
    protocols = ours.evaluation.protocols
    evaluated = ours.split
    agnostic = ours.maps.about().get("made_of", {}).get("class_agnostic")
    results = {
        "name": f"score-{Path(config.maps).name}",
        "seed": None,
        "choices": OmegaConf.to_container(config.choices),
        "classification": {evaluated.name: measured[evaluated.name].classification},
        "localization": localization_table(measured, evaluations, evaluated.name, agnostic),
        "pixels": {evaluated.name: measured[evaluated.name].pixels} if measured[evaluated.name].pixels else {},
        "skipped_images": {},
        **split_results.about_pseudo_boxes(evaluations),
        "maps": {"folder": str(ours.folder), "count": len(ours.maps.ids), **ours.maps.about()},
        "missing_maps": ours.absent,
        "not_finite_maps": {name: found.not_finite for name, found in measured.items() if found.not_finite},
        "protocols": {name: dataclasses.asdict(protocol) for name, protocol in protocols.items()},
        "data": {
            "source": ours.split.__class__.__name__,
            "splits": {name: split_results.describe_split(of.split) for name, of in evaluations.items()},
        },
    }
    if theirs is not None:
        assert ours.measured is not None
        assert theirs.measured is not None
        val = ours.fullsup, theirs.fullsup
        results["against"] = {
            "folder": str(theirs.folder),
            "differences": saved_maps.differences(ours.measured, theirs.measured, protocols, val),
        }
    return results


def _of_split(given: Path, split: str) -> Path:
    """Return the folder of a split's maps: in a run, an evaluation, a run's newest evaluation, or the given one."""
    evaluated = sorted(given.glob(f"eval/*/maps/{split}"), key=lambda place: place.stat().st_mtime, reverse=True)
    return next((place for place in (given / "maps" / split, given / split, *evaluated) if place.is_dir()), given)


def _refuse_boxes(folder: Path) -> None:
    """Refuse the folder of a run or an evaluation whose network gives boxes."""
    if (folder / "results.json").is_file():
        rows = runs.read_results(folder / "results.json")["localization"]
        if any(row["maps"] == LOCALIZER and row["threshold_origin"] == "none" for row in rows):
            raise NoMapsError(f"maps={folder}", "its boxes are judged by `wsol eval <run> protocol=...`")


def _others(source: Source, split: str) -> frozenset[str]:
    """Return the ids of the other annotated splits, whose maps may be in the same folder."""
    return frozenset(
        name for other in source.splits if other not in (split, "train") for name in source.split(other).ids
    )


def _settings(config: DictConfig) -> DictConfig:
    """Return the config that names the dataset: the command line's, or that of the run that made the maps."""
    if config.data is not None:
        if config.data_dir is None:
            config.data_dir = "data"
        return config
    given = Path(config.maps).resolve()
    for folder in [given, *given.parents][: CONFIG_PARENTS + 1]:
        if (folder / "config.yaml").is_file():
            found = runs.read_config(folder)
            if found.get("data") is not None:
                build.check_parts(found, ["data"], folder / "config.yaml", trust=config.trust)
                return found
    raise InputError(f"{config.maps}: the dataset of these maps is unknown; name it, such as data=cub_lists")
