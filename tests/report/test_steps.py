"""The step function of a map's boxes against the protocol itself, threshold by threshold."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol.config.compose import groups
from wsol.functional.geometry import Geometry
from wsol.functional.iou import iou
from wsol.protocols import RANKED, protocol
from wsol.report.evaluation import at_all_thresholds
from wsol.report.steps import Steps, steps, varints, zigzag
from wsol.types import GroundTruth

SIZE = (47, 38)
VIEW = Geometry(SIZE, (8, 8), (0, 0), (8, 8))
TRUTH = GroundTruth(np.array([[5.0, 6.0, 30.0, 25.0], [20.0, 3.0, 44.5, 36.0]]), inclusive=False)


def cells(seed: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((8, 8)), (0, 0), 1.0)


def box_at(found: Steps, threshold: int) -> np.ndarray:
    return found.boxes[np.searchsorted(found.first, threshold, side="right") - 1]


@pytest.mark.parametrize("name", groups()["protocol"])
@pytest.mark.parametrize("seed", range(3))
def test_the_box_at_every_threshold_is_the_protocols(name: str, seed: int) -> None:
    wide = at_all_thresholds(protocol(name))
    found = wide.find(cells(seed), VIEW)
    mine = steps(wide, found, VIEW, TRUTH)
    assert mine.first[0] == 0
    assert (np.diff(mine.first) > 0).all()
    for at in range(0, max(len(wide.thresholds), 1), 13):
        threshold = None if wide.components == RANKED else float(wide.thresholds[at])
        there = wide.predict(cells(seed), VIEW, threshold)
        box = mine.frame.to_image(box_at(mine, at)).clip(0, np.tile(SIZE, 2))
        assert (box == there).all(axis=1).any(), f"{box} is none of the protocol's boxes at {threshold}"


@pytest.mark.parametrize("name", groups()["protocol"])
def test_of_several_boxes_the_one_that_counts_is_kept(name: str) -> None:
    """Results from the kept box alone equal the protocol's over all boxes, at every threshold and overlap."""
    wide = dataclasses.replace(at_all_thresholds(protocol(name)), iou_thresholds=(0.1, 0.3, 0.5, 0.7))
    for seed in range(4):
        found = wide.find(cells(seed), VIEW)
        mine = steps(wide, found, VIEW, TRUTH)
        half_open = np.array([box_at(mine, at) for at in range(wide.num_columns)])
        corners = wide.predicted_ends(half_open.astype(float), mine.frame.input_size)
        overlap = iou(corners, mine.true_corners, plus_one=wide.plus_one).max(axis=1)
        bounds = [wide.boundary, *([wide.boundary_topk] if wide.boundary_topk else [])]
        asked = [(bound, least) for bound in bounds for least in wide.iou_thresholds]
        right = np.array([overlap >= least if bound == ">=" else overlap > least for bound, least in asked])
        np.testing.assert_array_equal(right, wide.evaluate(cells(seed), VIEW, TRUTH))


def test_without_a_true_box_the_largest_is_kept() -> None:
    wide = at_all_thresholds(protocol("choe2020-v2"))
    found = wide.find(cells(0), VIEW)
    mine = steps(wide, found, VIEW, None)
    there = wide.predict(cells(0), VIEW, 0.5)
    box = mine.frame.to_image(box_at(mine, 500))[0]
    assert len(there) > 1
    assert np.prod(box[2:] - box[:2]) == pytest.approx(np.prod(there[:, 2:] - there[:, :2], axis=1).max())
    assert len(mine.true_corners) == 0


def read_varints(data: bytes) -> list[int]:
    out, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            out.append(value)
            value = shift = 0
    return out


@given(st.lists(st.integers(0, 2**28 - 1) | st.sampled_from([0, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21])))
def test_varints_read_back(values: list[int]) -> None:
    assert read_varints(varints(np.array(values, dtype=np.int64))) == values


@given(st.lists(st.integers(-(2**20), 2**20)))
def test_zigzag_reads_back_and_has_no_sign(values: list[int]) -> None:
    coded = zigzag(np.array(values, dtype=np.int64)).tolist()
    assert all(code >= 0 for code in coded)
    assert [-(code + 1) // 2 if code % 2 else code // 2 for code in coded] == values


def test_numbers_hold_counts_frame_and_differences() -> None:
    frame = Geometry((10, 20), (30, 60), (-2, 3), (24, 25))
    mine = Steps(np.array([0, 7]), np.array([[1, 2, 9, 8], [3, 2, 9, 6]]), frame, np.zeros((1, 4)))
    expected = [2, 1, 30, 60, 3, 6, 24, 25, 0, 2, 4, 18, 16, 7, 4, 0, 0, 3]
    assert mine.numbers().tolist() == expected
