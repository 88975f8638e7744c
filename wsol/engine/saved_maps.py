"""Saved maps: written while a network is evaluated, scored again under any protocol, and examined image by image.

A pass over saved maps returns the same `wsol.engine.split_types.SplitResult` as a pass of the network, because both
give their maps to a `SplitEvaluation`. A second pass examines each image at the thresholds that the first one chose.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsol.box_evaluation import threads
from wsol.data.source import Split
from wsol.engine.chunk_evaluator import GivenBox, Localization
from wsol.engine.evaluation import LOCALIZER, Merged, SplitEvaluation
from wsol.engine.split_types import SplitResult
from wsol.errors import InputError
from wsol.files import atomic_file
from wsol.functional.bootstrap import paired_difference
from wsol.functional.error_kinds import error_kind, kind_codes, kind_shares
from wsol.functional.geometry import Geometry
from wsol.functional.iou import iou
from wsol.interop.map_store import MapWriter
from wsol.interop.maps import Maps
from wsol.interop.predictions import PredictionWriter
from wsol.metrics._curves import choose_thresholds
from wsol.metrics._table_rows import DRAWS
from wsol.protocols import LocalizationProtocol

CHUNK = 512
"""Number of maps read and evaluated at a time."""

MISSING = ("refuse", "count_as_miss")
"""What to do about images without a map."""


class MapSaver(AbstractContextManager["MapSaver"]):
    """Saves the maps of a split and the top predicted classes, for `wsol score` and for reports.

    Args:
        folder: created if it does not exist; several processes may write to one.
        classes: names of the K classes; empty for a network that does not classify.
        header: what the maps are of, see `wsol.interop.map_store.MapWriter`.
        dtype: see there.
        shard: the name of this process's part.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], header: Mapping[str, Any], dtype: str = "auto", shard: str = "0"
    ) -> None:
        self._open = ExitStack()
        self._maps = self._open.enter_context(MapWriter(folder, dtype=dtype, header=dict(header), shard=shard))
        file = folder / f"classes-{shard}.csv"
        self._classes = self._open.enter_context(PredictionWriter(file, classes)) if classes else None

    def add(self, image_id: str, maps: np.ndarray, geometries: Sequence[Geometry], logits: np.ndarray) -> None:
        """Save the maps float32 (V, h, w) of an image's views, and its class scores float32 (K,)."""
        self._maps.add(image_id, maps, geometries)
        if self._classes is not None:
            self._classes.add(image_id, logits)

    def __exit__(self, *exception: object) -> None:
        self._open.__exit__(*exception)  # type: ignore[arg-type]


def check(maps: Maps, split: Split, missing: str = "refuse", others: Collection[str] = ()) -> list[str]:
    """Check that saved maps match a split before anything is scored.

    Args:
        maps: the saved maps.
        split: the split of their images.
        missing: what to do about images without a map, see `MISSING`.
        others: ids of images of other splits, whose maps may be present too.

    Returns:
        The ids of the images without a map.

    Raises:
        InputError: a missing map that must not count as a miss, or maps of unknown images.
    """
    if missing not in MISSING:
        raise InputError(f"missing={missing}: expected one of {', '.join(MISSING)}")
    made_on = maps.about().get("made_of", {}).get("data_fingerprint")
    if made_on not in (None, split.fingerprint()):
        raise InputError(
            f"{maps.folder}: these maps were made on a {split.name} split with other annotation (ids, labels or boxes "
            "differ); name the dataset that they were made on"
        )
    absent, strangers = maps.check(split)
    unknown_ids = [name for name in strangers if name not in others]
    if unknown_ids:
        raise InputError(
            f"{maps.folder}: {len(unknown_ids):,} maps of images that the {split.name} split does not have, such as "
            f"{_some(unknown_ids)}; is it the right dataset and split?"
        )
    if absent and missing == "refuse":
        raise InputError(
            f"{maps.folder}: no map for {len(absent):,} of the {len(split):,} images of {split.name}, such as "
            f"{_some(absent)}; add them, or set missing=count_as_miss"
        )
    if len(absent) == len(split):
        raise InputError(f"{maps.folder}: no map for any of the {len(split):,} images of {split.name}")
    return absent


def score(
    evaluation: SplitEvaluation,
    maps: Maps,
    ranks: np.ndarray | None = None,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> SplitResult:
    """Evaluate saved maps.

    Args:
        evaluation: evaluation of the maps' split; `check` the maps first. Images without a map are misses.
        maps: maps opened by `wsol.interop.map_folder.open_maps`.
        ranks: integer (N,) rank of each image's ground-truth class; None without classes.
        progress: called with the number of finished images.
    """
    for positions, merged in _chunks(evaluation, maps):
        known = None if ranks is None else ranks[positions]
        if known is not None:
            evaluation.classify(positions, known)
        evaluation.evaluate(positions, merged, known)
        progress(positions[-1] + 1)
    return evaluation.compute()


class ImageResult(NamedTuple):
    """One image under one protocol at one threshold."""

    image_id: str
    label: int
    rank: int | None
    """Rank of the ground-truth class."""
    protocol: str
    threshold_origin: str
    threshold: float | None
    right: bool
    """Whether the box is correct, GT-known (at IoU 0.5 or the only overlap of the protocol)."""
    iou: float
    """Largest exact IoU with a ground-truth box, in the image frame."""
    kind: str
    """See `wsol.functional.error_kinds`; for top-1 if classes are known."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1, half-open, image frame; the one with the largest IoU if there are several boxes."""


def per_image_results(
    evaluation: SplitEvaluation,
    measured: SplitResult,
    maps: Maps | None,
    ranks: np.ndarray | None = None,
    fullsup: SplitResult | None = None,
) -> Iterator[ImageResult]:
    """Examine each image at every reported threshold: the second pass over the maps.

    Args:
        evaluation: evaluation that returned ``measured``.
        measured: result of the evaluated split.
        maps: the same maps as in the first pass; None for the boxes that the network gave.
        ranks: see `score`.
        fullsup: result of the train-fullsup split, for thresholds of that origin.
    """
    asked = [
        _ResultKey(protocol, origin, _threshold(measured, name, positions), _bits(measured, name, positions))
        for name, protocol in evaluation.protocols.items()
        for origin, positions in _positions(protocol, measured, fullsup).items()
    ]
    with ThreadPoolExecutor(threads()) as pool:
        given = [(sorted(evaluation.given), [evaluation.given[position] for position in sorted(evaluation.given)])]
        for positions, merged in given if maps is None else _chunks(evaluation, maps):
            rows = pool.map(
                lambda at, of_image: _results_of_image(evaluation.split, at, of_image, ranks, asked), positions, merged
            )
            for of_image in rows:
                yield from of_image


def write_per_image(file: Path, rows: Iterable[ImageResult]) -> dict[str, dict[str, dict[str, float]]]:
    """Write one CSV line for each image, protocol and origin; return the share of each kind, percent.

    Returns:
        By protocol, then origin: kind -> percent of the evaluated images.
    """
    kinds: dict[tuple[str, str], list[str]] = {}
    with atomic_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*ImageResult._fields[:-1], "x0", "y0", "x1", "y1"])
        for row in rows:
            threshold = "" if row.threshold is None else f"{row.threshold:.12g}"
            rank = "" if row.rank is None else row.rank
            values = row._replace(rank=rank, threshold=threshold, right=int(row.right), iou=f"{row.iou:.6f}")  # type: ignore[arg-type]
            writer.writerow([*values[:-1], *(f"{value:.10g}" for value in row.box)])
            kinds.setdefault((row.protocol, row.threshold_origin), []).append(row.kind)
    shares: dict[str, dict[str, dict[str, float]]] = {}
    for (name, origin), found in kinds.items():
        shares.setdefault(name, {})[origin] = kind_shares(kind_codes(found))
    return shares


def differences(
    ours: SplitResult,
    theirs: SplitResult,
    protocols: Mapping[str, LocalizationProtocol],
    fullsup: tuple[SplitResult | None, SplitResult | None] = (None, None),
) -> list[dict[str, Any]]:
    """Return errors of two sets of maps of the same images, and the 95 % interval of their paired difference.

    Returns:
        Rows ``{protocol, threshold_origin, error, ours, theirs, difference, interval}``, percent; each set at its own
        threshold. Negative differences are in favour of ours.
    """
    rows = []
    for name, protocol in protocols.items():
        a, b = ours.curves[name][LOCALIZER], theirs.curves[name][LOCALIZER]
        if not np.array_equal(a.positions, b.positions):
            raise InputError("the two sets of maps were evaluated on different images")
        there = _positions(protocol, theirs, fullsup[1])
        for origin, positions in _positions(protocol, ours, fullsup[0]).items():
            if origin not in there:
                continue
            for key in (key for key in a.names() if key in b.names()):
                wrong = [100.0 * (1.0 - c.correct(key, at)) for c, at in ((a, positions), (b, there[origin]))]
                found = paired_difference(wrong[0], wrong[1], a.labels, draws=DRAWS)
                rows.append(
                    {
                        "protocol": name,
                        "threshold_origin": origin,
                        "error": f"{key}_error",
                        "ours": a.error(key, positions),
                        "theirs": b.error(key, there[origin]),
                        "difference": found.mean,
                        "interval": [found.low, found.high],
                    }
                )
    return rows


class _ResultKey(NamedTuple):
    protocol: LocalizationProtocol
    origin: str
    threshold: float | None
    right: dict[int, bool]
    """By position."""


def _chunks(evaluation: SplitEvaluation, maps: Maps) -> Iterator[tuple[list[int], list[Merged | None]]]:
    """Yield positions and merged maps, `CHUNK` at a time, in the order of the split."""
    there, split = frozenset(maps.ids), evaluation.split

    def read(position: int) -> Merged | None:
        """Return the merged maps of an image, or None where they are missing."""
        name = split.ids[position]
        return evaluation.merge(*maps.read(name, split.size(position))) if name in there else None

    with ThreadPoolExecutor(threads()) as pool:
        for start in range(0, len(split), CHUNK):
            positions = list(range(start, min(start + CHUNK, len(split))))
            yield positions, list(pool.map(read, positions))


def _positions(
    protocol: LocalizationProtocol, measured: SplitResult, fullsup: SplitResult | None
) -> dict[str, np.ndarray]:
    """Return the positions of the reported thresholds by origin, see `choose_thresholds`."""
    val = fullsup.curves.get(protocol.name, {}).get(LOCALIZER) if fullsup else None
    pseudo = (fullsup or measured).pseudo.get(protocol.name)
    curves = measured.curves[protocol.name][LOCALIZER]
    return choose_thresholds(protocol, curves, val if val and val.images else None, pseudo=pseudo)


def _column(measured: SplitResult, name: str) -> int:
    """Return which overlap is used for single images: 0.5 if the protocol has it."""
    ious = measured.curves[name][LOCALIZER].ious
    return ious.index(0.5) if 0.5 in ious else 0


def _threshold(measured: SplitResult, name: str, positions: np.ndarray) -> float | None:
    grid = measured.curves[name][LOCALIZER].thresholds
    return None if grid is None else float(grid[positions[_column(measured, name)]])


def _bits(measured: SplitResult, name: str, positions: np.ndarray) -> dict[int, bool]:
    curves = measured.curves[name][LOCALIZER]
    column = _column(measured, name)
    right = curves.at(column, int(positions[column]))
    return dict(zip(curves.positions.tolist(), right.tolist(), strict=True))


def _results_of_image(
    split: Split, position: int, merged: Localization | None, ranks: np.ndarray | None, asked: Sequence[_ResultKey]
) -> list[ImageResult]:
    truth = split.truth(position)
    rank = None if ranks is None else int(ranks[position])
    rows = []
    for one in asked:
        if truth is None or position not in one.right:
            continue
        boxes = _boxes(merged, one)
        overlaps = iou(boxes, truth.half_open, plus_one=False)
        best = int(overlaps.max(axis=1).argmax())
        right = one.right[position]
        kind = error_kind(boxes[best], truth.half_open, box_right=right, class_right=not rank)
        x0, y0, x1, y1 = boxes[best].tolist()
        rows.append(
            ImageResult(
                split.ids[position],
                int(split.labels[position]),
                rank,
                one.protocol.name,
                one.origin,
                one.threshold,
                right,
                float(overlaps[best].max()),
                kind,
                (x0, y0, x1, y1),
            )
        )
    return rows


def _boxes(found: Localization | None, asked: _ResultKey) -> np.ndarray:
    """Return the boxes of an image: float64 (B, 4), image frame."""
    if found is None:
        return np.zeros((1, 4))
    if isinstance(found, GivenBox):
        return found.box[None]
    return asked.protocol.predict(*found[asked.protocol.view_merging], asked.threshold)


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
