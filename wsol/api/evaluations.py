"""Evaluations from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsol.api.networks import in_memory
from wsol.config.argument_overrides import (
    Overrides,
    data_overrides,
    key_overrides,
    known_choice,
    protocol_overrides,
)
from wsol.config.compose import compose
from wsol.data.pseudo_targets import Kind
from wsol.engine import run_evaluation
from wsol.errors import InputError
from wsol.models.localizer import Localizer
from wsol.runs.run import Run


def evaluate(
    run: Run | str | Path | Localizer,
    *,
    protocol: str | Sequence[str] | None = None,
    split: str = "test",
    data: str | None = None,
    root: str | Path | None = None,
    data_dir: str | Path | None = None,
    explainer: str | None = None,
    checkpoint: str = "best",
    save_maps: bool = False,
    out: str | Path | None = None,
    overrides: Overrides | None = None,
    config_dirs: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate a network on a split as `wsol eval` does.

    Args:
        run: a run of `fit`, a run folder, or a checkpoint (.ckpt, .safetensors).
        protocol: names of the localization protocols; None for those of the run.
        split: ``test`` or ``val``.
        data: another dataset than the run's, see `fit`.
        root: folder of that dataset.
        data_dir: folder of all datasets.
        explainer: attribution method that makes the maps, see `list_explainers`; None for the network's own.
        checkpoint: checkpoint of a run folder: ``best``, ``last``, or a file's name.
        save_maps: save the maps beside the results.
        out: folder of the results; None for a new one below the run's.
        overrides: more keys of ``wsol eval``, such as ``{"topk": [1]}``.
        config_dirs: folders of the user's own configs.

    Returns:
        The content of results.json: ``localization`` (a list of rows with ``split``, ``protocol`` and
        ``threshold_origin``; those of val, where thresholds are chosen, come first), ``classification``, and the
        settings used.

    Raises:
        InputError: see `fit`, or no such run.
    """
    if overrides and overrides.get("pseudo"):
        raise InputError(f"pseudo={overrides['pseudo']}: nothing is evaluated then; use wsol.write_pseudo_targets")
    keys = {"split": split, "data_dir": data_dir, "checkpoint": checkpoint, "save_maps": save_maps, "out": out}
    given = [*_data(data, root, config_dirs), *protocol_overrides(protocol, config_dirs)]
    return Run(_evaluated(run, given, explainer, {**keys, **(overrides or {})}, config_dirs)).results


def write_pseudo_targets(
    run: Run | str | Path | Localizer,
    kind: Kind = "boxes",
    *,
    protocol: str | None = None,
    pseudo_boxes: str | Path | None = None,
    data: str | None = None,
    root: str | Path | None = None,
    data_dir: str | Path | None = None,
    explainer: str | None = None,
    checkpoint: str = "best",
    out: str | Path | None = None,
    overrides: Overrides | None = None,
    config_dirs: Sequence[str] = (),
) -> Path:
    """Write what a network finds in its training images, as `wsol eval split=train pseudo=boxes` does.

    Args:
        run: see `evaluate`.
        kind: ``boxes`` or ``masks``.
        protocol: name of the protocol that makes the boxes or masks; None for the run's first one.
        pseudo_boxes: file or folder of boxes of the val split that nobody drew, to choose the threshold with; see
            `wsol.engine.pseudo_boxes`.
        data: another dataset than the run's, see `fit`.
        root: folder of that dataset.
        data_dir: folder of all datasets.
        explainer: attribution method that makes the maps, see `list_explainers`; None for the network's own.
        checkpoint: checkpoint of a run folder: ``best``, ``last``, or a file's name.
        out: folder of the targets; None for a new one below the run's.
        overrides: more keys of ``wsol eval``.
        config_dirs: folders of the user's own configs.

    Returns:
        The folder. A second network learns from it with ``fit(..., overrides={"pseudo": folder})``.

    Raises:
        InputError: see `evaluate`, or there is no threshold that may be used.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from wsol.api.networks import create_localizer
        >>> net = create_localizer("tiny", num_classes=8)
        >>> small = {"data.train_images": 16, "data.val_images": 8, "data.test_images": 8}
        >>> with TemporaryDirectory() as place:
        ...     own = {"data": "creatures", "data_dir": place, "overrides": small}
        ...     folder = write_pseudo_targets(net, "boxes", protocol="cam2016", out=f"{place}/out", **own)
        ...     sorted(file.name for file in folder.glob("[a-b]*"))
        ['about.json', 'boxes.csv']
    """
    keys = {"split": "train", "pseudo": kind, "pseudo_boxes": pseudo_boxes}
    keys |= {"data_dir": data_dir, "checkpoint": checkpoint, "out": out}
    given = [*_data(data, root, config_dirs), *protocol_overrides(protocol, config_dirs)]
    return _evaluated(run, given, explainer, {**keys, **(overrides or {})}, config_dirs)


def _data(data: str | None, root: str | Path | None, config_dirs: Sequence[str]) -> list[str]:
    """Return the overrides for another dataset than the run's; none if no dataset is given."""
    if data is None and root is not None:
        raise InputError("root=... requires data=...; for a dataset that has moved, set data_dir=...")
    return [] if data is None else data_overrides(data, root, config_dirs)


def _evaluated(
    run: Run | str | Path | Localizer,
    given: Sequence[str],
    explainer: str | None,
    keys: Mapping[str, Any],
    config_dirs: Sequence[str],
) -> Path:
    """Do what `wsol eval` does and return the folder that it wrote."""
    words = [] if explainer is None else [f"explainer={known_choice('explainer', explainer, config_dirs)}"]
    place = None if isinstance(run, Localizer) else run.folder if isinstance(run, Run) else run
    config = compose("eval", [*given, *words, *key_overrides({"run": place, **keys})], config_dirs)
    return run_evaluation.run(config, in_memory(run) if isinstance(run, Localizer) else None)
