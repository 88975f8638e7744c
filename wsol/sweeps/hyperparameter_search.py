"""A hyperparameter search from its settings to its result, as `wsol sweep` runs it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wsol.config import schema
from wsol.config.compose import check_resolves, compose, groups, override
from wsol.errors import InputError, first_line, unknown
from wsol.sweeps.search_space import Dimension, check_group_choices, read_space
from wsol.sweeps.study import SweepStudy
from wsol.sweeps.worker import Sweep, work

COMPOSED = 8
"""Number of rows of values composed before the first trial; longer choices are sampled evenly, ends included."""
OWN = ("run_dir", "resume", "monitor")
"""Keys of `wsol train` that each trial sets itself."""


def search(
    overrides: Sequence[str] = (),
    *,
    sweep: str = "lr",
    config_dirs: Sequence[str] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Search hyperparameters, or continue a search; returns the content of sweep.json.

    With several workers, call it below ``if __name__ == "__main__":``, because they are processes that import the
    program.

    Args:
        overrides: overrides of `wsol train` for all trials, such as ``["data=cub", "method=acol"]``.
        sweep: a choice of the group ``sweep``, which the settings override.
        config_dirs: folders of the user's own configs.
        settings: keys of `wsol.config.schema_parts.Search`, such as ``trials=3``, ``folder="found"`` or
            ``space={"optim.optimizer.lr": {"log": [1e-4, 1.0]}}``.

    Raises:
        InputError: unknown keys, values that cannot be searched over, or no completed trial.

    Example:
        >>> search(trials=0)
        Traceback (most recent call last):
        wsol.errors.InputError: sweep.trials=0: expected a positive number
    """
    chosen = read_settings([override("sweep", sweep)], config_dirs, settings)
    every = [*chosen["overrides"], *overrides]
    return run(chosen, every, config_dirs, check(chosen, every, config_dirs))


def read_settings(
    own: Sequence[str], config_dirs: Sequence[str] = (), changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the keys of `wsol.config.schema_parts.Search`, and the ``choice`` that they come from.

    Args:
        own: overrides of the sweep's config, ``sweep=...`` and ``sweep.KEY=...``.
        config_dirs: folders of the user's own configs.
        changes: keys set after these.
    """
    config = compose("sweep", own, config_dirs)
    for key, value in (changes or {}).items():
        if key not in config.sweep:
            raise unknown("key of a sweep", key, [str(each) for each in config.sweep])
        if key == "space":  # checked by `read_space`, which reports more
            continue
        try:
            OmegaConf.update(config.sweep, key, str(value) if isinstance(value, Path) else value, merge=False)
        except OmegaConfBaseException as error:
            raise InputError(f"sweep.{key}={value!r}: {first_line(error)}") from error
    space = {"space": changes["space"]} if changes and "space" in changes else {}
    return {**settings_of(config), **space}


def settings_of(config: DictConfig) -> dict[str, Any]:
    """Return the keys of `wsol.config.schema_parts.Search` in a composed config, and its ``choice`` of sweep."""
    plain = OmegaConf.to_container(config.sweep, resolve=True)
    assert isinstance(plain, dict)
    return {**{str(key): value for key, value in plain.items()}, "choice": config.choices.sweep}


def metric_mode(metric: str) -> str:
    """Return ``min`` or ``max`` for a metric of the val split.

    Raises:
        InputError: it belongs to another split.
    """
    if not metric.startswith("val/"):
        raise InputError(
            f"sweep.metric={metric}: nothing is chosen on the test split or on training images; "
            "use a metric of the val split, such as val/top1_error"
        )
    return "min" if metric.endswith(("error", "loss")) else "max"


def check(settings: Mapping[str, Any], overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> DictConfig:
    """Refuse a search that cannot work before its first trial; returns the config of `wsol train` without the space.

    Raises:
        InputError: the reason.
    """
    metric_mode(settings["metric"])
    for key in ("trials", "workers"):
        if settings[key] < 1:
            raise InputError(f"sweep.{key}={settings[key]}: expected a positive number")
    space = read_space(settings["space"])
    searched = {dimension.key.lstrip("+") for dimension in space}
    if own := searched & set(OWN):
        raise InputError(f"sweep.space.{min(own)}: each trial sets this key itself; remove it")
    for word in overrides:
        key = word.partition("=")[0].lstrip("+~")
        if key in searched:
            raise InputError(f"{word}: that key is searched over; leave it out, or remove it from sweep.space")
        if key in OWN:
            raise InputError(f"{word}: each trial sets this key itself; leave it out (sweep.metric is monitored)")
    check_group_choices(space, groups(config_dirs))
    _check_types(space)
    for row in _rows(space):
        compose("train", [*overrides, *row], config_dirs)
    return compose("train", overrides, config_dirs)


def _rows(space: Sequence[Dimension]) -> list[list[str]]:
    """Return overrides that together use the values of every key, including the first and last of long choices."""
    rows = min(COMPOSED, max(len(dimension.values) for dimension in space))

    def value(dimension: Dimension, row: int) -> Any:
        """Return the value of a dimension in a row; rows repeat short choices and spread over long ones."""
        count = len(dimension.values)
        return dimension.values[row % count if count <= rows else row * (count - 1) // (rows - 1)]

    return [[each.override_of(value(each, row)) for each in space] for row in range(rows)]


def _check_types(space: Sequence[Dimension]) -> None:
    """Refuse values whose type a key does not accept; those of long choices are not composed one by one."""
    typed = OmegaConf.structured(schema.VERBS["train"])
    for dimension in space:
        key = dimension.key.lstrip("+")
        if len(dimension.values) <= COMPOSED or key not in typed or dimension.template != "{}":
            continue
        for value in dimension.values:
            try:
                typed[key] = value
            except OmegaConfBaseException as error:
                raise InputError(f"sweep.space.{dimension.key}: {value!r}: {first_line(error)}") from error


def _check_devices(config: DictConfig) -> None:
    """Refuse trials with several processes: they could not be pruned or taken over as a unit."""
    check_resolves(config)
    devices = config.trainer.devices
    single = len(devices) == 1 if isinstance(devices, ListConfig) else str(devices) == "1"
    if config.trainer.num_nodes != 1 or not single:
        raise InputError(
            "a trial of wsol sweep runs on one device: set trainer.devices=1. For several devices, set "
            "sweep.workers=...; for several machines, run the same command on each; trials on several devices need "
            "wsol sweep --wandb"
        )


def run(
    settings: Mapping[str, Any], overrides: Sequence[str], config_dirs: Sequence[str], config: DictConfig
) -> dict[str, Any]:
    """Run all trials that have not ended, evaluate the best one if requested; returns the content of sweep.json.

    Args:
        settings: keys of `wsol.config.schema_parts.Search` and ``choice``.
        overrides: overrides of `wsol train` for all trials.
        config_dirs: folders of the user's own configs.
        config: the result of `check`.

    Raises:
        InputError: no completed trial, or the search cannot continue.
    """
    _check_devices(config)
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise InputError(f"{missing[0]} is not set: add {missing[0]}=... (wsol train --help says what it takes)")
    folder = Path(settings["folder"] or Path(config.runs_dir) / _name(config, settings)).resolve()
    mode = metric_mode(settings["metric"])
    sweep = Sweep(str(folder), settings, tuple(overrides), tuple(config_dirs), mode, config.trainer.max_epochs)
    study = sweep.study(_identity(settings, config))
    if (folder / "test" / "results.json").exists() and not study.is_done():
        raise InputError(
            f"{folder}: its best trial was already evaluated on the test split; more trials would be chosen with "
            "knowledge of it. Start another search with another sweep.folder"
        )
    return finish(sweep, study)


def finish(sweep: Sweep, study: SweepStudy) -> dict[str, Any]:
    """Run the unfinished trials of a study, and write its summary; see `run`."""
    from wsol.sweeps.processes import run_workers

    settings, folder = sweep.settings, study.folder
    print(f"{folder}: {settings['trials']} trials, {settings['workers']} workers", file=sys.stderr, flush=True)
    failed = False
    if not study.is_done():
        if settings["workers"] == 1:
            work(sweep, study)
        else:
            failed = not run_workers(sweep, settings["workers"])
    if failed and not study.is_done():
        raise InputError(f"{folder}: workers stopped before all trials were run; repeat the command to continue")
    from wsol.sweeps import summary

    content = summary.write(sweep, study)
    if settings["test"]:
        config = compose("train", sweep.overrides, sweep.config_dirs)
        _evaluate_test(study, Path(content["best"]["run"]), config.pseudo_boxes)
    return content


def _identity(settings: Mapping[str, Any], config: DictConfig) -> dict[str, Any]:
    """Return what identifies the search."""
    from wsol.tables.collect import comparable

    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    same = {key: settings[key] for key in ("space", "metric", "sampler", "pruner", "warmup_epochs", "seed")}
    return {**same, "config": comparable({str(key): value for key, value in plain.items()})}


def _name(config: DictConfig, settings: Mapping[str, Any]) -> str:
    named = config.name or "-".join(str(config.choices[group]) for group in ("data", "method", "backbone"))
    return f"sweep-{settings['choice']}-{named}".replace("/", "_")


def _evaluate_test(study: SweepStudy, run_folder: Path, pseudo_boxes: str | None) -> None:
    """Evaluate the best trial on the test split, unless this is done or another machine is doing it."""
    given = {"run": str(run_folder), "out": str(study.folder / "test"), "pseudo_boxes": pseudo_boxes}
    out = study.folder / "test"
    while not (out / "results.json").exists():
        attempt = study.attempts.take("test")
        if attempt is None:
            time.sleep(1)
            continue
        try:
            from wsol.engine import run_evaluation

            run_evaluation.run(compose("eval", [override(key, value) for key, value in given.items()]))
        finally:
            attempt.end("left")
