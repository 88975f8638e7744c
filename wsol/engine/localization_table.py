"""The localization rows of results.json: every protocol, threshold origin and kind of maps of a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsol.engine.evaluation import LOCALIZER, SplitEvaluation, SplitResult
from wsol.metrics._table_rows import localization_rows


def localization_table(
    measured: Mapping[str, SplitResult], evaluations: Mapping[str, SplitEvaluation], judged: str
) -> list[dict[str, Any]]:
    """Return the rows of a split's localization table: by protocol, the localizer first, then the baselines.

    Args:
        measured: results by split; thresholds of origin ``fullsup`` are chosen on ``val`` if it is present.
        evaluations: evaluations by split.
        judged: name of the split to report.

    Returns:
        Rows ``{split, maps, protocol, threshold_origin, threshold, gt_known_error, top1_error, ..., images}``; the
        baselines have no class scores, so they have no top-k errors.
    """
    fullsup = measured.get("val") if judged != "val" else None
    rows: list[dict[str, Any]] = []
    for name, curves in measured[judged].curves.items():
        choosing = fullsup.curves.get(name, {}) if fullsup else {}
        val = {maps: curve for maps, curve in choosing.items() if curve.images}
        for maps, curve in curves.items():
            origins = None if maps == LOCALIZER else evaluations[judged].baselines[name].origins[maps]
            protocol = evaluations[judged].protocols[name]
            is_own = maps == LOCALIZER
            found = localization_rows(protocol, curve, val.get(maps), origins=origins, intervals=is_own)
            rows += [{"split": judged, "maps": maps, **row} for row in found]
    return rows
