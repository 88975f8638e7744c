"""The localization rows of results.json: every protocol, threshold origin and kind of maps of a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsol.engine.evaluation import LOCALIZER, SplitEvaluation
from wsol.engine.split_types import SplitResult
from wsol.metrics._table_rows import localization_rows


def localization_table(
    measured: Mapping[str, SplitResult],
    evaluations: Mapping[str, SplitEvaluation],
    evaluated: str,
    class_agnostic: bool | None = None,
) -> list[dict[str, Any]]:
    """Return the rows of a split's localization table: by protocol, the localizer first, then the baselines.

    Args:
        measured: results by split; thresholds of origin ``fullsup`` are chosen on ``val`` if it is among them.
        evaluations: evaluations that returned them, by split.
        evaluated: the split to report.
        class_agnostic: whether the localizer's maps are the same for all classes; None if unknown.

    Returns:
        Rows ``{split, maps, protocol, threshold_origin, threshold, gt_known_error, top1_error, ..., images}``; the
        baselines have no class scores and so no top-k errors. Those of the localizer say ``class_agnostic``.
    """
    fullsup = measured.get("val") if evaluated != "val" else None
    rows: list[dict[str, Any]] = []
    for name, curves in measured[evaluated].curves.items():
        choosing = fullsup.curves.get(name, {}) if fullsup else {}
        pseudo = measured["val"].pseudo.get(name) if "val" in measured else None
        val = {maps: curve for maps, curve in choosing.items() if curve.images}
        for maps, curve in curves.items():
            origins = None if maps == LOCALIZER else evaluations[evaluated].baselines[name].origins[maps]
            protocol = evaluations[evaluated].protocols[name]
            is_own = maps == LOCALIZER
            found = localization_rows(
                protocol,
                curve,
                val.get(maps),
                origins=origins,
                intervals=is_own,
                pseudo=pseudo if is_own else None,
            )
            fact = {"class_agnostic": class_agnostic} if is_own and class_agnostic is not None else {}
            rows += [{"split": evaluated, "maps": maps, **fact, **row} for row in found]
    return rows
