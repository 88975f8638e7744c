"""Compare rows with a baseline row on the same images, so that the difficulty of the images cancels out.

With one seed each, the difference of two errors gets a bootstrap interval over images, with the same resampled images
for both errors (see `wsol.functional.bootstrap`); with several common seeds, it gets an interval by Student's t over
the differences per seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wsol.engine.image_results import FILE
from wsol.functional.bootstrap import paired_difference
from wsol.tables.collect import Run
from wsol.tables.compare import Value, Versus, classes_of, over_seeds
from wsol.tables.layout import Layout

DRAWS = 2_000
"""Number of bootstrap samples; more would not change the printed digits."""


def against_baseline(layout: Layout, values: Sequence[Value]) -> list[Value]:
    """Compare every measured cell with the baseline row's cell in the same column, if they are comparable.

    They are if both were measured under the same protocol and threshold origin, on the same images. An interval over
    images needs the results of each image (``image_results.npz``); values that are no mean over images, such as PxAP,
    only have intervals over seeds.
    """
    label = layout.baseline or next(iter(layout.rows), None)
    of_baseline = {value.cell.name: value for value in values if value.cell.row == label}
    return [
        value
        if value.cell.row == label or value.cell.name not in of_baseline
        else _against(value, of_baseline[value.cell.name])
        for value in values
    ]


def _against(value: Value, base: Value) -> Value:
    same = (value.protocol, value.threshold) == (base.protocol, base.threshold)
    if value.measured is None or base.measured is None or not same:
        return value
    if len({_images(run, value) for run in (*value.runs, *base.runs)}) > 1:
        return value
    seeds = sorted(set(value.seeds) & set(base.seeds))
    if len(seeds) > 1:
        found = [_alone(value, seed) - _alone(base, seed) for seed in seeds]
        low, high = over_seeds(found, -100.0, 100.0)
        return replace(value, versus=Versus(base.cell.row, float(np.mean(found)), low, high, "seeds"))
    if len(value.seeds) > 1 or len(base.seeds) > 1 or value.cell.column.of == "pixels":
        return value
    return _over_images(value, base)


def _alone(value: Value, seed: int) -> float:
    """Return the value of one seed."""
    return value.parts[value.seeds.index(seed)]


def _images(run: Run, value: Value) -> str | None:
    """Return the fingerprint of the images of a value."""
    splits = run.results().get("data", {}).get("splits", {})
    return splits.get(value.cell.column.split, {}).get("fingerprint")


def _over_images(value: Value, base: Value) -> Value:
    """Return the value with the paired bootstrap over images of two runs, or with a note on what is missing."""
    column = value.cell.column
    protocol = value.protocol if column.of == "localization" else None
    ours, theirs = (
        each.runs[0].wrong(column.split, column.metric, protocol, value.threshold, classes_of(each.cell))
        for each in (value, base)
    )
    lacking = [each.runs[0].folder for found, each in ((theirs, base), (ours, value)) if found is None]
    if lacking:
        commands = "; ".join(f"wsol eval {folder}" for folder in lacking)
        return replace(
            value, near=f"no interval against {base.cell.row} without {FILE}, which is written by {commands}"
        )
    if ours is None or theirs is None or not np.array_equal(ours.ids, theirs.ids):
        return value
    shift = paired_difference(ours.values, theirs.values, ours.labels, draws=DRAWS)
    mean, low, high = (-shift.mean, -shift.high, -shift.low) if column.accuracy else shift
    # They differ if an evaluation was repeated with other results than those the table shows.
    agrees = np.isclose(mean, _alone(value, value.seeds[0]) - _alone(base, base.seeds[0]), atol=1e-6)
    return replace(value, versus=Versus(base.cell.row, mean, low, high, "images")) if agrees else value
