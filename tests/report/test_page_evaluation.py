"""The evaluation on the page, in a real browser, equals that of Python."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.report.made_up import BLACKLISTED, CLASSES, IMAGES, NO_MAP, NO_TRUTH, MadeUp, made_up_boxes
from tests.report.pages import evaluated_in_page, mine
from wsol.config.compose import groups
from wsol.functional.error_kinds import KINDS, error_kind
from wsol.functional.iou import iou
from wsol.functional.maps import merge
from wsol.protocols import LocalizationProtocol, protocol
from wsol.report.evaluation import at_all_thresholds
from wsol.report.site import ReportColumn, write
from wsol.report.steps import Steps, steps

PLACES = (0, 3, 57, 200, 201, 333, 498, 650, 777, 998, 999)
OVERLAPS = (0.3, 0.5, 0.7)


def evaluated(run: ReportColumn, wide: LocalizationProtocol, split: MadeUp, i: int) -> tuple[np.ndarray, Steps]:
    """Whether an image is correct, bool (I, G), and its boxes, by the protocol itself."""
    truth = split.truth(i)
    if not run.gives_boxes:
        score_map, view = merge(*run.found.read(split.ids[i], split.size(i)))
        return wide.evaluate(score_map, view, truth), steps(wide, wide.find(score_map, view), view, truth)
    given = run.found[split.ids[i]]
    box, frame = np.zeros((1, 4)) if np.isnan(given.box).any() else given.box[None], wide.frame_of(given.view)
    framed = frame.to_input(box).clip(0, np.tile(frame.input_size, 2))
    right = wide.evaluate_boxes(box, given.view, truth).repeat(wide.num_columns, axis=1)
    return right, Steps(np.zeros(1, int), framed, frame, wide.true_corners(frame, truth))


@pytest.mark.parametrize("name", groups()["protocol"])
def test_results_are_pythons_for_every_image_threshold_and_overlap(
    name: str, split: MadeUp, runs: list[ReportColumn], tmp_path: Path, opened
) -> None:
    own = protocol(name)
    wide = dataclasses.replace(at_all_thresholds(own), iou_thresholds=OVERLAPS)
    runs = [*runs, made_up_boxes(split, "psol", 3)]
    write(tmp_path, name, split, CLASSES, own, runs)
    page = opened(tmp_path)
    places = sorted({min(at, wide.num_columns - 1) for at in PLACES} if len(wide.thresholds) else {0})
    left_out = {NO_TRUTH, NO_MAP, *([BLACKLISTED] if own.blacklist else [])}
    hits: dict[tuple[int, int], np.ndarray] = {}
    found = {}
    for r, run in enumerate(runs):
        for i in sorted(set(range(IMAGES)) - left_out):
            hits[r, i], found[r, i] = evaluated(run, wide, split, i)
    for at in places:
        for k, overlap in enumerate(OVERLAPS):
            answers = evaluated_in_page(page, at, overlap)
            for r, (kinds, overlaps, boxes, accuracy) in enumerate(answers):
                right = [bool(hits[r, i][k, at]) for i in sorted(set(range(IMAGES)) - left_out)]
                labels = split.labels[sorted(set(range(IMAGES)) - left_out)]
                by_class = [np.mean(np.array(right)[labels == label]) for label in np.unique(labels)]
                assert accuracy == pytest.approx(100 * np.mean(by_class if own.average == "class" else right), abs=1e-9)
                for i in range(IMAGES):
                    if i in left_out:
                        assert kinds[i] == 255
                        continue
                    step = np.searchsorted(found[r, i].first, at, side="right") - 1
                    assert (boxes[i] is None) == (step < 0)
                    box = np.zeros(4) if step < 0 else found[r, i].boxes[step]
                    if step >= 0:
                        assert boxes[i] == box.tolist()
                        corners = wide.predicted_ends(box[None].astype(float), found[r, i].frame.input_size)
                        expected = iou(corners, found[r, i].true_corners, plus_one=wide.plus_one).max()
                        assert overlaps[i] == expected, "the same double, to the last bit"
                    in_image = found[r, i].frame.to_image(box[None]).clip(0, np.tile(split.size(i), 2))[0]
                    truth = split.truth(i)
                    assert truth is not None
                    kind = error_kind(
                        in_image if step >= 0 else np.zeros(4),
                        truth.half_open,
                        box_right=bool(hits[r, i][k, at]),
                        class_right=bool(runs[r].ranks[i] == 0),
                    )
                    assert KINDS[kinds[i]] == kind, f"image {i} of run {r} at position {at}"


@pytest.mark.parametrize("boundary", [">=", ">"])
def test_an_overlap_of_exactly_the_one_asked_for(boundary: str, split: MadeUp, runs, tmp_path: Path, opened) -> None:
    own = mine("cam2016", boundary=boundary)
    write(tmp_path, "ties", split, CLASSES, own, runs[:1])
    page = opened(tmp_path)
    ((_, overlaps, _, _),) = evaluated_in_page(page, 200, 0.5)
    i = int(np.argmax(overlaps))
    exact = overlaps[i]
    assert 0 < exact < 1
    ((kinds, _, _, _),) = evaluated_in_page(page, 200, exact)
    score_map, view = merge(*runs[0].found.read(split.ids[i]))
    asked = dataclasses.replace(at_all_thresholds(own), iou_thresholds=(exact,))
    assert (kinds[i] < 2) == asked.evaluate(score_map, view, split.truth(i))[0, 200] == (boundary == ">=")
