"""Compare measured with published numbers: each cell's value over its runs, its interval, its comparability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from wsol.functional.bootstrap import interval
from wsol.runs.results import LOCALIZER
from wsol.tables.collect import ANY, BORROWED, Run
from wsol.tables.layout import Cell, Column

GT_KNOWN = "gt_known_error"


@dataclass(frozen=True)
class Versus:
    """The difference between a cell's value and the baseline row's, percent."""

    baseline: str
    difference: float
    low: float
    high: float
    over: str
    """``images`` (paired by image) or ``seeds`` (paired by seed): what the 95 % interval is over."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does not reach zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Value:
    """The value of a cell."""

    cell: Cell
    measured: float | None = None
    """Percent, mean over seeds."""
    interval: tuple[float, float] | None = None
    """95 % interval: over images for one seed, over seeds for several."""
    over: str | None = None
    """``images`` or ``seeds``: what the interval is over."""
    seeds: tuple[int, ...] = ()
    protocol: str | None = None
    """The protocol that the value was measured under."""
    threshold: str | None = None
    """Its threshold's origin."""
    class_agnostic: bool = False
    """Whether the maps of an image are the same for all classes."""
    runs: tuple[Run, ...] = ()
    """One run for each of ``seeds``."""
    parts: tuple[float, ...] = ()
    """The value of each run."""
    missing: tuple[str, ...] = ()
    """Commands that make the missing runs."""
    classes: str | None = None
    """Whose classes the runs were evaluated with: ``own``, or ``borrowed`` and the classifier's name; None of GT-known
    localization and pixels, which need no classes."""
    near: str | None = None
    """A run that nearly matches the missing one."""
    versus: Versus | None = None
    """The difference to the baseline row."""

    @property
    def marks(self) -> list[str]:
        """Return why the published number is uncertain, or cannot be compared with the measured one."""
        found = []
        if self.cell.published and self.cell.published.provenance == "unverified":
            found.append("published number unverified")
        if self.measured is not None:
            if self.cell.differs:
                found.append(f"not comparable: {self.cell.differs}")
            wanted = "published" if self.cell.published else "the column asks for"
            if self.protocol != self.cell.column.protocol:
                under = "published under" if self.cell.published else wanted
                found.append(f"measured under {self.protocol}, {under} {self.cell.column.protocol}")
            elif self.threshold != self.cell.column.threshold:
                found.append(f"threshold {self.threshold}, {wanted} {self.cell.column.threshold}")
            if self.class_agnostic:
                found.append("class-agnostic maps")
        return found

    @property
    def difference(self) -> float | None:
        """Return measured minus published; None unless both exist and are comparable."""
        column = self.cell.column
        same = (self.protocol, self.threshold) == (column.protocol, column.threshold) and not self.cell.differs
        if self.measured is None or self.cell.published is None or not same:
            return None
        return self.measured - self.cell.published.value


def compare(cell: Cell, runs: Mapping[int, Run], commands: Mapping[int, str], near: str | None = None) -> Value:
    """Measure a cell.

    Args:
        cell: a cell of the table.
        runs: runs of one experiment, by seed.
        commands: commands that make the wanted runs, by seed.
        near: the run that differs least from a missing one.
    """
    missing = tuple(command for seed, command in commands.items() if seed not in runs)
    measured = {seed: _part(_results(cell, run), cell.column) for seed, run in runs.items()}
    found = {seed: part for seed, part in measured.items() if part is not None}
    if len({(part.protocol, part.threshold) for part in found.values()}) > 1:  # only some were evaluated as published
        asked = (cell.column.protocol, cell.column.threshold)
        found = {seed: part for seed, part in found.items() if (part.protocol, part.threshold) == asked}
    if not found:
        lacking = _lacking(cell, next(iter(runs.values()))) if runs else near
        return Value(cell, missing=missing, near=lacking)
    parts = list(found.values())
    values = [part.value for part in parts]
    bounds, over = (parts[0].interval, "images") if len(parts) == 1 else (over_seeds(values), "seeds")
    return Value(
        cell,
        measured=sum(values) / len(values),
        interval=bounds,
        over=over if bounds else None,
        seeds=tuple(found),
        protocol=parts[0].protocol,
        threshold=parts[0].threshold,
        class_agnostic=parts[0].class_agnostic,
        runs=tuple(runs[seed] for seed in found),
        parts=tuple(values),
        missing=missing,
        classes=_classes(cell, [runs[seed] for seed in found]),
    )


def classes_of(cell: Cell) -> str | None:
    """Return whose classes a cell's runs are evaluated with, as `Run.results` takes it; None for their own.

    GT-known localization needs no classes, so every evaluation has it.
    """
    return ANY if cell.column.metric == GT_KNOWN else cell.classes


def _results(cell: Cell, run: Run) -> Mapping[str, Any]:
    """Return the results of a run for a cell."""
    return run.results(classes_of(cell))


def _classes(cell: Cell, runs: Sequence[Run]) -> str | None:
    """Return whose classes the runs of a cell were evaluated with, see `Value.classes`."""
    if cell.column.metric == GT_KNOWN or cell.column.of == "pixels":
        return None
    names = [(_results(cell, run).get("classes") or {}).get("name") for run in runs]
    others = list(dict.fromkeys(name for name in names if name is not None))
    return f"{BORROWED}, {' and '.join(others)}" if others else "own"


def _lacking(cell: Cell, run: Run) -> str:
    """Return what to do about a run that lacks the cell's value."""
    if cell.classes == BORROWED:
        return f"wsol eval {run.folder} classes=<the run of a classifier, or a CSV of classes>"
    if cell.classes is not None:
        return f"wsol eval {run.folder} classes=<the classes of {cell.classes}, such as {cell.classes}.csv>"
    return f"{run.folder} has no such {cell.column.metric}"


@dataclass(frozen=True)
class _Part:
    """The value of one run."""

    value: float
    interval: tuple[float, float] | None
    protocol: str | None
    threshold: str | None
    class_agnostic: bool = False


def _part(results: Mapping[str, Any], column: Column) -> _Part | None:
    """Return the value of one run; under another protocol if it was not evaluated under the column's."""
    if column.of != "localization":
        value = results.get(column.of, {}).get(column.split, {}).get(column.metric)
        if value is None:
            return None
        about = results["data"].get("splits", {}).get(column.split, {}) if column.of == "classification" else {}
        images = about.get("images", 0)
        return _turned(float(value), _of_share(float(value), images) if images else None, column, None, None)
    rows = [
        row
        for row in results["localization"]
        if row["split"] == column.split and row["maps"] == LOCALIZER and row.get(column.metric) is not None
    ]
    asked = [row for row in rows if row["protocol"] == column.protocol] or rows
    asked = [row for row in asked if row["threshold_origin"] == column.threshold] or asked
    if not asked:
        return None
    bounds = asked[0].get("intervals", {}).get(column.metric)
    pair = (float(bounds[0]), float(bounds[1])) if bounds else None
    row = asked[0]
    part = _turned(float(row[column.metric]), pair, column, row["protocol"], row["threshold_origin"])
    return replace(part, class_agnostic=row.get("class_agnostic") is True)


def _turned(
    value: float, bounds: tuple[float, float] | None, column: Column, protocol: str | None, threshold: str | None
) -> _Part:
    """Convert to an accuracy if the column shows accuracies."""
    if column.accuracy:
        value, bounds = 100.0 - value, bounds and (100.0 - bounds[1], 100.0 - bounds[0])
    protocol, threshold = (protocol, threshold) if protocol else (column.protocol, column.threshold)
    return _Part(value, bounds, protocol, threshold)


def _of_share(percent: float, images: int) -> tuple[float, float]:
    """Return the bootstrap interval of a share of images, in percent."""
    wrong = np.zeros(images)
    wrong[: round(percent / 100.0 * images)] = 100.0
    low, high = interval(wrong)
    return float(low), float(high)


def over_seeds(values: Sequence[float], low: float = 0.0, high: float = 100.0) -> tuple[float, float]:
    """Return the 95 % interval of the mean by Student's t, clipped to a range.

    Example:
        >>> [round(bound, 2) for bound in over_seeds([10.0, 12.0, 14.0])]
        [7.03, 16.97]
    """
    count = len(values)
    mean = sum(values) / count
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)  # the quantile of Student's t
    return max(mean - half, low), min(mean + half, high)
