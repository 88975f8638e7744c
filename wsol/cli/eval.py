"""`wsol eval`: judge a trained localizer on a split, under any protocols, on the run's data or on other data."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from wsol import build, checkpoints, runs, scoring
from wsol.cli import judge, show
from wsol.data.module import LocalizationData
from wsol.errors import InputError, unknown
from wsol.evaluation import SplitEvaluation
from wsol.interop.map_folder import open_maps
from wsol.interop.predictions import ranks_of, read_predictions
from wsol.localizer import Localizer
from wsol.module import LocalizerModule
from wsol.scoring import KeptMaps

log = logging.getLogger("wsol")


def run(config: DictConfig) -> int:
    """Judge under a composed config; returns the exit code."""
    show.start_logging()
    if config.run is None:
        raise InputError("which run? wsol eval run=<run folder>")
    if config.split not in ("test", "val"):
        raise unknown("split", config.split, ("test", "val"))
    file = checkpoint_file(Path(config.run), config.checkpoint)
    checkpoint = checkpoints.read(file)
    localizer, trained = checkpoints.load_localizer(checkpoint, file, trust=config.trust)
    guard(trained, config)
    settings = merged(trained, config)
    source = build.build_source(settings)
    trained_classes = tuple(checkpoint["wsol"]["classes"])
    if tuple(source.classes) != trained_classes:
        raise InputError(
            f"{file} was trained on {len(trained_classes)} classes; the dataset has {len(source.classes)} "
            "or names them otherwise; judge it on data of the same classes in the same order"
        )
    data = build.build_data(settings, source, localizer.backbone.preprocessing, seed=settings.seed)
    evaluate(settings, config, file, localizer, data)
    return 0


def guard(trained: DictConfig, config: DictConfig) -> None:
    """Refuse a checkpoint's config that names code to run, in every part that is built from it here.

    Its backbone and method were guarded when the localizer was built; what the command line chose instead is trusted.
    """
    for key in ("data", "transform", "loader", "protocol"):
        if config.get(key) is None:
            build.check(trained[key], key, trust=config.trust)


def evaluate(
    settings: DictConfig, config: DictConfig, file: Path, localizer: Localizer, data: LocalizationData
) -> None:
    """Judge, write results.json and print the table."""
    splits = [config.split] if config.split == "val" else ["val", "test"]
    evaluations = judge.evaluations(settings, data, splits, baselines=True, keep=judge.PICTURES)
    if config.split not in evaluations:
        raise InputError(f"split={config.split}: the dataset has {', '.join(data.splits)} only")
    folder = output_folder(config.out, file.parent.parent)
    trainer: pl.Trainer = build.build_trainer(
        settings.trainer, logger=False, callbacks=[], default_root_dir=str(folder)
    )
    module = LocalizerModule(localizer, channels_last=build.resolve_layout(settings.memory_format))
    with runs.announced(folder):
        with ExitStack() as writers:
            if config.save_maps:
                for name, writer in map_writers(evaluations, data, folder, config, file, trainer.global_rank).items():
                    evaluations[name].writer = writers.enter_context(writer)
            results = judge.judge(trainer, module, data, evaluations)
        trainer.strategy.barrier()  # all maps are written
    if trainer.is_global_zero:
        runs.write_config(folder, settings)
        extra: dict[str, Any] = {"checkpoint": {"file": str(file)}}
        if config.save_maps:
            extra["error_kinds"] = look(evaluations, module, folder)
        show.results(judge.write(folder, settings, module, data, trainer, results, **extra))


def map_writers(
    evaluations: Mapping[str, SplitEvaluation],
    data: LocalizationData,
    folder: Path,
    config: DictConfig,
    checkpoint: Path,
    rank: int,
) -> dict[str, KeptMaps]:
    """What keeps the maps of every split below ``folder``/maps; each process writes a part."""
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    writers = {}
    for name, evaluation in evaluations.items():
        header = {
            "split": name,
            "data_fingerprint": evaluation.split.fingerprint(),
            "checkpoint_sha256": digest,
        }
        writers[name] = KeptMaps(
            folder / "maps" / name, data.source.classes, header, dtype=config.maps_dtype, shard=str(rank)
        )
    return writers


def look(evaluations: Mapping[str, SplitEvaluation], module: LocalizerModule, folder: Path) -> dict[str, Any]:
    """Write per_image.csv of the last split judged from the maps just kept; returns the shares of kinds of error."""
    *_, (name, evaluation) = evaluations.items()
    maps = open_maps(folder / "maps" / name)
    classes = sorted((folder / "maps" / name).glob("classes-*.csv"))
    ranks = ranks_of(
        evaluation.split.labels, read_predictions(classes, evaluation.split, module.localizer.classes or ())
    )
    val = module.measured.get("val") if name != "val" else None
    rows = scoring.look(evaluation, module.measured[name], maps, ranks, val)
    return scoring.write_looked(folder / "per_image.csv", rows)


def output_folder(out: str | None, run: Path) -> Path:
    """The folder for results, made if need be: ``out``, or a new one in the run's folder; one for all ddp processes.

    Raises:
        InputError: it holds results already.
    """
    if given := os.environ.get(runs.RUN_DIR_VARIABLE):
        return Path(given)
    folder = Path(out) if out else runs.new_folder(run, "eval")
    if (folder / "results.json").exists():
        raise InputError(f"{folder} holds results already: choose another folder with out=...")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def checkpoint_file(run: Path, name: str) -> Path:
    """The checkpoint meant by a run folder and ``best``, ``last`` or a file name; ``best`` falls back to last.

    Raises:
        InputError: there is none.
    """
    if run.is_file():
        return run
    folder = run / "checkpoints"
    if not folder.is_dir():
        raise InputError(f"{run}: no run there (no checkpoints folder); expected a folder that `wsol train` made")
    there = {file.stem: file for file in sorted(folder.glob("*.ckpt"))}
    stem = Path(name).stem if name.endswith(".ckpt") else name
    if stem == "best" and "best" not in there and "last" in there:
        log.info("%s keeps no best checkpoint (nothing was monitored): judging the last one", run)
        return there["last"]
    if stem not in there:
        raise unknown(f"checkpoint of {run}", name, there)
    return there[stem]


def merged(trained: DictConfig, config: DictConfig) -> DictConfig:
    """The run's config with what the evaluation's command line says laid over it."""
    settings = trained.copy()
    OmegaConf.set_struct(settings, False)
    if config.data_dir is None:
        config.data_dir = trained.data_dir
    elif config.data is None:  # the run's dataset, elsewhere
        settings.data = {key: _moved(value, trained.data_dir, config.data_dir) for key, value in trained.data.items()}
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    for key in ("data", "transform", "protocol"):
        if config[key] is not None:
            settings[key] = plain[key]
            settings.choices[key] = config.choices.get(key)
    for key in ("data_dir", "image_size", "topk"):
        if config[key] is not None:
            settings[key] = config[key]
    for key, name in (
        ("batch_size", "eval_batch_size"),
        ("num_workers", "num_workers"),
        ("on_bad_image", "on_bad_image"),
    ):
        if config[key] is not None:
            settings.loader[name] = config[key]
    settings.trainer = config.trainer
    settings.name = f"{trained.name}"
    return settings


def _moved(value: Any, before: str, now: str) -> Any:
    """A path below folder ``before`` as the same path below ``now``; anything else as it is."""
    if isinstance(value, str) and Path(value).is_relative_to(before):
        return str(Path(now) / Path(value).relative_to(before))
    return value
