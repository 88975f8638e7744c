"""Evaluation of a localizer on the splits of a dataset; shared by `wsol train` and `wsol eval`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.config import build
from wsol.config.trainer_warnings import intended_ignored
from wsol.data.module import LocalizationData
from wsol.data.source import Split
from wsol.engine import given_boxes, image_results
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.localization_table import localization_table
from wsol.engine.module import LocalizerModule
from wsol.engine.pseudo_boxes import read_pseudo_boxes
from wsol.engine.recognition import Recognition
from wsol.engine.split_types import MapWriter, PseudoBoxes, SplitResult
from wsol.errors import InputError, plain_interruptions
from wsol.explain.base import Explainer
from wsol.functional.drawing import picture_sheet
from wsol.functional.ranks import check_topk
from wsol.heads.base import NoMapsError
from wsol.interop.image_file import write_png
from wsol.metrics._curves import choose_thresholds
from wsol.models.localizer import Localizer
from wsol.protocols import LocalizationProtocol
from wsol.types import Picture

log = logging.getLogger("wsol")

PICTURES = 16
"""Number of evaluated images in pictures.png."""


def fitting_topk(topk: Iterable[int], num_classes: int) -> tuple[int, ...]:
    """Return the top-k errors that are possible with a number of classes; the log names those left out.

    Raises:
        InputError: not whole numbers of at least 1, one twice, or none that fits.

    Example:
        >>> fitting_topk([1, 5], 3)
        (1,)
    """
    numbers = check_topk(topk)
    fitting = tuple(k for k in numbers if k <= num_classes)
    if len(fitting) < len(numbers):
        check_topk(fitting or numbers, num_classes)
        left_out = ", ".join(f"top-{k}" for k in numbers if k not in fitting)
        log.info("%s is left out: there are %d classes", left_out, num_classes)
    return fitting


def evaluations(
    config: DictConfig,
    data: LocalizationData,
    splits: Sequence[str],
    *,
    baselines: bool,
    keep: int = 0,
    gives_boxes: bool = False,
) -> dict[str, SplitEvaluation]:
    """Return the evaluation of each of ``splits`` that the data has; errors in their boxes are raised here.

    Raises:
        InputError: an error in the data or the protocols; or a split with masks only and a network that gives boxes.
    """
    protocols = build.build_protocols(config)
    topk = fitting_topk(config.topk, len(data.source.classes))
    val = data.split("val") if "val" in data.splits else None
    pseudo = pseudo_boxes(config.get("pseudo_boxes"), protocols, val) if "val" in splits else None
    for name in set(splits) & set(data.source.splits):
        data.source.check(name, skip_unreadable=data.on_bad_image == "skip")
        if gives_boxes and data.split(name).has_masks and not data.split(name).has_boxes:
            raise NoMapsError(
                f"pixels of the {name} split, which has masks and no boxes", "evaluate on data with boxes"
            )
    return {
        name: SplitEvaluation(
            data.split(name),
            data.eval_transform.views,
            protocols,
            topk=topk,
            num_classes=len(data.source.classes),
            baselines=baselines,
            pictures=keep,
            pseudo=pseudo if name == "val" else None,
            gives_boxes=gives_boxes,
        )
        for name in splits
        if name in data.splits
    }


def evaluation_module(localizer: Localizer, config: DictConfig, explainer: Explainer | None = None) -> LocalizerModule:
    """Return the LightningModule that evaluates a network under a config."""
    return LocalizerModule(
        localizer,
        channels_last=build.resolve_layout(config.memory_format),
        explainer=explainer,
        eval_precision=build.resolve_precision(config.eval_precision, config.trainer.accelerator),
    )


def write_label_maps(
    trainer: pl.Trainer, module: LocalizerModule, data: LocalizationData, writers: Mapping[str, MapWriter]
) -> list[str]:
    """Run a network once over splits; the map of each image's label goes to the split's writer, and nothing is kept.

    Args:
        trainer: trainer that runs the network.
        module: the network.
        data: data of the splits.
        writers: writer of each split.

    Returns:
        The ids of the images that could not be read.
    """
    wanted = {}
    for name, writer in writers.items():
        split = data.split(name)
        if name == "train":  # not a valid name of a module
            split = split.subset(np.arange(len(split)), "found")
        wanted[name] = SplitEvaluation(split, data.eval_transform.views, {}, topk=(), writer=writer)
    evaluate(trainer, module, data, wanted)
    return [name for evaluation in wanted.values() for name in evaluation.skipped_ids()]


def pseudo_boxes(
    source: str | None, protocols: Mapping[str, LocalizationProtocol], val: Split | None
) -> PseudoBoxes | None:
    """Return the pseudo boxes of val images, if a source is given.

    Args:
        source: see `read_pseudo_boxes`; None for no pseudo boxes.
        protocols: protocols by name.
        val: the val split; None if the dataset has none.

    Raises:
        InputError: there is no val split, or no protocol that chooses a threshold; see `read_pseudo_boxes`.
    """
    if source is None:
        return None
    if val is None:
        raise InputError(f"pseudo_boxes={source}: the dataset has no val split to choose thresholds on")
    if not any(protocol.chooses for protocol in protocols.values()):
        raise InputError(
            f"pseudo_boxes={source}: no threshold is chosen under {', '.join(protocols)}; add a protocol that chooses, "
            "such as choe2020"
        )
    return read_pseudo_boxes(source, val, val.boxes.inclusive if val.boxes is not None else False)


def evaluate(
    trainer: pl.Trainer,
    module: LocalizerModule,
    data: LocalizationData,
    wanted: Mapping[str, SplitEvaluation],
    again: Sequence[Recognition] = (),
) -> dict[str, Any]:
    """Run the network once over each split and return the results.

    Thresholds of origin ``fullsup`` come from the val split if it is in ``wanted``.
    """
    module.set_evaluations(wanted.values(), again)
    if not wanted:
        return {"classification": {}, "localization": [], "pixels": {}, "skipped_images": {}}
    data.evaluated = tuple(wanted)
    with plain_interruptions(), intended_ignored():
        trainer.test(module, datamodule=data, verbose=False)
    measured, agnostic = module.measured, module.class_agnostic
    return {
        "classification": {name: result.classification for name, result in measured.items()},
        "localization": [row for name in measured for row in localization_table(measured, wanted, name, agnostic)],
        "pixels": {name: result.pixels for name, result in measured.items() if result.pixels},
        "skipped_images": {name: evaluation.skipped_ids() for name, evaluation in wanted.items()},
        "not_finite_maps": {name: result.not_finite for name, result in measured.items() if result.not_finite},
        **({"recognition": module.recognized} if again else {}),
        **about_pseudo_boxes(wanted),
    }


def about_pseudo_boxes(evaluations: Mapping[str, SplitEvaluation]) -> dict[str, Any]:
    """Return the entry ``pseudo_boxes`` of results.json, the origin of the pseudo boxes; empty without such boxes."""
    found = [evaluation.pseudo_boxes for evaluation in evaluations.values() if evaluation.pseudo_boxes is not None]
    return {"pseudo_boxes": found[0].about} if found else {}


def write(
    folder: Path,
    config: DictConfig,
    module: LocalizerModule,
    data: LocalizationData,
    trainer: pl.Trainer,
    results: Mapping[str, Any],
    **extra: Any,
) -> Path:
    """Write results.json, with the results and everything they depend on, and pictures.png."""
    if found := shown(module):
        write_png(folder / "pictures.png", picture_sheet(found))
    preprocessing = module.localizer.preprocessing
    return runs.write_results(
        folder,
        {
            "name": config.name,
            "seed": config.seed,
            "choices": OmegaConf.to_container(config.choices),
            **results,
            **extra,
            "protocols": {
                name: dataclasses.asdict(protocol) for name, protocol in build.build_protocols(config).items()
            },
            "data": {
                "source": config.data._target_,
                "splits": {name: describe_split(data.split(name)) for name in data.splits},
                "classes": len(module.localizer.classes or ()),
            },
            "preprocessing": dataclasses.asdict(preprocessing),
            "image_size": preprocessing.size if config.image_size is None else config.image_size,
            "precision": str(trainer.precision),
            "eval_precision": module.eval_precision,
            "allow_tf32": False,
            "parameters": sum(p.numel() for p in module.localizer.parameters()),
        },
    )


def write_image_results(
    folder: Path, measured: Mapping[str, SplitResult], evaluations: Mapping[str, SplitEvaluation]
) -> None:
    """Write the results of each image, for paired comparisons and reports; see `wsol.engine.image_results`."""
    arrays: dict[str, np.ndarray] = {}
    for split, found in measured.items():
        evaluation = evaluations[split]
        images = len(evaluation.split)
        arrays |= image_results.arrays_of(split, list(evaluation.split.ids), evaluation.split.labels)
        if evaluation.gives_boxes:
            arrays |= given_boxes.arrays_of(evaluation.split, evaluation.given)
        positions, ranks = found.ranks
        if evaluation.topk:
            arrays[f"{split}/ranks"] = image_results.pack(ranks, positions, images, np.uint16)
        for name, at in _thresholds(evaluation, found, measured.get("val"), split == "val").items():
            curves = found.curves[name][LOCALIZER]
            arrays[f"{split}/{name}"] = np.array([len(curves.ious), curves.labels is not None], np.uint8)
            for origin, columns in at.items():
                for error in curves.names():
                    right = np.rint(curves.correct(error, columns) * len(curves.ious))
                    packed = image_results.pack(right, curves.positions, images, np.uint8)
                    arrays[f"{split}/{name}/{origin}/{error}_error"] = packed
    if arrays:
        image_results.write(folder, arrays)


def _thresholds(
    evaluation: SplitEvaluation, measured: SplitResult, val: SplitResult | None, is_val: bool
) -> dict[str, dict[str, np.ndarray]]:
    """Return positions of the reported thresholds by protocol and origin, as in `localization_table`."""
    found = {}
    for name, protocol in evaluation.protocols.items():
        fullsup = val.curves.get(name, {}).get(LOCALIZER) if val and not is_val else None
        pseudo = val.pseudo.get(name) if val else None
        curves = measured.curves[name][LOCALIZER]
        found[name] = choose_thresholds(
            protocol, curves, fullsup if fullsup and fullsup.images else None, pseudo=pseudo
        )
    return found


def shown(module: LocalizerModule) -> list[Picture]:
    """Return the kept images of the last evaluated split (test if present); empty if nothing was evaluated."""
    if not module.evaluations:
        return []
    name, evaluation = list(module.evaluations.items())[-1]
    assert isinstance(evaluation, SplitEvaluation)
    return evaluation.pictures(module.measured[name])


def describe_split(split: Split) -> dict[str, Any]:
    """Return size and fingerprint of a split; only images with boxes are evaluated by boxes."""
    return {
        "images": len(split),
        "images_with_boxes": split.images_with_boxes,
        "boxes": split.has_boxes,
        "masks": split.has_masks,
        "fingerprint": split.fingerprint(),
        **({"unmarked": unmarked} if (unmarked := split.unmarked()) else {}),
    }
