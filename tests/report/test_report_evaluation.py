"""What a report adds to a protocol changes nothing that the protocol says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.report.made_up import BLACKLISTED, NO_MAP, NO_TRUTH, MadeUp, made_up_run
from wsol.config.compose import groups
from wsol.functional.maps import merge
from wsol.protocols import protocol
from wsol.report.confusion import confusion
from wsol.report.evaluation import OVERLAPS, Accuracy, at_all_thresholds, evaluate
from wsol.report.pictures import small_map


@pytest.mark.parametrize("name", groups()["protocol"])
def test_more_thresholds_and_overlaps_change_no_result(tmp_path: Path, name: str) -> None:
    own, wide = protocol(name), at_all_thresholds(protocol(name))
    split = MadeUp()
    shown = made_up_run(tmp_path, split, "run")
    columns = [int(np.abs(wide.thresholds - t).argmin()) for t in own.thresholds] or list(range(own.num_columns))
    rows = [wide.iou_thresholds.index(overlap) for overlap in own.iou_thresholds]
    rows += [len(wide.iou_thresholds) + row for row in rows] if own.has_topk_boundary else []
    if len(own.thresholds):
        np.testing.assert_allclose(wide.thresholds[columns], own.thresholds, rtol=0, atol=1e-12)
    for i in range(6):
        if i not in (NO_TRUTH, NO_MAP):
            score_map, view = merge(*shown.found.read(split.ids[i]))
            expected = own.evaluate(score_map, view, split.truth(i))
            np.testing.assert_array_equal(
                wide.evaluate(score_map, view, split.truth(i))[np.ix_(rows, columns)], expected
            )


@pytest.mark.parametrize("chunk", [5, 100])
def test_accuracy_counts_what_the_protocol_evaluates(tmp_path: Path, chunk: int) -> None:
    split, wide = MadeUp(), at_all_thresholds(protocol("cam2016"))
    shown = made_up_run(tmp_path, split, "run")
    accuracy = Accuracy(split, wide, shown.ranks)
    with ThreadPoolExecutor(2) as pool:
        for positions, evaluated in evaluate(split, shown.found, wide, pool, chunk):
            accuracy.add(positions, evaluated)
            assert [one is None for one in evaluated] == [at == NO_MAP for at in positions]
    assert np.flatnonzero(~accuracy.counts).tolist() == sorted([NO_TRUTH, NO_MAP, BLACKLISTED])
    evaluated_ones = np.flatnonzero(accuracy.counts).tolist()
    hits = [wide.evaluate(*merge(*shown.found.read(split.ids[i])), split.truth(i)) for i in evaluated_ones]
    curves = accuracy.curves()
    np.testing.assert_allclose(curves.gt_known, 100 * np.mean(hits, axis=0))
    first = shown.ranks[accuracy.counts] == 0
    np.testing.assert_allclose(curves.accuracy("top1"), 100 * np.mean(np.array(hits) * first[:, None, None], axis=0))
    assert wide.iou_thresholds == OVERLAPS


def test_small_maps_keep_the_shape_and_the_peak() -> None:
    from wsol.functional.geometry import Geometry

    spot = np.zeros((60, 120))
    spot[30:36, 90:96] = 1.0
    small = small_map(spot, Geometry.whole((120, 60)), protocol("cam2016"))
    assert small.shape == (20, 40)
    assert np.unravel_index(small.argmax(), small.shape) in [(y, x) for y in (10, 11) for x in (30, 31)]


def test_confusion_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(20, size=400), rng.integers(-1, 20, size=400)
    found = confusion(labels, predicted)
    counts: dict[tuple[int, int], int] = {}
    errors = [0] * 20
    for true, guess in zip(labels.tolist(), predicted.tolist(), strict=True):
        if guess >= 0:
            counts[true, guess] = counts.get((true, guess), 0) + 1
            errors[true] += true != guess
            errors[guess] += true != guess
    assert [count for *_, count in found["pairs"]] == sorted(
        (count for (true, guess), count in counts.items() if true != guess), reverse=True
    )[: len(found["pairs"])]
    assert all(counts[true, guess] == count for true, guess, count in found["pairs"])
    left = set(range(20)) - set(found["classes"])
    assert min(errors[label] for label in found["classes"]) >= max(errors[label] for label in left)
    for row, true in zip(found["matrix"], found["classes"], strict=True):
        assert sum(row) == sum(count for (label, _), count in counts.items() if label == true)
        assert row[:-1] == [counts.get((true, guess), 0) for guess in found["classes"]]


def test_confusion_without_an_error() -> None:
    assert confusion(np.array([0, 1]), np.array([0, -1])) == {"pairs": [], "classes": [], "matrix": []}
