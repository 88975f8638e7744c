"""The input of `wsol report`: runs of one dataset, each with its maps or boxes."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.config import build
from wsol.engine import networks
from wsol.errors import InputError
from wsol.protocols import LocalizationProtocol
from wsol.report import columns, site
from wsol.report.columns import ReportRun
from wsol.types import Progress, no_progress

log = logging.getLogger("wsol")


class Report(NamedTuple):
    """A report that was written."""

    folder: Path
    """Folder with ``index.html``."""
    images: int
    """Number of images in it."""


def report(folders: Sequence[Path], config: DictConfig, progress: Progress = no_progress) -> Report | None:
    """Write the report of some runs.

    Args:
        folders: folders of `wsol train`, of `wsol eval save_maps=true`, or of `wsol eval` of a network that gives
            boxes. A run without saved maps or boxes is evaluated first.
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
        one.evaluated = columns.find_evaluation(one, config)
        if one.evaluated is None:
            log.info("%s: no saved maps or boxes of the %s split; its network makes them", one.folder, config.split)
            one.evaluated = columns.evaluate(one, config)
    if not runs.is_first_process():  # this process was started to make maps
        return None
    names = _names(given)
    shown = [columns.column(name, one, protocol, config.trust) for name, one in zip(names, given, strict=True)]
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
    correct = {name: right[positions] for name, right in shown.correct.items()}
    return shown._replace(ranked=ranked, ranks=None if shown.ranks is None else shown.ranks[positions], correct=correct)
