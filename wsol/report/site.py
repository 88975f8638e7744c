"""Writing the report's folder: page, data, images.

::

    index.html      the page to open
    page/           style sheet and scripts, as shipped
    data/report.js  data loaded at once: runs, metrics, curves, classes, labels, ground-truth boxes
    data/boxes-<run>-<part>.js   the boxes at every threshold, several hundred images per part: read later
    data/maps-<part>.js          small maps of all runs: read when they come into view
    pictures/<image>.jpg         the same

A page opened from disk may not fetch files, but it may run scripts beside it: each data file is a script that passes
its content to ``WSOL``. Nothing is loaded from anywhere else.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from wsol import __version__
from wsol.data.images import BadImage
from wsol.data.source import Split
from wsol.engine.chunk_evaluator import GivenBox
from wsol.errors import InputError
from wsol.interop.maps import Maps
from wsol.interop.predictions import NOT_RANKED
from wsol.metrics._curves import Curves
from wsol.protocols import LocalizationProtocol
from wsol.report.confusion import confusion
from wsol.report.evaluation import Accuracy, EvaluatedImage, at_all_thresholds, evaluate
from wsol.report.pictures import write_picture
from wsol.report.steps import varints

BOXES, MAPS = 480, 48
"""Number of images in a part of the boxes, and of the maps; the first is a multiple of the second."""

FIELDS = ("name", "reference", "components", "scaling", "frame", "boundary", "average", "threshold_of")
"""Fields of the protocol that the page shows; ..."""
EVALUATING = ("plus_one", "predicted_end", "nothing_found")
"""... and those that it evaluates with."""


_NO_MAP = np.zeros(8, np.int64)
"""Replaces `Steps.numbers` if there is no map or box: no steps, no ground-truth corners, no frame."""


class ReportColumn(NamedTuple):
    """One run in the report."""

    name: str
    found: Maps | Mapping[str, GivenBox]
    """Saved maps, or by image id the boxes that the network gave."""
    ranked: np.ndarray | None
    """int64 (N, k) predicted classes of each image, best first, -1 for none; None if classes are unknown."""
    ranks: np.ndarray | None
    """int64 (N,) rank of each ground-truth class."""
    metrics: dict[str, Any]
    """``localization`` rows, ``classification`` and ``pixels`` as in results.json."""
    facts: dict[str, Any]
    """Properties for display: seed, checkpoint, ..."""
    correct: Mapping[str, np.ndarray] = MappingProxyType({})
    """By protocol: int8 (N,) whether the box that the network gave is correct, -1 if it is not evaluated."""

    @property
    def gives_boxes(self) -> bool:
        """Whether the network gave boxes, so that there is no map and no threshold."""
        return not isinstance(self.found, Maps)


def write(
    folder: Path,
    title: str,
    split: Split,
    classes: Sequence[str],
    protocol: LocalizationProtocol,
    shown: Sequence[ReportColumn],
    *,
    picture_side: int = 320,
    whole: int | None = None,
    progress: Callable[[str, int], None] = lambda what, done: None,
) -> None:
    """Write a report.

    Args:
        folder: an empty folder.
        title: title of the page.
        split: the images shown.
        classes: names of the K classes.
        protocol: protocol of the page.
        shown: the runs.
        picture_side: longer side of the images, pixels.
        whole: number of images in the split that ``split`` is a part of.
        progress: called with the current task and the number of images done.

    Raises:
        InputError: something can't be written or read; a single unreadable image is only left out.
    """
    try:
        for name in ("data", "pictures", "page"):
            (folder / name).mkdir(parents=True)
        page = resources.files("wsol.report") / "page"
        for file in page.iterdir():
            if file.name.endswith((".css", ".js")):
                (folder / "page" / file.name).write_bytes(file.read_bytes())
        wide = at_all_thresholds(protocol)
        with ThreadPoolExecutor() as pool:
            unseen = _pictures(folder / "pictures", split, picture_side, pool, progress)
            parts = [_run(folder / "data", i, split, wide, one, pool, progress) for i, one in enumerate(shown)]
        _join_maps(folder / "data", len(split), len(shown))
        content = {
            "title": title,
            "version": __version__,
            "split": split.name,
            "whole": whole or len(split),
            "protocol": _protocol(protocol, wide, shown),
            "classes": list(classes),
            "images": _images(split, unseen),
            "runs": [_about(one, split, *part) for one, part in zip(shown, parts, strict=True)],
            "parts": {"boxes": BOXES, "maps": MAPS},
        }
        (folder / "data" / "report.js").write_text(_call("report", content), encoding="ascii")
        (folder / "index.html").write_bytes((page / "index.html").read_bytes())
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with out=..."
        ) from error


def _pictures(
    folder: Path, split: Split, side: int, pool: ThreadPoolExecutor, progress: Callable[[str, int], None]
) -> list[int]:
    """Write all images; returns the positions of those that can't be read."""

    def one(position: int) -> int | None:
        """Write one image; return its position if it cannot be read."""
        try:
            image = split.image(position)
        except BadImage:
            return position
        write_picture(folder / f"{position}.jpg", image, side)
        return None

    unseen = []
    for done, bad in enumerate(pool.map(one, range(len(split))), 1):
        if bad is not None:
            unseen.append(bad)
        progress("pictures", done)
    return unseen


def _run(
    folder: Path,
    number: int,
    split: Split,
    protocol: LocalizationProtocol,
    shown: ReportColumn,
    pool: ThreadPoolExecutor,
    progress: Callable[[str, int], None],
) -> tuple[Curves, np.ndarray]:
    """Evaluate a run; write its boxes and, one line per part, its maps; return its curves and which images count."""
    accuracy = Accuracy(split, protocol, shown.ranks, given=shown.gives_boxes)
    with _lines(folder, number).open("w", encoding="ascii") as lines:
        for positions, evaluated in evaluate(split, shown.found, protocol, pool, BOXES):
            accuracy.add(positions, evaluated)
            found = [one.steps for one in evaluated if one is not None]
            numbers = [_NO_MAP if one is None else one.steps.numbers() for one in evaluated]
            boxes = _base64(varints(np.concatenate(numbers)))
            true = _doubles(one.true_corners for one in found)
            part = positions.start // BOXES
            exact = [_doubles(one.boxes for one in found)] if shown.gives_boxes else []
            text = _call("boxes", number, part, boxes, true, *exact)
            (folder / f"boxes-{number}-{part}.js").write_text(text, encoding="ascii")
            for start in range(0, len(evaluated), MAPS):
                lines.write(json.dumps([_small(one) for one in evaluated[start : start + MAPS]]) + "\n")
            progress(shown.name, positions.stop)
    return accuracy.curves(), accuracy.counts


def _join_maps(folder: Path, images: int, runs: int) -> None:
    """Join the maps of all runs, part by part."""
    files = [_lines(folder, number) for number in range(runs)]
    streams = [file.open(encoding="ascii") for file in files]
    for part, lines in enumerate(zip(*streams, strict=True)):
        text = f"WSOL.maps({part},[{','.join(line.strip() for line in lines)}]);\n"
        (folder / f"maps-{part}.js").write_text(text, encoding="ascii")
    for stream, file in zip(streams, files, strict=True):
        stream.close()
        file.unlink()


def _lines(folder: Path, number: int) -> Path:
    return folder / f"maps-{number}.part"


def _small(evaluated: EvaluatedImage | None) -> list[Any] | None:
    """Return width, height and grey levels of a small map; None if there is none."""
    if evaluated is None or evaluated.small is None:
        return None
    return [*evaluated.small.shape[::-1], _base64(evaluated.small.tobytes())]


def _protocol(
    protocol: LocalizationProtocol, wide: LocalizationProtocol, shown: Sequence[ReportColumn]
) -> dict[str, Any]:
    """Return the data of the protocol; without thresholds if all networks gave boxes."""
    has_threshold = not all(one.gives_boxes for one in shown)
    return {
        **{name: getattr(protocol, name) for name in (*FIELDS, *EVALUATING)},
        "ious": list(wide.iou_thresholds),
        "own_ious": list(protocol.iou_thresholds),
        "thresholds": [round(float(value), 12) for value in wide.thresholds] if has_threshold else [],
    }


def _images(split: Split, unseen: Sequence[int]) -> dict[str, Any]:
    """Return the data of the images that all runs share."""
    truths = [split.truth(i) for i in range(len(split))]
    return {
        "ids": list(split.ids),
        "labels": split.labels.tolist(),
        "sizes": [split.size(i) for i in range(len(split))],
        "boxes": [[] if truth is None else truth.half_open.tolist() for truth in truths],
        "unseen": list(unseen),
    }


def _about(shown: ReportColumn, split: Split, curves: Curves, counts: np.ndarray) -> dict[str, Any]:
    """Return the data of a run that is loaded at once."""
    names = curves.names() if curves.images else ()
    first = None if shown.ranked is None else shown.ranked[:, 0]
    ranks = None if shown.ranks is None else np.where(shown.ranks == NOT_RANKED, -1, shown.ranks)
    return {
        "name": shown.name,
        "facts": shown.facts,
        **shown.metrics,
        "counts": counts.astype(int).tolist(),
        "predicted": None if first is None else first.tolist(),
        "ranks": None if ranks is None else ranks.tolist(),
        "gives_boxes": shown.gives_boxes,
        "correct": {name: right.tolist() for name, right in shown.correct.items()},
        "curves": {name: np.round(curves.accuracy(name), 4).tolist() for name in names},
        "confusion": None if first is None else confusion(split.labels, first),
    }


def _call(name: str, *arguments: Any) -> str:
    """Return a script that passes its content on; plain ASCII, for any names of classes and images."""
    return (
        f"WSOL.{name}({','.join(json.dumps(value, separators=(',', ':'), allow_nan=False) for value in arguments)});\n"
    )


def _doubles(arrays: Iterable[np.ndarray]) -> str:
    """Return all values in double precision, little-endian, base64."""
    return _base64(np.concatenate([np.zeros(0), *(values.ravel() for values in arrays)]).astype("<f8").tobytes())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
