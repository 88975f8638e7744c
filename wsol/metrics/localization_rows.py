"""From curves to the rows of a table: errors at a threshold whose origin is named, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wsol.errors import InputError
from wsol.functional.bootstrap import interval
from wsol.metrics.box_accuracy import Curves
from wsol.protocols import Protocol

DRAWS = 2_000
"""Of a bootstrap interval; more would not move the digits that are printed."""


def localization_rows(
    protocol: Protocol,
    judged: Curves,
    fullsup: Curves | None = None,
    *,
    origins: Sequence[str] | None = None,
    intervals: bool = False,
) -> list[dict[str, Any]]:
    """Read errors from curves, one row for each origin of the threshold.

    Args:
        protocol: whose thresholds the curves have.
        judged: of the split that is reported.
        fullsup: of the train-fullsup split; without it there is no row of that origin.
        origins: in place of the protocol's own.
        intervals: whether each error comes with its 95 % bootstrap interval over images, the threshold held where it is
            (see `wsol.functional.bootstrap`).

    Returns:
        Rows ``{protocol, threshold_origin, threshold, gt_known_error, top1_error, ..., images}``, errors in percent.
        With several overlaps the errors are means, ``threshold`` is None and ``by_iou`` lists threshold and errors of
        each; with intervals, ``intervals`` gives ``[low, high]`` by error.

    Raises:
        InputError: the two curves have different thresholds.
    """
    rows = []
    for origin, positions in chosen(protocol, judged, fullsup, origins).items():
        errors = {f"{name}_error": judged.error(name, positions) for name in judged.names()}
        one = len(judged.ious) == 1
        row: dict[str, Any] = {
            "protocol": protocol.name,
            "threshold_origin": origin,
            "threshold": _threshold(judged, int(positions[0])) if one else None,
            **errors,
            "images": judged.images,
        }
        if not one:
            row["by_iou"] = [_at(judged, i, int(positions[i])) for i in range(len(judged.ious))]
        if intervals and judged.images:
            row["intervals"] = _intervals(judged, positions)
        rows.append(row)
    return rows


def chosen(
    protocol: Protocol, judged: Curves, fullsup: Curves | None = None, origins: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """The position of the threshold for each overlap, int64 (I,), by the threshold's origin.

    ``oracle`` takes the threshold of highest GT-known accuracy on the judged split, ``fullsup`` that on the
    train-fullsup split (of equal ones the lowest), ``fixed`` the protocol's constant. Predictions without threshold
    are ``fixed`` where the protocol's are (ranked boxes), else of origin ``none``.
    """
    first = np.zeros(len(judged.ious), dtype=np.int64)
    wanted = protocol.origins if origins is None else origins
    if judged.thresholds is None:
        return {"fixed" if "fixed" in wanted else "none": first}
    positions: dict[str, np.ndarray] = {"oracle": judged.best()}
    if fullsup is not None:
        if not np.array_equal(judged.thresholds, fullsup.thresholds if fullsup.thresholds is not None else []):
            raise InputError("the curves of the judged and of the train-fullsup split have different thresholds")
        positions["fullsup"] = fullsup.best()
    if protocol.fixed_threshold is not None:
        positions["fixed"] = first + int(np.abs(judged.thresholds - protocol.fixed_threshold).argmin())
    return {origin: positions[origin] for origin in wanted if origin in positions}


def _threshold(curves: Curves, position: int) -> float | None:
    return None if curves.thresholds is None else round(float(curves.thresholds[position]), 12)


def _at(curves: Curves, i: int, position: int) -> dict[str, Any]:
    """Threshold and errors of one overlap."""
    errors = {f"{name}_error": 100.0 - float(curves.accuracy(name)[i, position]) for name in curves.names()}
    return {"iou": curves.ious[i], "threshold": _threshold(curves, position), **(errors if curves.images else {})}


def _intervals(curves: Curves, positions: np.ndarray) -> dict[str, list[float]]:
    """``[low, high]`` of each error; the same draws serve all."""
    wrong = np.stack([100.0 * (1.0 - curves.right(name, positions)) for name in curves.names()], axis=1)
    low, high = interval(wrong, curves.labels, draws=DRAWS)
    bounds = zip(low.tolist(), high.tolist(), strict=True)
    return {f"{name}_error": list(pair) for name, pair in zip(curves.names(), bounds, strict=True)}
