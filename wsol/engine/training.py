"""Training: build, fit, evaluate the best checkpoint, write results.json into the run folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint

from wsol import runs
from wsol.callbacks.checkpoints import CheckpointWithinEpoch
from wsol.callbacks.nan import StopOnNaN
from wsol.callbacks.progress import EpochLines
from wsol.callbacks.progress_line import ProgressLine
from wsol.config import build
from wsol.config.trainer_warnings import intended_ignored
from wsol.data.class_names import first_other
from wsol.data.module import LocalizationData
from wsol.data.pseudo_targets import pseudo_digest
from wsol.data.source import Source
from wsol.engine import charts, split_results
from wsol.engine.class_weights import class_weights
from wsol.engine.evaluation import SplitEvaluation
from wsol.engine.gathering import gathered
from wsol.engine.module import LocalizerModule, check_pseudo
from wsol.errors import Diverged, InputError, plain_interruptions
from wsol.loggers.metrics_csv import MetricsCsv
from wsol.models.compilation import compile_network
from wsol.models.localizer import Localizer
from wsol.runs import checkpoints
from wsol.runs.checkpoint_io import BEST, LAST, WholeCheckpointIO, remove_partial, resume_point

log = logging.getLogger("wsol")

DEFAULT_MONITOR = "val/top1_error"
"""Of a network that classifies."""


def run(
    config: DictConfig,
    *,
    callbacks: Sequence[pl.Callback] = (),
    splits: Sequence[str] = ("val", "test"),
    localizer: Localizer | None = None,
) -> Path:
    """Train under a composed config, or resume a training; returns the run folder with results.json.

    Args:
        config: config of the verb.
        callbacks: callbacks in addition to those of every run.
        splits: splits to evaluate at the end; a search omits ``test``.
        localizer: network to train, made from the config's backbone and method; None to make one.
    """
    prepare(config)
    folder, resuming = runs.open_folder(config)
    try:
        if (folder / "results.json").exists():
            log.info("%s is finished; its results:", folder)
            return folder
        handler = runs.start_log(folder)
        try:
            with runs.announced(folder):
                train(config, folder, resuming, callbacks, splits, localizer)
        except InputError:
            if not resuming:
                runs.discard(folder)
            raise
        except (KeyboardInterrupt, Diverged, OSError) as error:
            error.add_note(left_behind(folder))
            raise
        finally:
            runs.stop_log(handler)
    finally:
        runs.unlock(folder)
    return folder


def left_behind(folder: Path) -> str:
    """Describe what an interrupted training leaves in its run folder."""
    kept = [name for name in (LAST, BEST) if (folder / "checkpoints" / name).exists()]
    if not kept:
        return f"{folder} has no checkpoint yet"
    return f"{folder} keeps {' and '.join(f'checkpoints/{name}' for name in kept)}"


def prepare(config: DictConfig) -> None:
    """Fill in defaults that depend on other keys, and refuse settings that no dataset can work with."""
    if config.name is None:
        config.name = "-".join(str(config.choices[group]).replace("/", "_") for group in ("data", "method", "backbone"))
    if Path(config.name).is_absolute() or ".." in Path(config.name).parts:
        raise InputError(f"name={config.name}: expected a folder below runs_dir; run_dir=... names another folder")
    if config.monitor is not None and config.monitor.startswith("test"):
        raise InputError(
            f"monitor={config.monitor}: nothing is chosen on the test split; use a metric of the val split"
        )
    if config.memory_format not in ("auto", "channels_last", "contiguous"):
        raise InputError(f"memory_format={config.memory_format}: expected auto, channels_last or contiguous")
    if config.on_nan not in ("stop", "continue"):
        raise InputError(f"on_nan={config.on_nan}: expected stop or continue")
    if config.checkpoint_every_steps is not None and config.checkpoint_every_steps < 1:
        raise InputError(f"checkpoint_every_steps={config.checkpoint_every_steps}: expected a number from 1, or null")
    epochs = config.trainer.max_epochs
    if not isinstance(epochs, int) or epochs < 1:
        raise InputError(f"trainer.max_epochs={epochs}: expected a positive number of epochs")
    if not 0 <= config.seed < 2**32:
        raise InputError(f"seed={config.seed}: expected a whole number from 0 to {2**32 - 1}")


def train(
    config: DictConfig,
    folder: Path,
    resuming: bool,
    callbacks: Sequence[pl.Callback] = (),
    splits: Sequence[str] = ("val", "test"),
    localizer: Localizer | None = None,
) -> None:
    """Fit, evaluate and write the results into ``folder``; see `run`."""
    started = time.perf_counter()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    source = build.build_source(config)
    config = config.copy()
    config.topk = list(split_results.fitting_topk(config.topk, len(source.classes)))
    _record_data(config, folder, source)
    localizer = build.build_localizer(config, source.classes) if localizer is None else _prepared(localizer, source)
    if not localizer.classifies:
        _without_classes(config)
    if config.compile:
        compile_network(localizer)
    data = build.build_data(
        config, source, localizer.backbone.preprocessing, seed=config.seed, pseudo=config.get("pseudo")
    )
    localizer.head.weigh_classes(class_weights(config.class_weights, data.split("train"), source.classes))
    if (side := train_size(data)) is not None:
        localizer.backbone.check_size(side, side)
    module = _module(config, localizer, data)
    _check_pseudo(config, module, data)
    keep = max(split_results.PICTURES, config.logger.get("images", 0) if config.logger else 0)
    evaluated = partial(split_results.evaluations, config, data, gives_boxes=localizer.gives_boxes)
    evaluations = evaluated(splits, baselines=True, keep=keep)
    trainer, start = _trainer(config, folder, resuming, evaluations, callbacks)
    data.share_of_process(trainer.world_size)
    log.info("run folder %s", folder)
    log.info("%s", describe(config, data, localizer, trainer))
    module.set_evaluations(evaluated(("val",), baselines=False).values())
    fit(trainer, module, datamodule=data, **start)
    evaluate_best(config, folder, trainer, module, data, evaluations, started)


def _record_data(config: DictConfig, folder: Path, source: Source) -> None:
    """Record which data the run learns from, or refuse other data than that of an earlier start."""
    if runs.is_first_process():
        known = {name: source.split(name).fingerprint() for name in source.splits}
        if config.get("pseudo") is not None:
            known["pseudo"] = pseudo_digest(config.pseudo)
        runs.record_data(folder, known)


def _check_pseudo(config: DictConfig, module: LocalizerModule, data: LocalizationData) -> None:
    """Refuse pseudo targets that the network cannot learn from, or none where it needs them."""
    check_pseudo(module.localizer.head, None if data.pseudo is None else data.pseudo.kind)
    if data.pseudo is None:
        return
    log.info("%s", describe_pseudo(data.pseudo.about))
    if mixing := module.mixing_transforms():
        raise InputError(
            f"pseudo={config.pseudo}: {', '.join(mixing)} mixes images, which have no common box or mask; leave it out "
            "of method.batch_transforms"
        )


def _trainer(
    config: DictConfig,
    folder: Path,
    resuming: bool,
    evaluations: Mapping[str, SplitEvaluation],
    callbacks: Sequence[pl.Callback],
) -> tuple[pl.Trainer, dict[str, Any]]:
    """Return the trainer of a run folder, and the arguments of `fit` with which it goes on where the run stopped."""
    csv_files = MetricsCsv(folder / "metrics.csv"), MetricsCsv(folder / "steps.csv", of_steps=True)
    point = resume_point(folder) if resuming else None
    writer = WholeCheckpointIO(keep_last=point is None or point.is_last)
    logged = evaluations["val"].names() if "val" in evaluations else ()
    listening = [*build.build_callbacks(config, logged), *callbacks]
    trainer = make_trainer(config, folder, csv_files, _monitor(config, evaluations), listening, writer)
    if resuming:
        if runs.is_first_process():
            remove_partial(folder)
        for file in csv_files:
            file.restart(point.step if point else 0)
    if point is None:
        return trainer, {}
    log.info("resuming %s after step %d", folder, point.step)
    return trainer, {"ckpt_path": str(point.file), "weights_only": True}


def _without_classes(config: DictConfig) -> None:
    """Adapt a config to a network that does not classify: no top-k errors, and none to choose a checkpoint by."""
    config.topk = []
    if config.monitor == DEFAULT_MONITOR:
        config.monitor = None
        log.warning(
            "the network does not classify, so the last checkpoint is evaluated; monitor=val/PROTOCOL/ORIGIN/"
            "gt_known_error chooses another one (origin pseudo: without human boxes, see pseudo_boxes)"
        )


def _module(config: DictConfig, localizer: Localizer, data: LocalizationData) -> LocalizerModule:
    """Build the LightningModule that trains a network under a config."""
    optimizer = build.instantiate(config.optim.optimizer, "optim.optimizer")
    header = checkpoints.header(config, data.source.classes, localizer.backbone.preprocessing)
    return LocalizerModule(
        localizer,
        optimizer=optimizer,
        factors=config.optim.groups,
        schedule=build.instantiate(config.schedule, "schedule"),
        batch_transforms=[
            build.instantiate(node, f"method.batch_transforms[{i}]")
            for i, node in enumerate(config.method.batch_transforms)
        ],
        label_smoothing=config.label_smoothing,
        seed=config.seed,
        channels_last=build.resolve_layout(
            config.memory_format, config.trainer.precision, config.trainer.accelerator, train_size(data)
        ),
        header=header,
        eval_precision=build.resolve_precision(config.eval_precision, config.trainer.accelerator),
    )


def evaluate_best(
    config: DictConfig,
    folder: Path,
    trainer: pl.Trainer,
    module: LocalizerModule,
    data: LocalizationData,
    evaluations: dict[str, SplitEvaluation],
    started: float,
) -> None:
    """Evaluate the best checkpoint after training and write the results into ``folder``.

    Args:
        config: config of the training.
        folder: run folder.
        trainer: trainer that has finished.
        module: trained module; it gets the weights of the best checkpoint.
        data: data of the training.
        evaluations: evaluations by split.
        started: `time.perf_counter` at the start of the training.
    """
    trained = time.perf_counter() - started
    best = _best(trainer, folder)
    checkpoints.load_state(module.localizer, checkpoints.read(best)["state_dict"], best)
    seen = charts.overlap_recorder(trainer, evaluations)
    results = split_results.evaluate(trainer, module, data, evaluations)
    results["skipped_images"]["train"] = sorted(data.split("train").ids[i] for i in gathered(module.train_skipped))
    seconds = {"training": round(trained, 1), "evaluation": round(time.perf_counter() - started - trained, 1)}
    if trainer.is_global_zero:
        chosen = {"file": f"checkpoints/{best.name}", "monitor": config.monitor if "val" in evaluations else None}
        extra = {"checkpoint": chosen, "epochs": trainer.current_epoch, "seconds": seconds}
        if data.pseudo is not None:
            extra["pseudo"] = data.pseudo.about
        split_results.write_image_results(folder, module.measured, evaluations)
        split_results.write(folder, config, module, data, trainer, results, **extra)
    charts.log_evaluation(trainer, module, seen, data.source.classes, folder)


def describe(config: DictConfig, data: LocalizationData, localizer: Localizer, trainer: pl.Trainer) -> str:
    """Return one line about the training: the data, the network and the device."""
    splits = ", ".join(f"{name} {len(data.split(name)):,}" for name in data.splits)
    millions = sum(p.numel() for p in localizer.parameters()) / 1e6
    where = f"{trainer.world_size} x {trainer.accelerator.__class__.__name__.removesuffix('Accelerator').lower()}"
    return (
        f"{config.name}: {len(localizer.classes or ())} classes ({splits}), {millions:.2f} M parameters, "
        f"{where}, precision {trainer.precision}, seed {config.seed}"
    )


def describe_pseudo(about: Mapping[str, Any]) -> str:
    """Return one line about the pseudo targets of a training: who made them, and whether human boxes had a part."""
    by, threshold = about.get("explainer") or about.get("protocol"), about.get("threshold")
    shown = f"{threshold:.6g}" if isinstance(threshold, float) else threshold
    human = "human boxes were used to make them" if about["human_boxes"] else "no human box was used"
    return (
        f"pseudo {about['kind']} of {about['folder']}: by {about.get('network')} ({by}), threshold "
        f"{shown} of origin {about['threshold_origin']}; {human}"
    )


def _prepared(localizer: Localizer, source: Source) -> Localizer:
    """Prepare a given network as if it had been made here: its mode, the dataset's classes and the random state.

    Raises:
        InputError: the dataset has other classes.
    """
    if localizer.num_classes != len(source.classes) or localizer.classes not in (None, tuple(source.classes)):
        raise InputError(
            f"the network has {localizer.num_classes} classes, the dataset {len(source.classes)}"
            f"{first_other(localizer.classes or (), source.classes)}: make the network with "
            f"num_classes={len(source.classes)}, or with the dataset's classes in its order"
        )
    localizer.train()  # Lightning keeps the mode, and a `Predictor` of this network has set evaluation
    localizer.classes = tuple(source.classes)
    if localizer.random_state is not None:
        torch.set_rng_state(localizer.random_state)
    return localizer


def train_size(data: LocalizationData) -> int | None:
    """Side of the training images, pixels."""
    return data.train_transform.size if data.train_transform else None


def fit(trainer: pl.Trainer, module: LocalizerModule, **arguments: Any) -> None:
    """Run `Trainer.fit` so that Ctrl-C stays Ctrl-C and does not become an exit of Lightning's."""
    with plain_interruptions(), intended_ignored():
        trainer.fit(module, **arguments)


def make_trainer(
    config: DictConfig,
    folder: Path,
    csv_files: Sequence[MetricsCsv],
    monitor: tuple[str, str] | None,
    also: Sequence[pl.Callback] = (),
    writer: CheckpointIO | None = None,
) -> pl.Trainer:
    """Return the Lightning trainer: last.ckpt within and after each epoch, best.ckpt by ``monitor`` (metric, mode)."""
    keep: dict[str, Any] = {"dirpath": folder / "checkpoints", "save_top_k": 1, "enable_version_counter": False}
    last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **keep)
    callbacks: list[pl.Callback] = [ProgressLine(), EpochLines(), last, *also]
    if config.on_nan == "stop":
        callbacks.append(StopOnNaN())
    callbacks.append(CheckpointWithinEpoch(folder / "checkpoints" / LAST, config.checkpoint_every_steps))
    if monitor:
        name, mode = monitor
        callbacks.append(
            ModelCheckpoint(filename="best", monitor=name, mode=mode, save_on_train_epoch_end=False, **keep)
        )
    loggers: list[Any] = [*csv_files]
    if config.logger:
        loggers.append(build.instantiate(config.logger, "logger", **build.logger_arguments(config, folder)))
    fixed = {"plugins": [writer or WholeCheckpointIO()], "default_root_dir": str(folder)}
    return build.build_trainer(config.trainer, logger=loggers, callbacks=callbacks, **fixed)


def _monitor(config: DictConfig, evaluations: Mapping[str, SplitEvaluation]) -> tuple[str, str] | None:
    """Return the metric that chooses the best checkpoint, and ``min`` or ``max``; None without a val split."""
    if config.monitor is None:
        return None
    if "val" not in evaluations:
        log.warning(
            "the dataset has no val split, so the last checkpoint is evaluated; "
            "loader.val_per_class=N holds out N training images per class"
        )
        return None
    return config.monitor, build.monitor_mode(config.monitor, evaluations["val"].names())


def _best(trainer: pl.Trainer, folder: Path) -> Path:
    """Return the checkpoint to evaluate: the best if a metric was monitored, otherwise the last."""
    best = folder / "checkpoints" / BEST
    trainer.strategy.barrier()
    return best if best.exists() else folder / "checkpoints" / LAST
