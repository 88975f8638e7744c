"""Table rows from curves: errors with intervals, at a threshold with its origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wsol.functional.bootstrap import interval
from wsol.metrics._curves import Curves, choose_thresholds
from wsol.protocols import LocalizationProtocol

DRAWS = 2_000
"""Number of bootstrap resamples; more would not change the printed digits."""


def localization_rows(
    protocol: LocalizationProtocol,
    evaluated: Curves,
    fullsup: Curves | None = None,
    *,
    origins: Sequence[str] | None = None,
    intervals: bool = False,
    pseudo: Curves | None = None,
) -> list[dict[str, Any]]:
    """Read errors from curves, one row for each origin of the threshold.

    Args:
        protocol: protocol whose thresholds the curves have.
        evaluated: curves of the split that is reported.
        fullsup: curves of the train-fullsup split; without them there is no row of that origin.
        origins: origins to report in place of the protocol's own.
        pseudo: results of the val split with pseudo boxes, for the row of that origin.
        intervals: whether each error comes with its 95 % bootstrap interval over images at a fixed threshold, see
            `wsol.functional.bootstrap`.

    Returns:
        Rows ``{protocol, threshold_origin, threshold, gt_known_error, top1_error, ..., images}``, errors in percent.
        With several overlaps the errors are means, ``threshold`` is None and ``by_iou`` lists threshold and errors of
        each; with intervals, ``intervals`` contains ``[low, high]`` by error.

    Raises:
        InputError: the two curves have different thresholds.
    """
    rows = []
    for origin, positions in choose_thresholds(protocol, evaluated, fullsup, origins, pseudo).items():
        errors = {f"{name}_error": evaluated.error(name, positions) for name in evaluated.names()}
        one = len(evaluated.ious) == 1
        row: dict[str, Any] = {
            "protocol": protocol.name,
            "threshold_origin": origin,
            "threshold": _threshold(evaluated, int(positions[0])) if one else None,
            **errors,
            "images": evaluated.images,
        }
        if not one:
            row["by_iou"] = [_at(evaluated, i, int(positions[i])) for i in range(len(evaluated.ious))]
        if intervals and evaluated.images:
            row["intervals"] = _intervals(evaluated, positions)
        rows.append(row)
    return rows


def _threshold(curves: Curves, position: int) -> float | None:
    return None if curves.thresholds is None else round(float(curves.thresholds[position]), 12)


def _at(curves: Curves, i: int, position: int) -> dict[str, Any]:
    """Return threshold and errors of one overlap."""
    errors = {f"{name}_error": 100.0 - float(curves.accuracy(name)[i, position]) for name in curves.names()}
    return {"iou": curves.ious[i], "threshold": _threshold(curves, position), **(errors if curves.images else {})}


def _intervals(curves: Curves, positions: np.ndarray) -> dict[str, list[float]]:
    """Return ``[low, high]`` of each error; all use the same resamples."""
    wrong = np.stack([100.0 * (1.0 - curves.correct(name, positions)) for name in curves.names()], axis=1)
    low, high = interval(wrong, curves.labels, draws=DRAWS)
    bounds = zip(low.tolist(), high.tolist(), strict=True)
    return {f"{name}_error": list(pair) for name, pair in zip(curves.names(), bounds, strict=True)}
