"""Pseudo boxes and a box regressor (`wsol regress`): a second network learns to predict a localizer's boxes.

Zhang et al. 2020, "Rethinking the Route Towards Weakly Supervised Object Localization" (PSOL), and the second stage of
C2AM (Xie et al. 2022)::

    <run>/localizer/    a run of `wsol train`, unless an existing run or an explainer of any network finds the boxes
    <run>/pseudo/       its boxes of the training images, as `wsol eval split=train pseudo=boxes` writes them
    <run>/regressor/    a run of `wsol train` that learns from them: the run's own config, method=psol by default
    <run>/evaluation/   the regressor with borrowed classes, if it does not classify
    <run>/results.json  of the evaluation, or else of the regressor; ``stages`` records the localizer and its boxes

Heads that learn from pseudo masks get masks.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.config import build
from wsol.config.compose import compose, override
from wsol.engine import networks, run_evaluation, stages, training
from wsol.engine.module import check_pseudo
from wsol.errors import InputError
from wsol.models.localizer import Localizer
from wsol.runs.outputs import MARKER

log = logging.getLogger("wsol")

SHARED = (
    "data_dir",
    "runs_dir",
    "seed",
    "loader.val_per_class",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.num_nodes",
)
"""Keys that both trainings share, in addition to the dataset."""
OWN = ("localizer", "classes", "config_dirs")
"""Keys of `wsol regress` beyond those of `wsol train`."""


def run(
    config: DictConfig,
    on_stage: Callable[[Path], None] = lambda folder: None,
    *,
    regressor: Localizer | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> Path:
    """Complete the stages under a composed config of `wsol regress`.

    Args:
        config: config of the verb.
        on_stage: called with the folder of each training after it, when results.json exists.
        regressor: the second network, made from the config's backbone and method; None to make one.
        callbacks: callbacks of the regressor's training in addition to those of every run.

    Returns:
        The run folder, with results.json.

    Raises:
        InputError: a value out of its range, a method that learns without pseudo targets, or processes that were
            started externally.
    """
    _check(config)
    kind = _kind(config)

    def train(place: Path) -> Path:
        """Train the stage whose folder this is: the localizer or the regressor."""
        if place.name == "localizer":
            return training.run(localizer_settings(config, place.parent))
        return training.run(regressor_settings(config, place.parent), callbacks=callbacks, localizer=regressor)

    return stages.run(config, "regress", train, lambda folder: _complete(config, folder, kind, train, on_stage))


def _check(config: DictConfig) -> None:
    if config.pseudo is not None:
        raise InputError(
            f"pseudo={config.pseudo}: wsol regress makes the pseudo targets; to use existing ones, run wsol train"
        )
    if (config.localizer.run is not None or _names(config.localizer.eval, "model")) and config.localizer.train:
        raise InputError(
            "localizer.train: no localizer is trained if localizer.run or model=... is given; leave it out"
        )
    for word in config.localizer.train:
        if (key := _key(word)) in ("data", "run_dir", "resume", *SHARED) or key.startswith("data."):
            raise InputError(f"localizer.train: {word}: both networks share {key}; set it outside localizer.train")
    for word in config.localizer.eval:
        if (key := _key(word)) in ("run", "split", "pseudo", "out", "force"):
            raise InputError(f"localizer.eval: {word}: wsol regress sets {key} itself; leave it out")


def _kind(config: DictConfig) -> str:
    """Return the pseudo targets that the method learns from."""
    source = build.build_source(config)
    head = build.build_localizer(config, source.classes, load_weights=False).head
    check_pseudo(head, head.pseudo or "boxes")
    return str(head.pseudo)


def localizer_settings(config: DictConfig, folder: Path) -> DictConfig:
    """Return the config of `wsol train` of the localizer."""
    words = [f"data={config.choices.data}", *config.localizer.train]
    settings = compose("train", words, config.config_dirs)
    OmegaConf.set_struct(settings, False)
    settings.data = config.data
    for key in SHARED:
        OmegaConf.update(settings, key, OmegaConf.select(config, key))
    settings.name, settings.run_dir, settings.resume = f"{config.name}-localizer", str(folder / "localizer"), True
    training.prepare(settings)
    return settings


def regressor_settings(config: DictConfig, folder: Path) -> DictConfig:
    """Return the config of `wsol train` of the regressor."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    own: dict[str, Any] = {str(k): v for k, v in plain.items() if k not in OWN}
    own |= {"name": f"{config.name}-regressor", "run_dir": str(folder / "regressor"), "resume": True}
    return OmegaConf.create(own | {"pseudo": str((folder / "pseudo").resolve())})


def _complete(
    config: DictConfig, folder: Path, kind: str, train: Callable[[Path], Path], on_stage: Callable[[Path], None]
) -> None:
    """Complete the remaining stages in a run folder."""
    finds = _finder(config, folder)
    if finds == folder / "localizer":
        stages.train_stage(train, finds, on_stage)
    if not (folder / "pseudo" / "about.json").exists():
        log.info("%s of the training images", kind)
        run_evaluation.run(pseudo_settings(config, folder, kind, finds))
    stages.train_stage(train, folder / "regressor", on_stage)
    classes = _classes(config, folder, finds)
    evaluated = folder / "regressor"
    if classes is not None:
        evaluated = folder / "evaluation"
        if not stages.is_finished(evaluated):
            log.info("the regressor with classes of %s", classes)
            words = [override("run", folder / "regressor"), override("classes", classes), f"topk={list(config.topk)}"]
            run_evaluation.run(_alone(config, words, evaluated))
    _write_results(config, folder, evaluated)


def _finder(config: DictConfig, folder: Path) -> Path | None:
    """Return the run whose network finds the pseudo targets; None for a network named by ``model=``."""
    if _names(config.localizer.eval, "model"):
        if config.localizer.run is not None:
            raise InputError("set localizer.run=... or model=... in localizer.eval, not both")
        return None
    return folder / "localizer" if config.localizer.run is None else Path(config.localizer.run)


def pseudo_settings(config: DictConfig, folder: Path, kind: str, finds: Path | None) -> DictConfig:
    """Return the config of `wsol eval` that writes the pseudo targets of the dataset that the regressor learns from."""
    words = [f"data={config.choices.data}"] if finds is None else [override("run", finds)]
    words += [override("data_dir", config.data_dir), "split=train", f"pseudo={kind}", *config.localizer.eval]
    settings = _alone(config, words, folder / "pseudo")
    settings.data, settings.choices.data = config.data, config.choices.data
    return settings


def _alone(config: DictConfig, words: Sequence[str], out: Path) -> DictConfig:
    """Return a config of `wsol eval` in this process, on one device, without a logger."""
    settings = compose("eval", [*words, override("out", str(out))], config.config_dirs)
    OmegaConf.set_struct(settings, False)
    alone = {"accelerator": config.trainer.accelerator, "devices": 1, "num_nodes": 1, "strategy": "auto"}
    settings.trainer = {**settings.trainer, **alone}
    return settings


def _classes(config: DictConfig, folder: Path, finds: Path | None) -> str | None:
    """Return the run or file of the borrowed classes; None if the regressor classifies or no run has classes."""
    if config.classes is not None:
        return str(config.classes)
    if any(stages.results(folder / "regressor")["classification"].values()) or finds is None:
        return None
    network = networks.find(compose("eval", [override("run", finds)]), "wsol regress localizer.run=<run>")
    return str(finds) if network.localizer.classifies else None


def _write_results(config: DictConfig, folder: Path, evaluated: Path) -> None:
    """Write the results of the last stage as those of the run, with the facts of the earlier stages."""
    about = json.loads((folder / "pseudo" / "about.json").read_text(encoding="utf-8"))
    content = stages.results(evaluated)
    made = {"localizer": about["network"], "pseudo": about, "regressor": "regressor", "evaluation": evaluated.name}
    for file in evaluated.iterdir():
        if file.is_file() and file.suffix in (".csv", ".npz", ".png") and file.name != MARKER:
            shutil.copy(file, folder)
    runs.write_results(folder, {**content, "name": config.name, "pseudo": about, "stages": made})


def _names(words: Sequence[str], key: str) -> bool:
    return any(_key(word) == key for word in words)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
