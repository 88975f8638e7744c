"""The evaluation of one split: classes, boxes under every protocol, pixels, and baselines.

It only needs the network's class scores and the map of each image's ground-truth class: a top-1 or top-5 localization
is correct if the ground-truth class is among the first 1 or 5 *and* the box of its map is correct; GT-known needs only
the box.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from wsol.box_evaluation import chunks, threads
from wsol.data.source import Split
from wsol.engine.chunk_evaluator import (
    LOCALIZER,
    MEAN,
    BoxEvaluator,
    ChunkEvaluator,
    ChunkResult,
    GivenBox,
    Localization,
    Merged,
    given_box,
)
from wsol.engine.gathering import gathered, gathered_by_position
from wsol.engine.kept_images import KeptImage
from wsol.engine.split_types import ExternalClasses, MapWriter, PseudoBoxes, SplitResult, by_boxes
from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.functional.maps import merge
from wsol.functional.pixels import pixel_results
from wsol.functional.ranks import check_topk, errors_of_ranks, true_class_ranks
from wsol.metrics import PxAP, TopKError
from wsol.metrics._baselines import BASELINES, Baselines
from wsol.metrics._box_accuracy import BoxAccuracy
from wsol.metrics._curves import choose_thresholds
from wsol.metrics._table_rows import localization_rows
from wsol.protocols import LocalizationProtocol
from wsol.types import Batch, Picture

PIXEL_THRESHOLD = 0.2
"""Threshold of min-max scaled maps for precision and coverage against masks, which show why boxes are wrong."""


class _Pending(NamedTuple):
    """A batch whose maps threads are evaluating."""

    positions: list[int]
    ranks: np.ndarray | None
    predicted: list[int] | None
    chunks: list[Future[tuple[ChunkResult, ChunkResult | None]]]


class SplitEvaluation(nn.Module):
    """Evaluates one split from batches; each process evaluates a part, and all return the same results.

    Threads evaluate one batch while the caller continues with the next; errors in a map are raised one batch later.

    Args:
        split: labels, boxes and masks.
        views: function from an image's size (width, height) to the geometry of each of its views.
        protocols: protocols by name.
        topk: which top-k errors to compute.
        num_classes: number of classes K, to refuse a top-k beyond it before any work is done.
        baselines: whether the predictions that need no network are evaluated too.
        pictures: how many evaluated images to keep for people to look at, spread evenly over the split.
        writer: keeps every map on disk.
        pseudo: pseudo boxes of each image, for thresholds and checkpoints chosen without human boxes.
        gives_boxes: whether the network gives boxes and no maps: `update_boxes` takes them; masks are not used.
        external_classes: classes in place of the network's own, in every top-k error. The maps stay the network's: a
            top-k localization is correct if one of those k classes is the true one and the box of the map of *that*
            class is correct. That is the box of the true class's map.
    """

    def __init__(
        self,
        split: Split,
        views: Callable[[tuple[int, int]], Sequence[Geometry]],
        protocols: Mapping[str, LocalizationProtocol],
        *,
        topk: Iterable[int] = (1, 5),
        num_classes: int | None = None,
        baselines: bool = False,
        pictures: int = 0,
        writer: MapWriter | None = None,
        external_classes: ExternalClasses | None = None,
        pseudo: PseudoBoxes | None = None,
        gives_boxes: bool = False,
    ) -> None:
        super().__init__()
        self.split, self.views, self.writer, self.external_classes = split, views, writer, external_classes
        self.gives_boxes = gives_boxes
        self.given: dict[int, GivenBox] = {}
        """The boxes that the network gives by the image's position; after `compute` those of all processes."""
        self.protocols = dict(protocols) if split.has_boxes else {}
        self.baselines = {name: Baselines(protocol) for name, protocol in self.protocols.items()} if baselines else {}
        self.topk = check_topk(topk, num_classes)
        # `compute` decides whether and when processes exchange their states.
        self.classes = TopKError(self.topk)
        self.boxes = nn.ModuleDict(
            {name: BoxAccuracy.from_protocol(p, self.topk, given=gives_boxes) for name, p in self.protocols.items()}
        )
        self.blind = nn.ModuleDict(
            {
                name: nn.ModuleDict({maps: blind.metric(maps) for maps in BASELINES})
                for name, blind in self.baselines.items()
            }
        )
        self.pixels = PxAP() if split.has_masks and not gives_boxes else None
        self._kept: dict[int, KeptImage] = {}
        self._wanted = set(np.linspace(0, len(split) - 1, min(pictures, len(split))).astype(int).tolist())
        self._skipped: set[int] = set()
        self._not_finite: set[int] = set()
        self._threads = threads()
        self._pool = ThreadPoolExecutor(self._threads)
        evaluator = BoxEvaluator if gives_boxes else ChunkEvaluator
        self._evaluate_chunk = evaluator(split, self.protocols, self.baselines)
        self.pseudo_boxes = pseudo
        self.pseudo_protocols = {name: p for name, p in protocols.items() if p.chooses} if pseudo is not None else {}
        self.pseudo = nn.ModuleDict(
            {
                name: BoxAccuracy.from_protocol(p, self.topk, given=gives_boxes)
                for name, p in self.pseudo_protocols.items()
            }
        )
        self._evaluate_pseudo: ChunkEvaluator | None = None
        if pseudo is not None:
            self._evaluate_pseudo = evaluator(by_boxes(split, pseudo.boxes), self.pseudo_protocols, {})
        self._pending: deque[_Pending] = deque()

    # -- adding batches ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def update(self, batch: Batch, logits: Tensor, maps: np.ndarray) -> None:
        """Add a batch.

        Args:
            batch: batch of N images.
            logits: float (N, K); (N, 0) of a network that does not classify, which then has no top-k errors unless
                there are external classes.
            maps: float32 (N, V, h, w) map of each image's true class in each of its V views, not scaled.
        """
        positions, ranks, first = self._classes(batch, logits)
        views = [self.views((w, h)) for w, h in batch.sizes.tolist()]
        if self.writer is not None:
            scores = logits.float().cpu().numpy()
            for position, of_image, geometries, of_classes in zip(positions, maps, views, scores, strict=True):
                self.writer.add(self.split.ids[position], of_image, geometries, of_classes)
        of_images = [partial(self.merge, *of) for of in zip(maps, views, strict=True)]
        self._submit(positions, of_images, ranks, first)

    @torch.no_grad()
    def update_boxes(self, batch: Batch, logits: Tensor, boxes: np.ndarray) -> None:
        """Add a batch of a network that gives boxes.

        Args:
            batch: batch of N images.
            logits: see `update`.
            boxes: float (N, V, 4): x0, y0, x1, y1 in [0, 1] of the input of each of V views. Only the box of the view
                at the image's centre counts.
        """
        positions, ranks, first = self._classes(batch, logits)
        each = zip(boxes, batch.sizes.tolist(), first, strict=True)
        given = [given_box(of, self.views((w, h)))._replace(predicted=best) for of, (w, h), best in each]
        self.given.update(zip(positions, given, strict=True))
        self._submit(positions, [partial(_itself, one) for one in given], ranks, first)

    def _classes(self, batch: Batch, logits: Tensor) -> tuple[list[int], np.ndarray | None, list[int]]:
        """Count the classes of a batch; returns positions, ranks of the true classes and the first classes."""
        positions = batch.positions.tolist()
        ranks: np.ndarray | None
        if self.external_classes is None and not logits.shape[1]:
            ranks, first = None, np.full(len(positions), -1)
        elif self.external_classes is None:
            ranks, first = true_class_ranks(logits, batch.labels).cpu().numpy(), logits.argmax(1).cpu().numpy()
        else:
            ranks, first = (values[positions] for values in self.external_classes)
        if ranks is not None:
            self.classify(positions, ranks)
        return positions, ranks, first.tolist()

    def merge(self, maps: np.ndarray, views: Sequence[Geometry]) -> Merged:
        """Merge the maps (V, h, w) of an image's views in each way that is needed."""
        protocols = {**self.pseudo_protocols, **self.protocols}
        ways = {MEAN, *(protocol.view_merging for protocol in protocols.values())}
        return {way: merge(maps, views, merging=way) for way in ways}

    def evaluate(
        self, positions: Sequence[int], merged: Sequence[Localization | None], ranks: np.ndarray | None
    ) -> None:
        """Evaluate maps, or boxes that a network gave, from any source.

        Args:
            positions: positions of N images in the split.
            merged: N maps with their geometry, or boxes; None without one, which is a miss at every threshold.
            ranks: integer (N,) rank of each ground-truth class; None without classes if ``topk`` is empty.
        """
        self._submit(list(positions), [partial(_itself, of) for of in merged], ranks, None)

    def _submit(
        self,
        positions: list[int],
        maps: Sequence[Callable[[], Localization | None]],
        ranks: np.ndarray | None,
        predicted: list[int] | None,
    ) -> None:
        """Pass a batch to the threads, and collect the results of the previous one."""
        parts = chunks(len(positions), self._threads)
        futures = [self._pool.submit(self._evaluate_both, positions[part], maps[part]) for part in parts]
        self._pending.append(_Pending(positions, ranks, predicted, futures))
        self.collect(1)

    def collect(self, left: int = 0) -> None:
        """Collect the threads' results, batch by batch in order, except for the last ``left`` batches."""
        while len(self._pending) > left:
            batch, start = self._pending.popleft(), 0
            for future in batch.chunks:
                found, by_pseudo = future.result()
                part = slice(start, start := start + len(found.merged))
                ranks_of = None if batch.ranks is None else batch.ranks[part]
                self._take(batch.positions[part], found, ranks_of)
                if by_pseudo is not None:
                    self._take_boxes(batch.positions[part], by_pseudo, ranks_of, self.pseudo_protocols, self.pseudo)
                if batch.predicted is not None:
                    self._keep(batch.positions[part], found.merged, batch.predicted[part])

    def _take(self, positions: list[int], found: ChunkResult, ranks: np.ndarray | None) -> None:
        """Update the metrics with the results of some images."""
        self._not_finite.update(positions[i] for i in found.not_finite)
        self._take_boxes(positions, found, ranks, self.protocols, self.boxes)
        at = np.array([positions[i] for i in found.marked], dtype=np.int64)
        for name, correct in found.correct.items():
            kept = np.flatnonzero(self._counts(self.protocols[name], at))
            if not len(kept):
                continue
            rows = {"index": at[kept], "labels": self.split.labels[at[kept]]}
            for maps in BASELINES if self.baselines else ():
                metrics = self.blind[name]
                assert isinstance(metrics, nn.ModuleDict)
                self._metric(metrics, maps).update(correct[maps][kept], **rows)
        if self.pixels is not None:
            of_pixels = torch.tensor([positions[i] for i, _, _ in found.masked])
            self.pixels.update([m for _, m, _ in found.masked], [m for _, _, m in found.masked], of_pixels)

    def _take_boxes(
        self,
        positions: list[int],
        found: ChunkResult,
        ranks: np.ndarray | None,
        protocols: Mapping[str, LocalizationProtocol],
        metrics: nn.ModuleDict,
    ) -> None:
        """Give the metrics what the network's own maps were found to be."""
        at = np.array([positions[i] for i in found.marked], dtype=np.int64)
        for name, correct in found.correct.items():
            kept = np.flatnonzero(self._counts(protocols[name], at))
            if len(kept):
                known = None if ranks is None else ranks[np.array(found.marked)[kept]]
                labels = self.split.labels[at[kept]]
                self._metric(metrics, name).update(correct[LOCALIZER][kept], at[kept], ranks=known, labels=labels)

    def _evaluate_both(
        self, positions: Sequence[int], maps: Sequence[Callable[[], Localization | None]]
    ) -> tuple[ChunkResult, ChunkResult | None]:
        """Evaluate some images with human boxes, and with pseudo boxes if there are any."""
        if self._evaluate_pseudo is None:
            return self._evaluate_chunk(positions, maps), None
        merged = [partial(_itself, of_image()) for of_image in maps]
        return self._evaluate_chunk(positions, merged), self._evaluate_pseudo(positions, merged)

    def classify(self, positions: Sequence[int], ranks: np.ndarray) -> None:
        """Add the ranks of ground-truth classes, integer (N,), without class scores."""
        self.classes.append(positions, ranks=ranks)

    def skip(self, batch: Batch) -> None:
        """Record the images of a batch that could not be read."""
        if batch.skipped.numel():
            self._skipped.update(batch.skipped.tolist())

    def _counts(self, protocol: LocalizationProtocol, positions: np.ndarray) -> np.ndarray:
        """Return which of some images a protocol evaluates: bool (N,)."""
        if not protocol.blacklist or self.split.blacklist is None:
            return np.ones(len(positions), dtype=bool)
        return ~self.split.blacklist[positions]

    @staticmethod
    def _metric(metrics: nn.ModuleDict, name: str) -> Metric:
        found = metrics[name]
        assert isinstance(found, Metric)
        return found

    def _keep(self, positions: Sequence[int], merged: Sequence[Localization | None], predicted: Sequence[int]) -> None:
        way = next((protocol.view_merging for protocol in self.protocols.values()), MEAN)
        for position, of_image, label in zip(positions, merged, predicted, strict=True):
            if position in self._wanted and of_image is not None:
                self._kept[position] = KeptImage.of(of_image, way, label)

    # -- reading -------------------------------------------------------------------------------------------------------

    def compute(self) -> SplitResult:
        """Return all results, over all processes.

        Raises:
            InputError: no image could be read, or several processes counted the pixels of one image.
        """
        self.collect()
        if len(gathered(self._skipped)) == len(self.split):
            raise InputError(
                f"{self.split.name}: none of its {len(self.split)} images could be read; on_bad_image=stop shows why"
            )
        if self._wanted:
            self._kept = gathered_by_position(self._kept)
        self.given = gathered_by_position(self.given) if self.gives_boxes else {}
        curves = {name: {LOCALIZER: self._metric(self.boxes, name).compute()} for name in self.protocols}
        for name, metrics in self.blind.items():
            assert isinstance(metrics, nn.ModuleDict)
            curves[name] |= {maps: self._metric(metrics, maps).compute() for maps in metrics}
        pixels = pixel_results(self.pixels.counts(), PIXEL_THRESHOLD) if self.pixels is not None else {}
        not_finite = sorted(self.split.ids[position] for position in gathered(self._not_finite))
        rows = self.classes.gathered_rows()
        classification = errors_of_ranks(rows["ranks"], self.topk)
        pseudo = {name: self._metric(self.pseudo, name).compute() for name in self.pseudo_protocols}
        return SplitResult(classification, curves, pixels, not_finite, (rows["index"], rows["ranks"]), pseudo)

    def scalars(self) -> dict[str, float]:
        """Return the values to log during training, by `names`; unless fixed, thresholds are chosen on this split."""
        measured = self.compute()
        values = {**measured.classification, **measured.pixels}
        for protocol, curves in measured.curves.items():
            for row in localization_rows(self.protocols[protocol], curves[LOCALIZER], origins=self._origins(protocol)):
                for error in (key for key in row if key.endswith("_error")):
                    values[f"{protocol}/{row['threshold_origin']}/{error}"] = (
                        float("nan") if row[error] is None else row[error]
                    )
        for protocol, found in measured.pseudo.items():  # by these boxes alone, so that no human box chooses anything
            best = found.best()
            for error in found.names():
                value = found.error(error, best)
                values[f"{protocol}/pseudo/{error}_error"] = float("nan") if value is None else value
        return {f"{self.split.name}/{key}": value for key, value in values.items()}

    def names(self) -> list[str]:
        """Return the names of `scalars`."""
        errors = ["gt_known_error", *(f"top{k}_error" for k in self.topk)]
        local = [f"{name}/{o}/{error}" for name in self.protocols for o in self._origins(name) for error in errors]
        local += [f"{name}/pseudo/{error}" for name in self.pseudo_protocols for error in errors]
        at = f"{PIXEL_THRESHOLD:g}"
        pixels = ["PxAP", f"precision@{at}", f"coverage@{at}"] if self.pixels is not None else []
        return [f"{self.split.name}/{key}" for key in (*(f"top{k}_error" for k in self.topk), *pixels, *local)]

    def _origins(self, protocol: str) -> list[str]:
        """Fixed if the protocol has a constant, otherwise oracle, which equals fullsup on its own split."""
        if self.gives_boxes:
            return ["none"]
        origins = self.protocols[protocol].origins
        return [
            *(["fixed"] if "fixed" in origins else []),
            *(["oracle"] if {"pseudo", "fullsup", "oracle"} & set(origins) else []),
        ]

    def pictures(self, measured: SplitResult) -> list[Picture]:
        """Return the images kept for display, with boxes under the first protocol at its first reported threshold."""
        if not self.protocols:
            return []
        name, protocol = next(iter(self.protocols.items()))
        curves = measured.curves[name][LOCALIZER]
        (positions,) = choose_thresholds(protocol, curves, origins=self._origins(name)[:1]).values()
        at = None if curves.thresholds is None else float(curves.thresholds[positions[0]])
        found = [kept.picture(self.split, position, protocol, at) for position, kept in sorted(self._kept.items())]
        return [picture for picture in found if picture is not None]

    def reset(self) -> None:
        """Forget everything."""
        while self._pending:
            for future in self._pending.popleft().chunks:
                future.cancel()
        for module in self.modules():
            if isinstance(module, Metric):
                module.reset()
        self._kept.clear()
        self.given.clear()
        self._skipped.clear()
        self._not_finite.clear()

    def skipped_ids(self) -> list[str]:
        """Return the ids of the images that could not be read, over all processes."""
        return sorted(self.split.ids[position] for position in gathered(self._skipped))


def _itself(found: Localization | None) -> Localization | None:
    return found
