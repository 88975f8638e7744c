"""One run of a report: where its maps or boxes are, its classes and its metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.config import build
from wsol.config.compose import compose
from wsol.data.source import Source, Split
from wsol.engine import given_boxes, networks, run_evaluation, saved_maps
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.given_boxes import GivenBoxes
from wsol.engine.localization_table import localization_table
from wsol.errors import InputError
from wsol.files import is_hidden
from wsol.functional.geometry import Geometry
from wsol.interop.map_folder import open_maps
from wsol.interop.maps import Maps
from wsol.interop.predictions import ranks_of, read_predictions
from wsol.metrics._curves import Curves
from wsol.protocols import LocalizationProtocol
from wsol.report.site import ReportColumn
from wsol.runs import checkpoints
from wsol.runs.evaluations import evaluation_folders, is_of_same_network


@dataclass
class ReportRun:
    """A run in a report, with its dataset."""

    folder: Path
    settings: DictConfig
    split: Split
    source: Source
    evaluated: Path | None = None
    """Folder of the evaluation whose maps or boxes are shown."""


def find_evaluation(one: ReportRun, config: DictConfig) -> Path | None:
    """Return the folder with the run's maps or boxes: its own, or an evaluation of the same kind; None without one.

    Of evaluations with maps it is the newest. Of those with boxes it is the first with classes, which a network that
    gives boxes often borrows: the run itself, then its evaluations from the newest on.

    Raises:
        InputError: neither maps, boxes nor a checkpoint.
    """
    if (one.folder / "maps" / config.split).is_dir():
        return one.folder
    boxes = {folder: found for folder in _same_network(one) if (found := _boxes(folder, one))}
    if boxes:
        return max(boxes, key=lambda folder: boxes[folder].ranks is not None)
    if not (one.folder / "checkpoints").is_dir():
        raise InputError(
            f"{one.folder}: neither maps or boxes of the {config.split} split nor checkpoints to make them with; name "
            "a folder of `wsol train`, of `wsol eval save_maps=true`, or of `wsol eval` of a network that gives boxes"
        )
    return _with_maps(one, config)


def _same_network(one: ReportRun) -> list[Path]:
    """Return the run's folder, then its evaluations of the same checkpoint and images, the newest first."""
    own = _results(one.folder)
    others = [folder for folder in evaluation_folders(one.folder) if own and is_of_same_network(own, _results(folder))]
    return [one.folder, *reversed(others)]


def _boxes(folder: Path, one: ReportRun) -> GivenBoxes | None:
    """Return the boxes that a folder has of the run's split; None if it has none."""
    return given_boxes.read(folder, one.split, len(one.source.classes))


def _with_maps(one: ReportRun, config: DictConfig) -> Path | None:
    """Return the newest evaluation that saved the network's own maps of the same images."""
    digest = hashlib.sha256(checkpoints.find(one.folder, "best").read_bytes()).hexdigest()
    for maps in sorted(one.folder.glob(f"eval/*/maps/{config.split}"), reverse=True):
        folder = maps.parent.parent
        if is_hidden(folder):
            continue
        choices = _results(folder).get("choices", {})
        plain = not choices.get("explainer") and choices.get("transform") == one.settings.choices.get("transform")
        about = open_maps(maps).about().get("made_of", {})
        same = about.get("checkpoint_sha256"), about.get("data_fingerprint")
        if plain and same == (digest, one.split.fingerprint()):
            return folder
    return None


def evaluate(one: ReportRun, config: DictConfig) -> Path:
    """Evaluate the run like `wsol eval`, with ``save_maps=true`` if it has maps; return the new folder."""
    asked = compose("eval", [f"split={config.split}"])
    OmegaConf.set_struct(asked, False)
    asked.run = str(one.folder)
    for key in ("data_dir", "batch_size", "num_workers", "trust"):
        asked[key] = config[key]
    kept = one.settings.get("protocol") or {}
    asked.protocol = {**kept, **(config.protocol or {})}
    asked.choices.protocol = list(asked.protocol)
    network = networks.find(asked, "wsol report <run>")
    asked.save_maps = not network.localizer.gives_boxes
    return run_evaluation.run(asked, network)


def column(name: str, one: ReportRun, protocol: LocalizationProtocol, trust: bool = False) -> ReportColumn:
    """Return the maps or boxes, classes and metrics of a run.

    Args:
        name: its name on the page.
        one: the run, evaluated.
        protocol: protocol of the page.
        trust: see `wsol.config.build.build_protocols`.
    """
    assert one.evaluated is not None
    folder = one.evaluated / "maps" / one.split.name
    if not folder.is_dir() and (given := _boxes(one.evaluated, one)) is not None:
        return _box_column(name, one, protocol, given, trust)
    maps = open_maps(folder)
    absent = frozenset(saved_maps.check(maps, one.split, "count_as_miss", others=maps.ids))
    ranked, ranks = _classes(folder, one, absent)
    metrics = _metrics(one)
    if not any(row["protocol"] == protocol.name for row in metrics["localization"]):
        metrics["localization"] += _scored(one, protocol, maps, ranks)
    agnostic = ", class-agnostic" if any(row.get("class_agnostic") for row in metrics["localization"]) else ""
    facts = {
        "maps": (_results(one.evaluated).get("choices", {}).get("explainer") or "the network's own") + agnostic,
        "images without a map": len(absent),
    }
    return ReportColumn(name, maps, ranked, ranks, metrics, _facts(one, facts))


def _box_column(
    name: str, one: ReportRun, protocol: LocalizationProtocol, given: GivenBoxes, trust: bool
) -> ReportColumn:
    """Return the boxes of a network that gives boxes, and whether they are correct under each of its protocols."""
    assert one.evaluated is not None
    others = build.build_protocols(one.settings, trust=trust)
    protocols = {protocol.name: protocol, **{key: other for key, other in others.items() if key != protocol.name}}
    evaluation = SplitEvaluation(
        one.split,
        lambda size: [Geometry.whole(size)],
        protocols,
        topk=() if given.ranks is None else (1, 5),
        gives_boxes=True,
    )
    there = [position for position, image in enumerate(one.split.ids) if image in given.boxes]
    ranks = None if given.ranks is None else given.ranks[there]
    evaluation.evaluate(there, [given.boxes[one.split.ids[position]] for position in there], ranks)
    measured = evaluation.compute()
    metrics = _metrics(one)
    known = {row["protocol"] for row in metrics["localization"]}
    rows = localization_table({one.split.name: measured}, {one.split.name: evaluation}, one.split.name, True)
    metrics["localization"] += [row for row in rows if row["maps"] == LOCALIZER and row["protocol"] not in known]
    correct = {name: _correct(curves[LOCALIZER], len(one.split)) for name, curves in measured.curves.items()}
    borrowed = _results(one.evaluated).get("classes") or {}
    facts = {
        "box": "given by the network, no map and no threshold",
        "classes of": borrowed.get("name"),
        "images without a box": len(one.split) - len(there),
    }
    predicted = None if given.predicted is None else given.predicted[:, None]
    return ReportColumn(name, given.boxes, predicted, given.ranks, metrics, _facts(one, facts), correct)


def _correct(curves: Curves, images: int) -> np.ndarray:
    """Return int8 (N,) which given boxes are correct at IoU 0.5, or the protocol's first; -1 if not evaluated."""
    found = np.full(images, -1, np.int8)
    found[curves.positions] = curves.at(curves.ious.index(0.5) if 0.5 in curves.ious else 0, 0)
    return found


def _facts(one: ReportRun, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known about a run: its seed, method and backbone, and more; nothing that is none or zero."""
    facts = {
        "seed": _results(one.folder).get("seed", one.settings.get("seed")),
        "method": one.settings.choices.get("method"),
        "backbone": one.settings.choices.get("backbone"),
        **more,
    }
    return {word: value for word, value in facts.items() if value not in (None, 0) or word == "seed"}


def _classes(folder: Path, one: ReportRun, absent: frozenset[str]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return predicted classes int64 (N, k), -1 for none, and ranks of the ground truth int64 (N,); None if unknown."""
    files = sorted(folder.glob("classes-*.csv"))
    if not files:
        return None, None
    there = np.array([i for i, name in enumerate(one.split.ids) if name not in absent])
    read = read_predictions(files, one.split.subset(there), one.source.classes)
    ranked = np.full((len(one.split), max(read.shape[1], 1)), -1, np.int64)
    ranked[there, : read.shape[1]] = read
    return ranked, ranks_of(one.split.labels, ranked)


def _metrics(one: ReportRun) -> dict[str, Any]:
    """Return the results of the run and of the evaluation for this split: localization, classification, pixels."""
    assert one.evaluated is not None
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {"classification": {}, "pixels": {}}
    for results in (_results(one.evaluated), _results(one.folder)):
        known = {row["protocol"] for row in rows}
        rows += [
            row
            for row in results.get("localization", ())
            if row["split"] == one.split.name and row["protocol"] not in known
        ]
        for key in found:
            found[key] = found[key] or results.get(key, {}).get(one.split.name, {})
    return {"localization": rows, **found}


def _scored(
    one: ReportRun, protocol: LocalizationProtocol, maps: Maps, ranks: np.ndarray | None
) -> list[dict[str, Any]]:
    """Return localization rows of a protocol that no results.json has; saved maps of val choose the threshold."""
    measured, evaluations = {}, {}
    beside = Path(maps.folder).parent / "val"
    wanted = [(one.split, maps, ranks)]
    if one.split.name != "val" and beside.is_dir() and "val" in one.source.splits:
        wanted.insert(0, (one.source.split("val"), open_maps(beside), None))
    for split, of_split, of_classes in wanted:
        evaluations[split.name] = SplitEvaluation(
            split,
            lambda size: [Geometry.whole(size)],
            {protocol.name: protocol},
            topk=() if of_classes is None else (1, 5),
        )
        measured[split.name] = saved_maps.score(evaluations[split.name], of_split, of_classes)
    rows = localization_table(measured, evaluations, one.split.name)
    return [row for row in rows if row["maps"] == LOCALIZER]


def _results(folder: Path) -> dict[str, Any]:
    """Return a folder's results.json; empty if there is none yet."""
    file = folder / "results.json"
    return runs.read_results(file) if file.is_file() else {}
