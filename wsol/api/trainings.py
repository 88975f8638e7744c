"""Trainings from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from wsol.api.networks import recipe, with_recipe
from wsol.config.argument_overrides import Overrides, data_overrides, key_overrides, protocol_overrides
from wsol.config.compose import compose
from wsol.engine import box_regression, training
from wsol.models.localizer import Localizer
from wsol.runs.run import Run


def fit(
    localizer: Localizer,
    data: str = "creatures",
    *,
    root: str | Path | None = None,
    data_dir: str | Path | None = None,
    protocol: str | Sequence[str] | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    overrides: Overrides | None = None,
    callbacks: Sequence[pl.Callback] = (),
    config_dirs: Sequence[str] = (),
) -> Run:
    """Train a network as `wsol train` does, and evaluate its best checkpoint.

    Args:
        localizer: made by `create_localizer`; it is trained in place and has the weights of the last epoch afterwards.
        data: name of a dataset, see `list_datasets`; or a folder with a folder of images for each class.
        root: folder of the dataset; None for its default below ``data_dir``.
        data_dir: folder of all datasets.
        protocol: names of the localization protocols.
        max_epochs: number of epochs.
        batch_size: number of images per step.
        seed: seed of all randomness; None for the one of `create_localizer`.
        name: name of the run.
        run_dir: folder of the run; None for a new one below ``runs``.
        resume: continue a run of the same config.
        overrides: more keys of ``wsol train``, such as ``{"optim.optimizer.lr": 0.01}``.
        callbacks: Lightning callbacks in addition to those of every run.
        config_dirs: folders of the user's own configs.

    Returns:
        The finished run: its folder, results and checkpoints.

    Raises:
        InputError: an unknown name, key or value, data that cannot be read, or a network with another number of
            classes.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from wsol.api.networks import create_localizer
        >>> net = create_localizer("tiny", num_classes=8)
        >>> small = {"data.train_images": 16, "data.val_images": 8, "data.test_images": 8}
        >>> with TemporaryDirectory() as place:
        ...     run = fit(net, data_dir=place, run_dir=f"{place}/run", max_epochs=1, overrides=small)
        ...     sorted(run.results["classification"]["test"])
        ['top1_error', 'top5_error']
    """
    places = {"data_dir": data_dir, "name": name, "run_dir": run_dir, "resume": resume or None}
    keys = _keys(max_epochs, batch_size, seed, places, overrides)
    given = [*data_overrides(data, root, config_dirs), *protocol_overrides(protocol, config_dirs)]
    config = _config("train", localizer, given, keys, config_dirs)
    return Run(training.run(config, callbacks=callbacks, localizer=localizer))


def regress(
    regressor: Localizer,
    data: str = "creatures",
    *,
    localizer: Run | str | Path | None = None,
    localizer_train: Overrides | None = None,
    localizer_eval: Overrides | None = None,
    classes: Run | str | Path | None = None,
    root: str | Path | None = None,
    data_dir: str | Path | None = None,
    protocol: str | Sequence[str] | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    overrides: Overrides | None = None,
    callbacks: Sequence[pl.Callback] = (),
    config_dirs: Sequence[str] = (),
) -> Run:
    """Train a network on the pseudo targets of another one as `wsol regress` does: PSOL, and C2AM's second stage.

    Args:
        regressor: network that learns from pseudo targets: ``create_localizer("resnet50", method="psol", ...)``; it is
            trained in place. The arguments from ``root`` on are those of its training, see `fit`.
        data: dataset of both networks, see `fit`.
        localizer: run or checkpoint whose network finds the targets; None trains one.
        localizer_train: keys of ``wsol train`` for the localizer that is trained, such as
            ``{"method": "acol", "backbone": "vgg16"}``.
        localizer_eval: keys of ``wsol eval`` for the targets, such as ``{"protocol": ["cam2016"]}``. With
            ``{"model": "timm", "name": ..., "explainer": "lost"}`` a pretrained network finds them.
        classes: run or file whose classes are borrowed; None for the regressor's own, or else the localizer's.
        root: folder of the dataset.
        data_dir: folder of all datasets.
        protocol: names of the localization protocols.
        max_epochs: number of epochs.
        batch_size: number of images per step.
        seed: seed of both networks' randomness.
        name: name of the run.
        run_dir: folder of the run.
        resume: continue a run of the same config at the stage where it stopped.
        overrides: more keys of ``wsol regress``.
        callbacks: Lightning callbacks of the regressor's training.
        config_dirs: folders of the user's own configs.

    Returns:
        The finished run. Its results are those of the regressor, with the facts of the earlier stages.

    Raises:
        InputError: see `fit`; or a method that learns without pseudo targets, or keys that both networks share in
            ``localizer_train``.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from wsol.api.networks import create_localizer
        >>> net = create_localizer("tiny", method="psol", num_classes=8)
        >>> small = {"data.train_images": 16, "data.val_images": 8, "data.test_images": 8}
        >>> with TemporaryDirectory() as place:
        ...     first = {"trainer.max_epochs": 1}
        ...     run = regress(
        ...         net, data_dir=place, run_dir=f"{place}/run", max_epochs=1, localizer_train=first, overrides=small
        ...     )
        ...     run.results["pseudo"]["kind"], run.results["stages"]["evaluation"]
        ('boxes', 'evaluation')
    """
    places = {"data_dir": data_dir, "name": name, "run_dir": run_dir, "resume": resume or None}
    keys = _keys(max_epochs, batch_size, seed, places, overrides)
    keys |= {"localizer.run": _path(localizer), "classes": _path(classes)}
    stages = {"localizer.train": localizer_train, "localizer.eval": localizer_eval}
    keys |= {key: key_overrides(own) for key, own in stages.items() if own}
    given = [*data_overrides(data, root, config_dirs), *protocol_overrides(protocol, config_dirs)]
    config = _config("regress", regressor, given, keys, config_dirs)
    config.config_dirs = list(config_dirs)
    return Run(box_regression.run(config, regressor=regressor, callbacks=callbacks))


def _keys(
    max_epochs: int | None,
    batch_size: int | None,
    seed: int | None,
    places: Mapping[str, Any],
    overrides: Overrides | None,
) -> dict[str, Any]:
    """Return the keys of `wsol train` for the arguments that all trainings have; ``overrides`` come last."""
    lengths = {"trainer.max_epochs": max_epochs, "loader.batch_size": batch_size, "seed": seed}
    return {**lengths, **places, **(overrides or {})}


def _config(
    verb: str, localizer: Localizer, given: Sequence[str], keys: Mapping[str, Any], config_dirs: Sequence[str]
) -> DictConfig:
    """Return the config of a verb that trains a network, with the network's own backbone, method and seed."""
    own = recipe(localizer)
    words = [*given, *key_overrides({"seed": own["seed"]}), *key_overrides(keys)]
    return with_recipe(compose(verb, words, config_dirs), own)


def _path(run: Run | str | Path | None) -> str | Path | None:
    return run.folder if isinstance(run, Run) else run
