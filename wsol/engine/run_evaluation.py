"""Evaluate a trained network on a split, under any protocols, on the run's data or on other data."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.callbacks.progress_line import ProgressLine
from wsol.config import build
from wsol.data.class_names import first_other
from wsol.data.module import LocalizationData
from wsol.data.source import Source
from wsol.engine import charts, networks, pseudo_evaluation, saved_maps, split_results
from wsol.engine.evaluation import SplitEvaluation
from wsol.engine.explainer_fit import fit_explainer
from wsol.engine.external_classes import ExternalClassSource
from wsol.engine.gathering import gather_files
from wsol.engine.module import LocalizerModule
from wsol.engine.networks import Network
from wsol.engine.recognition import WAYS, Recognition
from wsol.engine.saved_maps import MapSaver
from wsol.errors import InputError, unknown
from wsol.explain.base import Explainer
from wsol.explain.fitted_explainer import FILE
from wsol.heads.base import NoMapsError
from wsol.interop.map_folder import open_maps
from wsol.interop.predictions import NOT_RANKED
from wsol.models.classifier import Classifier
from wsol.models.compilation import compile_network
from wsol.models.localizer import Localizer

DEFAULT_TOPK = [1, 5]
"""The top-k errors of borrowed classes, for a run that has none of its own."""


def run(config: DictConfig, network: Network | None = None) -> Path:
    """Evaluate under a composed config of `wsol eval`; returns the folder with results.json.

    Args:
        config: config of the verb.
        network: network to evaluate; None for ``run`` or ``model`` of the config.

    Raises:
        InputError: settings that do not go together, no such network or data, data that the network does not fit, or a
            folder that exists already.
    """
    check_settings(config)
    output = runs.OutputFolder("eval", config.out, config.force)
    network = network or networks.find(config, "wsol eval <run>")
    check_maps(network, config)
    settings = merge_configs(network.trained, config)
    if config.explainer is None and not network.has_maps:
        raise InputError("model=... makes no maps: choose explainer=gradcam or another")
    if settings.data is None:
        raise InputError("no dataset: choose one with data=...; --help and wsol.list_datasets() list them")
    trust = config.trust or config.data is not None
    source = build.build_source(settings, trust=trust, data_dir=config.data_dir)
    uses_classes = pseudo_evaluation.uses_classes(config)
    if config.pseudo is None or uses_classes:
        network = network if uses_classes else without_foreign_classes(network, source)
        check_classes(network, source)
    check_scores(network, config)
    data = build.build_data(settings, source, network.localizer.preprocessing, seed=settings.seed)
    write = evaluate if config.pseudo is None else pseudo_evaluation.write
    with output.writing(network.folder / ("eval" if config.pseudo is None else "pseudo")) as folder:
        write(settings, config, network, data, folder)
    return output.folder


def check_settings(config: DictConfig) -> None:
    """Refuse settings that do not go together for any network and data.

    Raises:
        InputError: names them.
    """
    if config.pseudo is not None:
        pseudo_evaluation.check(config)
    elif config.split == "train":
        raise InputError(
            "split=train: nothing is evaluated on training images; pseudo=boxes or pseudo=masks finds what is there"
        )
    elif config.split not in ("test", "val"):
        raise unknown("split", config.split, ("test", "val"))
    if config.recognize not in (None, *WAYS):
        raise unknown("recognize", config.recognize, WAYS)
    if config.recognize is not None and config.classes is not None:
        raise InputError("recognize=... uses the network's own classes: leave classes=... out")
    if config.trainer.precision != config.eval_precision:
        raise InputError(
            f"trainer.precision={config.trainer.precision}: nothing is trained here; set "
            f"eval_precision={config.trainer.precision}"
        )
    if config.compile and config.explainer is not None:
        raise InputError(
            "compile=true: explainers need the layers of a network, which compiling hides; leave one of them out"
        )


def check_scores(network: Network, config: DictConfig) -> None:
    """Refuse to ask a network that does not classify for what needs class scores.

    Raises:
        InputError: it was asked for them.
    """
    if network.localizer.classifies:
        return
    if config.topk and config.classes is None:
        raise InputError(
            f"topk={list(config.topk)}: {network.title} does not classify, so only GT-known localization is evaluated; "
            "leave topk out, or name the classes of another network with classes=..."
        )
    if config.recognize is not None:
        raise InputError(f"recognize={config.recognize}: {network.title} does not classify; leave it out")


def check_maps(network: Network, config: DictConfig) -> None:
    """Refuse to ask a network that gives boxes for what needs maps, unless an explainer makes them.

    Raises:
        InputError: it was asked for them.
    """
    if config.explainer is not None or not network.localizer.gives_boxes:
        return
    if config.save_maps:
        raise NoMapsError("save_maps=true")
    if config.recognize is not None:
        raise NoMapsError(f"recognize={config.recognize}")


def without_foreign_classes(network: Network, source: Source) -> Network:
    """Leave the classes of a plain classifier out if a dataset has another number of them."""
    classifier = network.localizer
    if not isinstance(classifier, Classifier) or classifier.num_classes == len(source.classes):
        return network
    return replace(network, localizer=cast(Localizer, Classifier(classifier.network, 0, classifier.preprocessing)))


def check_classes(network: Network, source: Source) -> None:
    """Refuse a dataset with other classes than the network; for a plain classifier, only their number is compared.

    Raises:
        InputError: they differ.
    """
    localizer = network.localizer
    if not localizer.classifies:
        return
    fits = len(source.classes) == localizer.num_classes
    if not fits or (network.has_maps and tuple(source.classes) != tuple(localizer.classes or source.classes)):
        raise InputError(
            f"{network.title} was trained on {localizer.num_classes} classes; the dataset has {len(source.classes)}"
            f"{first_other(localizer.classes or (), source.classes)}; evaluate on data with the same classes in the "
            "same order"
        )


def evaluate(settings: DictConfig, config: DictConfig, network: Network, data: LocalizationData, folder: Path) -> None:
    """Evaluate and write results.json, and other requested files, into an empty folder."""
    if config.split not in data.splits:
        raise InputError(f"split={config.split}: the dataset has {', '.join(data.splits)} only")
    settings.topk = _reported_topk(settings, config, network, data)
    other = ExternalClassSource(config, settings, data) if config.classes is not None else None
    explainer = networks.explainer(config)
    gives_boxes = explainer is None and network.localizer.gives_boxes
    evaluations = _evaluations(settings, config, data, gives_boxes=gives_boxes)
    trainer: pl.Trainer = build.build_trainer(
        settings.trainer, logger=logger(settings, folder), callbacks=[ProgressLine()], default_root_dir=str(folder)
    )
    if config.compile:
        compile_network(network.localizer)
    module = split_results.evaluation_module(network.localizer, settings, explainer)
    again = recognitions(config, evaluations, data, module)
    with runs.announced(folder):
        fitted = fit_explainer(explainer, module, data, trainer)
        with ExitStack() as open_files:
            if config.save_maps:
                rank, agnostic = trainer.global_rank, module.class_agnostic
                for name, writer in map_writers(evaluations, data, folder, config, network, rank, agnostic).items():
                    evaluations[name].writer = open_files.enter_context(writer)
            if other is not None:
                found = other.find(trainer, build.resolve_layout(settings.memory_format))
                evaluations[config.split].external_classes = found
            seen = charts.overlap_recorder(trainer, evaluations)
            results = split_results.evaluate(trainer, module, data, evaluations, again)
        gather_files(folder, "maps/*", trainer)
    if trainer.is_global_zero:
        runs.write_config(folder, settings)
        if fitted is not None:
            fitted.save(folder / FILE)
        facts = _facts(network, explainer, other)
        if config.save_maps or gives_boxes:
            facts["error_kinds"] = write_per_image(evaluations, module, folder)
        split_results.write_image_results(folder, module.measured, evaluations)
        split_results.write(folder, settings, module, data, trainer, results, **facts)
    charts.log_evaluation(trainer, module, seen, data.source.classes, folder)


def _reported_topk(settings: DictConfig, config: DictConfig, network: Network, data: LocalizationData) -> list[int]:
    """Return which top-k errors are evaluated; empty if there are no classes."""
    topk = settings.topk
    if config.classes is not None and config.topk is None and not topk:  # the run itself had no classes
        topk = DEFAULT_TOPK
    fitting = list(split_results.fitting_topk(topk, len(data.source.classes)))
    return fitting if config.classes is not None or network.localizer.classifies else []


def _evaluations(
    settings: DictConfig, config: DictConfig, data: LocalizationData, *, gives_boxes: bool
) -> dict[str, SplitEvaluation]:
    """Return the evaluation of the requested split; for test, after that of val, on which thresholds are chosen."""
    make = partial(
        split_results.evaluations, data=data, baselines=True, keep=split_results.PICTURES, gives_boxes=gives_boxes
    )
    if config.split == "val":
        return make(settings, splits=["val"])
    for_thresholds = settings.copy()
    if config.classes is not None:
        for_thresholds.topk = []  # thresholds do not depend on classes
    return {**make(for_thresholds, splits=["val"]), **make(settings, splits=["test"])}


def _facts(network: Network, explainer: Explainer | None, other: ExternalClassSource | None) -> dict[str, Any]:
    """Return what results.json says about the network, its explainer and external classes."""
    facts: dict[str, Any] = {"checkpoint": {"file": network.title}}
    if explainer is not None and (about := explainer.about()):
        facts["explainer"] = about
    if other is not None:
        facts["classes"] = other.about
    return facts


def logger(settings: DictConfig, folder: Path) -> list[Any]:
    """Return the requested logger, if any, under the run's name with the suffix ``-eval``."""
    if not settings.logger:
        return []
    named = settings.copy()
    named.name = f"{settings.name}-eval"
    return [build.instantiate(settings.logger, "logger", **build.logger_arguments(named, folder))]


def recognitions(
    config: DictConfig, evaluations: Mapping[str, SplitEvaluation], data: LocalizationData, module: LocalizerModule
) -> list[Recognition]:
    """Return the second classifications of each split, if requested."""
    if config.recognize is None:
        return []
    make = partial(Recognition, config.recognize, transform=data.eval_transform)
    preprocessing = module.localizer.preprocessing
    return [make(split=e.split, preprocessing=preprocessing, topk=e.topk) for e in evaluations.values()]


def map_writers(
    evaluations: Mapping[str, SplitEvaluation],
    data: LocalizationData,
    folder: Path,
    config: DictConfig,
    network: Network,
    rank: int,
    class_agnostic: bool,
) -> dict[str, MapSaver]:
    """Return writers that save the maps of every split below ``folder``/maps; each process writes a part."""
    digest = network.sha256() or network.title
    writers = {}
    for name, evaluation in evaluations.items():
        header = {
            "split": name,
            "data_fingerprint": evaluation.split.fingerprint(),
            "checkpoint_sha256": digest,
            "class_agnostic": class_agnostic,
        }
        classes = data.source.classes if network.localizer.classifies else ()
        writers[name] = MapSaver(folder / "maps" / name, classes, header, dtype=config.maps_dtype, shard=str(rank))
    return writers


def write_per_image(
    evaluations: Mapping[str, SplitEvaluation], module: LocalizerModule, folder: Path
) -> dict[str, Any]:
    """Write per_image.csv of the last evaluated split from its saved maps, or the boxes that the network gave.

    Returns:
        The shares of kinds of error.
    """
    name, evaluation = list(evaluations.items())[-1]
    maps = None if module.gives_boxes else open_maps(folder / "maps" / name)
    positions, seen = module.measured[name].ranks
    ranks = None
    if len(positions):
        ranks = np.full(len(evaluation.split), NOT_RANKED)
        ranks[positions] = seen
    val = module.measured.get("val") if name != "val" else None
    rows = saved_maps.per_image_results(evaluation, module.measured[name], maps, ranks, val)
    return saved_maps.write_per_image(folder / "per_image.csv", rows)


def merge_configs(trained: DictConfig, config: DictConfig) -> DictConfig:
    """Return the run's config, overridden by the evaluation's command line."""
    settings, config = trained.copy(), config.copy()
    OmegaConf.set_struct(settings, False)
    if config.data_dir is None:
        config.data_dir = trained.data_dir
    elif config.data is None:  # the run's dataset, moved
        settings.data = {
            key: networks.rebase(value, trained.data_dir, config.data_dir) for key, value in trained.data.items()
        }
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    for key in ("data", "transform", "protocol", "explainer", "model"):
        if config[key] is not None:
            settings[key] = plain[key]
            settings.choices[key] = config.choices.get(key)
    for key in ("data_dir", "image_size", "topk", "eval_precision"):
        if config[key] is not None:
            settings[key] = config[key]
    for key, name in (
        ("batch_size", "eval_batch_size"),
        ("num_workers", "num_workers"),
        ("on_bad_image", "on_bad_image"),
    ):
        if config[key] is not None:
            settings.loader[name] = config[key]
    settings.pseudo_boxes = config.pseudo_boxes  # never that of a checkpoint, which may come from anyone
    settings.trainer, settings.logger = config.trainer, config.logger
    settings.name = str(trained.name)
    return settings
