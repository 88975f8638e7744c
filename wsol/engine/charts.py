"""What loggers receive of an evaluated split besides numbers: images, curves over threshold and overlap, classes.

The curve over overlaps evaluates each protocol at many more overlaps than it reports, and only if a logger shows it: it
stores `OVERLAPS` x thresholds bits per image and protocol, about 2.4 kB at a thousand thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl

from wsol.engine import split_results
from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.module import LocalizerModule
from wsol.engine.split_types import SplitResult
from wsol.functional.geometry import Geometry
from wsol.loggers.base import Chart, RunLogger
from wsol.metrics._box_accuracy import BoxAccuracy
from wsol.metrics._curves import Curves, choose_thresholds
from wsol.protocols import LocalizationProtocol
from wsol.types import GroundTruth

OVERLAPS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""IoU 0.05, 0.1, ..., 0.95."""

POINTS = 101
"""Maximum number of points of a line."""


class Overlaps:
    """Evaluates a split's protocols at every one of `OVERLAPS`.

    It receives the maps during the evaluation, and the boxes of a network that gives boxes at its end.

    Args:
        evaluation: evaluation of the split. Its own map writer stays active.
    """

    def __init__(self, evaluation: SplitEvaluation) -> None:
        self.split, self._next, self._evaluation = evaluation.split, evaluation.writer, evaluation
        self.protocols = {name: replace(p, iou_thresholds=OVERLAPS) for name, p in evaluation.protocols.items()}
        self.metrics = {
            name: BoxAccuracy.from_protocol(protocol, topk=(), given=evaluation.gives_boxes)
            for name, protocol in self.protocols.items()
        }
        self._position = {image_id: position for position, image_id in enumerate(self.split.ids)}
        evaluation.writer = self

    def add(self, image_id: str, maps: np.ndarray, geometries: Sequence[Geometry], logits: np.ndarray) -> None:
        """Evaluate the maps float32 (V, h, w) of an image's views; a `wsol.engine.split_types.MapWriter`."""
        if self._next is not None:
            self._next.add(image_id, maps, geometries, logits)
        self._update(
            self._position[image_id],
            lambda protocol, truth: protocol.evaluate(*protocol.merge(maps, geometries), truth),
        )

    def _update(self, position: int, evaluate: Callable[[LocalizationProtocol, GroundTruth], np.ndarray]) -> None:
        truth, listed = self.split.truth(position), self.split.blacklist
        if truth is None:
            return
        for name, protocol in self.protocols.items():
            if not (protocol.blacklist and listed is not None and listed[position]):
                hits = evaluate(protocol, truth)[None]
                self.metrics[name].update(hits, [position], labels=self.split.labels[[position]])

    def compute(self, trainer: pl.Trainer) -> dict[str, Curves]:
        """Return curves by protocol, over all processes; each must call it, after `SplitEvaluation.compute`."""
        for position, given in sorted(self._evaluation.given.items()):
            found = given.box[None], given.view
            self._update(position, lambda protocol, truth, of=found: protocol.evaluate_boxes(*of, truth))  # type: ignore[misc]
        device = trainer.strategy.root_device
        return {name: metric.to(device).compute() for name, metric in self.metrics.items()}


def overlap_recorder(trainer: pl.Trainer, evaluations: Mapping[str, SplitEvaluation]) -> Overlaps | None:
    """Return the receiver of the last split's maps, for `log_evaluation`; None without a logger or an evaluation.

    Args:
        trainer: trainer with the loggers.
        evaluations: evaluations by split. Their map writers must be set.
    """
    if not evaluations or not _run_loggers(trainer):
        return None
    *_, last = evaluations.values()
    return Overlaps(last)


def log_evaluation(
    trainer: pl.Trainer, module: LocalizerModule, seen: Overlaps | None, classes: Sequence[str], folder: Path
) -> None:
    """Pass the evaluation to the loggers that want it, and finalize them. Every process must call it.

    Args:
        trainer: trainer that ran the evaluation.
        module: module that was evaluated.
        seen: the result of `overlap_recorder`.
        classes: class names by label.
        folder: folder of the results.
    """
    if seen is not None:
        split = seen.split.name
        val = module.measured.get("val") if split != "val" else None
        over_iou = seen.compute(trainer)
        for logger in _run_loggers(trainer):
            made = charts(module.measured[split], seen.protocols, over_iou, seen.split.labels, classes, val)
            logger.log_evaluated(split, split_results.shown(module), made, classes)
    for logger in _run_loggers(trainer):
        logger.finish_run(folder)


def charts(
    measured: SplitResult,
    protocols: Mapping[str, LocalizationProtocol],
    over_iou: Mapping[str, Curves],
    labels: np.ndarray,
    classes: Sequence[str],
    val: SplitResult | None = None,
) -> dict[str, Chart]:
    """Make the charts of a split; accuracies in percent.

    Args:
        measured: result of the split.
        protocols: protocols by name.
        over_iou: the result of `Overlaps.compute`.
        labels: integer (N,) labels of the split.
        classes: class names by label.
        val: result of the val split, for thresholds of origin ``fullsup``.
    """
    thresholds: list[tuple] = []
    overlaps: list[tuple] = []
    by_class: dict[int, list] = {int(label): [classes[label], int((labels == label).sum())] for label in set(labels)}
    columns = ["class", "images"]
    for name, protocol in protocols.items():
        curves = measured.curves[name][LOCALIZER]
        if not curves.images:
            continue
        thresholds += _over_thresholds(name, curves)
        fullsup = val.curves.get(name, {}).get(LOCALIZER) if val else None
        for origin, positions in choose_thresholds(
            protocol, curves, fullsup if fullsup and fullsup.images else None, pseudo=(val or measured).pseudo.get(name)
        ).items():
            column = int(positions[curves.ious.index(0.5) if 0.5 in curves.ious else 0])
            at = "" if curves.thresholds is None else f"{curves.thresholds[column]:.3g} "
            overlaps += _over_overlaps(f"{name}, {at}({origin})", over_iou[name], column)
            for key in curves.names()[:2]:
                columns.append(f"{_label(key)} ({name}, {origin})")
                found = curves.per_class(key, positions, labels)
                for label, row in by_class.items():
                    row.append(found.get(label))
    about, line = ", percent", "evaluated by"
    made = {
        "accuracy_over_threshold": Chart(
            f"Accuracy over threshold{about}", (line, "threshold", "accuracy"), thresholds, True
        ),
        "accuracy_over_iou": Chart(f"GT-known accuracy over IoU{about}", (line, "IoU", "accuracy"), overlaps, True),
        "classes": Chart(
            f"Accuracy by class{about}", tuple(columns), [tuple(by_class[label]) for label in sorted(by_class)], False
        ),
    }
    return {name: chart for name, chart in made.items() if chart.rows and len(chart.columns) > 2}


def _over_thresholds(name: str, curves: Curves) -> list[tuple]:
    """Return accuracy at up to `POINTS` thresholds, a line for each overlap and kind of accuracy."""
    if curves.thresholds is None or len(curves.thresholds) < 2:
        return []
    at = np.unique(np.linspace(0, len(curves.thresholds) - 1, POINTS).round().astype(int))
    return [
        (f"{name}, {_label(key)}, IoU {overlap:g}", float(curves.thresholds[column]), float(accuracy[i, column]))
        for key in curves.names()
        for accuracy in (curves.accuracy(key),)
        for i, overlap in enumerate(curves.ious)
        for column in at
    ]


def _over_overlaps(line: str, asked: Curves, column: int) -> list[tuple]:
    """Return accuracy at each of `OVERLAPS`, at one threshold."""
    return [(line, overlap, float(share)) for overlap, share in zip(OVERLAPS, asked.gt_known[:, column], strict=True)]


def _label(key: str) -> str:
    return key.replace("top", "top-").replace("gt_known", "GT-known")


def _run_loggers(trainer: pl.Trainer) -> list[RunLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, RunLogger)]
