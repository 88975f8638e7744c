"""Pseudo targets of the training images (``wsol eval <run> split=train pseudo=boxes|masks``).

The network or explainer sees each training image as in evaluation; the first protocol makes the box or the mask from
the map of its label. The threshold is the protocol's constant (``fixed``), or the best one on the val split by boxes
that nobody drew (``pseudo``, with ``pseudo_boxes=...``) or by human ones (``fullsup``), and ``about.json`` says which.
Nothing is chosen on the training images themselves, so none of their boxes is used. If nothing is above the threshold,
the box is the whole image (Zhang et al. 2020), and the mask has all its pixels.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig

from wsol import runs
from wsol.callbacks.progress_line import ProgressLine
from wsol.config import build
from wsol.data.module import LocalizationData
from wsol.data.pseudo_targets import Kind, check_kind, write_pseudo_targets
from wsol.engine import networks, split_results
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.explainer_fit import fit_explainer
from wsol.engine.gathering import gather_files, total
from wsol.engine.module import LocalizerModule
from wsol.engine.networks import Network
from wsol.engine.pseudo_target_writer import BOX, SHARDS, TargetWriter
from wsol.errors import InputError
from wsol.explain.fitted_explainer import FILE
from wsol.interop.shards import records_in_order
from wsol.metrics._curves import choose_thresholds
from wsol.protocols import LocalizationProtocol
from wsol.runs.results import read_results


def check(config: DictConfig) -> None:
    """Refuse settings that cannot be combined with pseudo targets.

    Raises:
        InputError: another kind, another split than train, or results that would need the boxes of training images.
    """
    check_kind(config.pseudo)
    if config.split != "train":
        raise InputError(
            f"pseudo={config.pseudo} split={config.split}: a network learns from the train split only; set split=train"
        )
    for key in ("classes", "recognize", "save_maps"):
        if config[key]:
            raise InputError(f"{key}={config[key]}: pseudo={config.pseudo} only writes {config.pseudo}; leave it out")


def uses_classes(config: DictConfig) -> bool:
    """Return whether maps depend on the network's class scores, so that its classes must be those of the dataset."""
    explainer = networks.explainer(config)
    return explainer is None or explainer.needs_scores


def write(settings: DictConfig, config: DictConfig, network: Network, data: LocalizationData, folder: Path) -> None:
    """Write the pseudo targets of the train split into an empty folder.

    Args:
        settings: the run's config, overridden by the command line's.
        config: config of `wsol eval`.
        network: the network.
        data: the data.
        folder: the folder.

    Raises:
        InputError: no train split, a network without maps, or no threshold that may be used.
    """
    if "train" not in data.splits:
        raise InputError(f"split=train: the dataset has {', '.join(data.splits)} only")
    explainer = networks.explainer(config)
    module = split_results.evaluation_module(network.localizer, settings, explainer)
    if module.gives_boxes:
        raise InputError(
            f"{network.title} gives boxes and no maps; pseudo={config.pseudo} needs maps: set explainer=..."
        )
    protocol = _first_protocol(settings)
    origin = threshold_origin(protocol, data, has_pseudo_boxes=config.pseudo_boxes is not None)
    trainer: pl.Trainer = build.build_trainer(
        settings.trainer, logger=False, callbacks=[ProgressLine()], default_root_dir=str(folder)
    )
    with runs.announced(folder):
        fitted = fit_explainer(explainer, module, data, trainer)
        threshold = chosen_threshold(settings, protocol, origin, trainer, module, data)
        found = find(folder, config.pseudo, protocol, threshold, trainer, module, data)
    if trainer.is_global_zero:
        about = {
            "split": "train",
            "data_fingerprint": data.source.split("train").fingerprint(),
            **_network_facts(network, config, module, explainer),
            "protocol": protocol.name,
            "threshold": threshold,
            "threshold_origin": origin,
            "human_boxes": origin == "fullsup" or used_human_boxes(network),
            **found,
            "made_by": f"wsol {version('wsol')}",
        }
        join(folder, config.pseudo, data.split("train").ids, about)
        runs.write_config(folder, settings)
        if fitted is not None:
            fitted.save(folder / FILE)


def _first_protocol(settings: DictConfig) -> LocalizationProtocol:
    for protocol in build.build_protocols(settings).values():
        return protocol
    raise InputError("no protocol: choose one with protocol=..., see --help for the choices")


def find(
    folder: Path,
    kind: Kind,
    protocol: LocalizationProtocol,
    threshold: float | None,
    trainer: pl.Trainer,
    module: LocalizerModule,
    data: LocalizationData,
) -> dict[str, Any]:
    """Write what each process finds as shards in the first process's folder, and return facts for ``about.json``."""
    with TargetWriter(folder / SHARDS, protocol, threshold, kind, str(trainer.global_rank)) as writer:
        skipped = split_results.write_label_maps(trainer, module, data, {"train": writer})
    gather_files(folder, SHARDS, trainer)
    return {"whole_images": total(writer.whole_images), "skipped_images": skipped}


def join(folder: Path, kind: Kind, ids: Sequence[str], about: Mapping[str, Any]) -> None:
    """Write the targets of all processes in the order of ``ids``, and remove the processes' own files."""
    records = records_in_order(folder / SHARDS, SHARDS, ids)
    if kind == "boxes":
        write_pseudo_targets(folder, kind, ((name, np.frombuffer(record, BOX)) for name, record in records), about)
    else:
        write_pseudo_targets(folder, kind, records, about)
    shutil.rmtree(folder / SHARDS)


def threshold_origin(protocol: LocalizationProtocol, data: LocalizationData, has_pseudo_boxes: bool) -> str:
    """Return the origin of the threshold of the pseudo targets; see the module.

    Raises:
        InputError: the protocol has no fixed threshold, and there is no val split to choose one on.
    """
    if not protocol.chooses:
        return "fixed"
    if has_pseudo_boxes:
        return "pseudo"
    if protocol.fixed_threshold is not None:
        return "fixed"
    if "val" in data.splits and data.split("val").has_boxes:
        return "fullsup"
    raise InputError(
        f"protocol={protocol.name}: it has no fixed threshold, and there is no val split with boxes to choose one on; "
        "the best one on the training images would know their boxes (oracle). Choose a protocol with a fixed "
        "threshold, such as protocol=cam2016, or hold out images with loader.val_per_class"
    )


def chosen_threshold(
    settings: DictConfig,
    protocol: LocalizationProtocol,
    origin: str,
    trainer: pl.Trainer,
    module: LocalizerModule,
    data: LocalizationData,
) -> float | None:
    """Return the threshold of an origin, evaluating the val split if it is chosen there; None for ranked boxes."""
    if origin == "fixed":
        return protocol.fixed_threshold
    val = data.split("val") if "val" in data.splits else None
    pseudo = split_results.pseudo_boxes(settings.get("pseudo_boxes"), {protocol.name: protocol}, val)
    evaluation = SplitEvaluation(
        data.split("val"), data.eval_transform.views, {protocol.name: protocol}, topk=(), pseudo=pseudo
    )
    split_results.evaluate(trainer, module, data, {"val": evaluation})
    measured = module.measured["val"]
    curves = measured.pseudo[protocol.name] if origin == "pseudo" else measured.curves[protocol.name][LOCALIZER]
    assert curves.thresholds is not None
    # The best threshold on val is the oracle threshold of val itself.
    at = choose_thresholds(protocol, curves, origins=("oracle",))["oracle"]
    column = curves.ious.index(0.5) if 0.5 in curves.ious else 0
    return float(curves.thresholds[at[column]])


def used_human_boxes(network: Network) -> bool:
    """Return whether human boxes chose a run's checkpoint, or were used for the pseudo targets that it learned from.

    Without the results of the run, as for an exported file, its config decides. Pseudo targets whose origin is unknown
    count as made with human boxes.
    """
    file = network.folder / "results.json"
    if file.is_file():
        results = read_results(file)
        pseudo, chosen = results.get("pseudo"), results.get("checkpoint")
        monitor = chosen.get("monitor") if isinstance(chosen, Mapping) else None
        learned = bool(isinstance(pseudo, Mapping) and pseudo.get("human_boxes"))
    else:
        monitor, learned = network.trained.get("monitor"), network.trained.get("pseudo") is not None
    by_boxes = monitor is not None and not re.fullmatch(r"val/(top\d+_error|.+/pseudo/.+)|train/.*", str(monitor))
    return by_boxes or learned


def _network_facts(network: Network, config: DictConfig, module: LocalizerModule, explainer: Any) -> dict[str, Any]:
    own = explainer.about() if explainer is not None else {}
    return {
        "network": network.title,
        "checkpoint_sha256": network.sha256(),
        "explainer": config.choices.get("explainer") if explainer is not None else None,
        **({"explainer_settings": own} if own else {}),
        "class_agnostic": module.class_agnostic,
        "class_labels": "of the images, for the map" if not module.class_agnostic else "none",
    }
