"""The input of `wsol report`: each run's data, saved maps, classes and metrics."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.config import build
from wsol.config.compose import compose
from wsol.data.source import Source, Split
from wsol.engine import networks, run_evaluation, saved_maps
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.localization_table import localization_table
from wsol.errors import InputError
from wsol.files import is_hidden
from wsol.functional.geometry import Geometry
from wsol.heads.base import NoMapsError
from wsol.interop.map_folder import open_maps
from wsol.interop.maps import Maps
from wsol.interop.predictions import ranks_of, read_predictions
from wsol.protocols import LocalizationProtocol
from wsol.report import site
from wsol.runs import checkpoints
from wsol.types import Progress, no_progress

log = logging.getLogger("wsol")


@dataclass
class ReportRun:
    """A run in a report, with its dataset."""

    folder: Path
    settings: DictConfig
    split: Split
    source: Source
    evaluated: Path | None = None
    """Folder of the evaluation whose maps are shown."""


class Report(NamedTuple):
    """A report that was written."""

    folder: Path
    """Folder with ``index.html``."""
    images: int
    """Number of images in it."""


def report(folders: Sequence[Path], config: DictConfig, progress: Progress = no_progress) -> Report | None:
    """Write the report of some runs.

    Args:
        folders: folders of `wsol train`, or of `wsol eval save_maps=true`. A run without saved maps is evaluated first.
        config: config of `wsol report`.
        progress: called with the number of images that are written, and that are evaluated for each run.

    Returns:
        The report; None in additional processes that were started to make maps.

    Raises:
        InputError: a value out of its range, no such run, runs of different data, or a folder that exists already.
    """
    _check(folders, config)
    output = runs.OutputFolder("report", config.out, config.force)
    given = [_read(folder, config) for folder in folders]
    _one_dataset(given)
    protocol = _protocol(given[0], config)
    for one in given:
        one.evaluated = _with_maps(one, config)
        if one.evaluated is None:
            log.info("%s: no saved maps of the %s split; making them with its network", one.folder, config.split)
            one.evaluated = _make_maps(one, config, protocol)
    if not runs.is_first_process():  # this process was started to make maps
        return None
    names = _names(given)
    shown = [_shown(name, one, protocol, config) for name, one in zip(names, given, strict=True)]
    split = given[0].split
    if config.limit is not None and config.limit < len(split):
        positions = np.unique(np.linspace(0, len(split) - 1, config.limit).astype(int))
        shown, part = [_part(one, positions) for one in shown], split.subset(positions)
    else:
        part = split
    with output.writing(folders[0] / "report") as folder:
        site.write(
            folder,
            " and ".join(names) if len(names) < 3 else f"{len(names)} runs",
            part,
            given[0].source.classes,
            protocol,
            shown,
            picture_side=config.picture_side,
            whole=len(split),
            progress=lambda what, done: progress(what, done, len(part)),
        )
    return Report(output.folder, len(part))


def _check(folders: Sequence[Path], config: DictConfig) -> None:
    """Refuse settings that cannot work with any runs."""
    if not folders:
        raise InputError("no runs to report: name at least one run folder")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a run is named twice: name each once")
    if config.split not in ("test", "val"):
        raise InputError(f"split={config.split}: expected test or val")
    if config.limit is not None and config.limit < 1:
        raise InputError(f"limit: expected a number from 1, got {config.limit}")
    if not 32 <= config.picture_side <= 4096:
        raise InputError(f"picture_side: expected pixels from 32 to 4096, got {config.picture_side}")


def _read(folder: Path, config: DictConfig) -> ReportRun:
    """Return a run with its recorded dataset."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one that `wsol train` or `wsol eval` made")
    settings = runs.read_config(folder)
    OmegaConf.set_struct(settings, False)
    if settings.get("data") is None:
        raise InputError(f"{folder}: its config.yaml names no dataset; expected a folder that `wsol train` made")
    build.check_parts(settings, ("data", "protocol"), folder / "config.yaml", trust=config.trust)
    if config.data_dir is not None:
        before = settings.get("data_dir") or ""
        settings.data = {key: networks.rebase(value, before, config.data_dir) for key, value in settings.data.items()}
    source = build.build_source(settings, trust=config.trust, data_dir=config.data_dir)
    split = source.split(config.split)
    if not split.has_boxes:
        raise InputError(f"{folder}: the {config.split} split has no boxes to evaluate with; choose another split=...")
    return ReportRun(folder, settings, split, source)


def _one_dataset(given: Sequence[ReportRun]) -> None:
    """Refuse runs of different data."""
    first = given[0]
    for other in given[1:]:
        if other.split.fingerprint() != first.split.fingerprint() or other.source.classes != first.source.classes:
            raise InputError(
                f"{first.folder} and {other.folder} are runs of different data: their {first.split.name} splits have "
                f"{len(first.split):,} and {len(other.split):,} images, and ids, labels, boxes or classes differ; "
                "report them separately"
            )


def _protocol(first: ReportRun, config: DictConfig) -> LocalizationProtocol:
    chosen = build.build_protocols(config)
    if len(chosen) > 1:
        raise InputError(f"protocol: expected one protocol for the page, got {', '.join(chosen)}")
    found = chosen or build.build_protocols(first.settings, trust=config.trust)
    if not found:
        raise InputError(f"{first.folder}: evaluated under no protocol; choose one with protocol=..., such as cam2016")
    return next(iter(found.values()))


def _with_maps(one: ReportRun, config: DictConfig) -> Path | None:
    """Return the folder with the run's ``maps/<split>``: its own, or its newest evaluation of the same kind."""
    if (one.folder / "maps" / config.split).is_dir():
        return one.folder
    if not (one.folder / "checkpoints").is_dir():
        raise InputError(
            f"{one.folder}: neither maps of the {config.split} split nor checkpoints to make them with; name a folder "
            "of `wsol train`, or of `wsol eval save_maps=true`"
        )
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


def _make_maps(one: ReportRun, config: DictConfig, protocol: LocalizationProtocol) -> Path:
    """Evaluate the run like `wsol eval save_maps=true`, without tables, which the page has; return the new folder."""
    asked = compose("eval", ["save_maps=true", f"split={config.split}"])
    OmegaConf.set_struct(asked, False)
    asked.run = str(one.folder)
    for key in ("data_dir", "batch_size", "num_workers", "trust"):
        asked[key] = config[key]
    kept = one.settings.get("protocol") or {}
    asked.protocol = {**kept, **(config.protocol or {})}
    asked.choices.protocol = list(asked.protocol)
    try:
        return run_evaluation.run(asked)
    except NoMapsError as error:
        raise InputError(
            f"{one.folder}: gives boxes and has no maps, which the page shows; `wsol eval {one.folder}` writes the box "
            "of each image and its kind of error (per_image.csv), and pictures.png"
        ) from error


def _shown(name: str, one: ReportRun, protocol: LocalizationProtocol, config: DictConfig) -> site.ReportColumn:
    """Return maps, classes and metrics of a run."""
    assert one.evaluated is not None
    folder = one.evaluated / "maps" / one.split.name
    maps = open_maps(folder)
    absent = frozenset(saved_maps.check(maps, one.split, "count_as_miss", others=maps.ids))
    ranked, ranks = _classes(folder, one, absent)
    metrics = _metrics(one)
    if not any(row["protocol"] == protocol.name for row in metrics["localization"]):
        metrics["localization"] += _scored(one, protocol, maps, ranks)
    results = _results(one.folder)
    agnostic = ", class-agnostic" if any(row.get("class_agnostic") for row in metrics["localization"]) else ""
    facts = {
        "seed": results.get("seed", one.settings.get("seed")),
        "method": one.settings.choices.get("method"),
        "backbone": one.settings.choices.get("backbone"),
        "maps": (_results(one.evaluated).get("choices", {}).get("explainer") or "the network's own") + agnostic,
        "images without a map": len(absent),
    }
    kept = {word: value for word, value in facts.items() if value not in (None, 0) or word == "seed"}
    return site.ReportColumn(name, maps, ranked, ranks, metrics, kept)


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


def _names(given: Sequence[ReportRun]) -> list[str]:
    """Return the runs' names; equal names are extended by the differing part of the folders."""
    names = [str(one.settings.get("name") or one.folder.resolve().parent.name) for one in given]
    if len(set(names)) == len(names):
        return names
    absolute = [one.folder.resolve() for one in given]
    root = os.path.commonpath(absolute)
    below = [os.path.relpath(folder, root) for folder in absolute]
    return [name if path == "." else f"{name}, {path}" for name, path in zip(names, below, strict=True)]


def _part(shown: site.ReportColumn, positions: np.ndarray) -> site.ReportColumn:
    """Return a run's data for some images."""
    ranked = None if shown.ranked is None else shown.ranked[positions]
    return shown._replace(ranked=ranked, ranks=None if shown.ranks is None else shown.ranks[positions])
