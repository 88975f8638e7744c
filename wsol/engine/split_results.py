"""Evaluation of a localizer on the splits of a dataset; shared by `wsol train` and `wsol eval`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.config import build
from wsol.data.module import LocalizationData
from wsol.engine import image_results, picture_sheet
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation, SplitResult
from wsol.engine.localization_table import localization_table
from wsol.engine.module import LocalizerModule
from wsol.engine.recognition import Recognition
from wsol.errors import plain_interruptions
from wsol.metrics._curves import choose_thresholds
from wsol.types import Picture

PICTURES = 16
"""Number of evaluated images in pictures.png."""


def evaluations(
    config: DictConfig, data: LocalizationData, splits: Sequence[str], *, baselines: bool, keep: int = 0
) -> dict[str, SplitEvaluation]:
    """Return the evaluation of each of ``splits`` that the data has; errors in their boxes stop the program here."""
    protocols = build.build_protocols(config)
    for name in set(splits) & set(data.source.splits):
        data.source.check(name, skip_unreadable=data.on_bad_image == "skip")
    return {
        name: SplitEvaluation(
            data.split(name),
            data.eval_transform.views,
            protocols,
            topk=config.topk,
            num_classes=len(data.source.classes),
            baselines=baselines,
            pictures=keep,
        )
        for name in splits
        if name in data.splits
    }


def judge(
    trainer: pl.Trainer,
    module: LocalizerModule,
    data: LocalizationData,
    wanted: Mapping[str, SplitEvaluation],
    again: Sequence[Recognition] = (),
) -> dict[str, Any]:
    """Run the network once over each split and return the results.

    Thresholds of origin ``fullsup`` come from the val split if it is in ``wanted``.
    """
    module.judge(wanted.values(), again)
    if not wanted:
        return {"classification": {}, "localization": [], "pixels": {}, "skipped_images": {}}
    data.judged = tuple(wanted)
    with plain_interruptions():
        trainer.test(module, datamodule=data, verbose=False)
    measured = module.measured
    return {
        "classification": {name: result.classification for name, result in measured.items()},
        "localization": [row for name in measured for row in localization_table(measured, wanted, name)],
        "pixels": {name: result.pixels for name, result in measured.items() if result.pixels},
        "skipped_images": {name: evaluation.skipped_ids() for name, evaluation in wanted.items()},
        "not_finite_maps": {name: result.not_finite for name, result in measured.items() if result.not_finite},
        **({"recognition": module.recognized} if again else {}),
    }


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
        picture_sheet.write(folder / "pictures.png", found)
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
                "splits": {name: describe_split(data, name) for name in data.splits},
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


def keep_verdicts(
    folder: Path, measured: Mapping[str, SplitResult], evaluations: Mapping[str, SplitEvaluation]
) -> None:
    """Write the results of each image, for paired comparisons; see `wsol.engine.image_results`."""
    arrays: dict[str, np.ndarray] = {}
    for split, found in measured.items():
        evaluation = evaluations[split]
        images = len(evaluation.split)
        arrays |= image_results.arrays_of(split, list(evaluation.split.ids), evaluation.split.labels)
        positions, ranks = found.ranks
        if evaluation.topk:
            arrays[f"{split}/ranks"] = image_results.pack(ranks, positions, images, np.uint16)
        for name, at in _thresholds(evaluation, found, measured.get("val") if split != "val" else None).items():
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
    evaluation: SplitEvaluation, measured: SplitResult, val: SplitResult | None
) -> dict[str, dict[str, np.ndarray]]:
    """Return positions of the reported thresholds by protocol and origin, as in `localization_table`."""
    found = {}
    for name, protocol in evaluation.protocols.items():
        fullsup = val.curves.get(name, {}).get(LOCALIZER) if val else None
        curves = measured.curves[name][LOCALIZER]
        found[name] = choose_thresholds(protocol, curves, fullsup if fullsup and fullsup.images else None)
    return found


def shown(module: LocalizerModule) -> list[Picture]:
    """Return the kept images of the last evaluated split (test if present); empty if nothing was evaluated."""
    for name, evaluation in reversed(list(module.evaluations.items())):
        assert isinstance(evaluation, SplitEvaluation)
        return evaluation.pictures(module.measured[name])
    return []


def describe_split(data: LocalizationData, name: str) -> dict[str, Any]:
    """Return size and fingerprint of a split."""
    split = data.split(name)
    return {
        "images": len(split),
        "boxes": split.has_boxes,
        "masks": split.has_masks,
        "fingerprint": split.fingerprint(),
    }
