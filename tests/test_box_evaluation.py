"""Batches evaluated by compiled code against the slow path: map by map, OpenCV at every cut."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol import box_evaluation
from wsol.errors import InputError
from wsol.functional import boxes, maps
from wsol.functional.box_engine.placing import _cubic
from wsol.functional.geometry import Geometry
from wsol.protocols import RANKED, LocalizationProtocol, protocol
from wsol.types import GroundTruth

NAMES = ("choe2020", "choe2020-v2", "cam2016", "cam2016-code", "bas2022")
NAMES += ("adl2019", "psol2020", "tscam2021", "acol2018", "ilsvrc")
NAMES += ("ivr2021", "ivr2021-pas", "rethinking2020", "sat2023", "tokencut2022", "genpromp2023", "calm2021")
NAMES += ("c2am2022",)
COARSE = {"threshold_step": 0.03}
SMALL = {"frame_size": 56, "frame_resize": 64}


def small(name: str) -> LocalizationProtocol:
    """A protocol with a small frame and few thresholds, so that the slow path takes little time."""
    given = protocol(name)
    changes = {key: value for key, value in SMALL.items() if getattr(given, key)}
    changes |= {"threshold_step": 0.25} if given.threshold_spacing == "log" else {}
    return dataclasses.replace(given, **((COARSE if given.components != RANKED else {}) | changes))


PROTOCOLS = {name: small(name) for name in NAMES}
CHOOSING = {"origins": ("fixed", "oracle"), "threshold_step": 0.1}
PROTOCOLS |= {
    "peak of many": dataclasses.replace(PROTOCOLS["choe2020"], components="peak"),
    "peak of one": dataclasses.replace(PROTOCOLS["sat2023"], components="peak", **CHOOSING),
    "mean of many": dataclasses.replace(PROTOCOLS["tokencut2022"], scale_first=False, **CHOOSING),
    "percentile of many": dataclasses.replace(PROTOCOLS["rethinking2020"], threshold_quantile=0.83, **CHOOSING),
    "quantiles first": dataclasses.replace(PROTOCOLS["ivr2021"], scale_first=True),
    "clip first": dataclasses.replace(PROTOCOLS["calm2021"], scale_first=True),
    "one of quantiles": dataclasses.replace(PROTOCOLS["sat2023"], scaling="quantiles", quantiles=(0.3, 0.8)),
}


def slow(evaluated_by: LocalizationProtocol, score_map: np.ndarray, view: Geometry, truth: GroundTruth) -> np.ndarray:
    """`LocalizationProtocol.evaluate`, with boxes from OpenCV."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "AVAILABLE", False)
        return evaluated_by.evaluate(score_map, view, truth)


def some_map(rng: np.random.Generator, kind: int) -> np.ndarray:
    cells = int(rng.choice([1, 2, 5, 9]))
    shape = cells, int(rng.integers(1, 10))
    kinds = (
        rng.standard_normal(shape),
        np.maximum(rng.standard_normal(shape), 0),
        np.round(rng.random(shape) * 3),
        np.full(shape, 0.3),
        np.zeros(shape),
        rng.random((70, 66)),
        np.where(rng.random(shape) < 0.2, np.nan, rng.random(shape)),
    )
    return kinds[kind].astype(np.float32)


def some_view(rng: np.random.Generator) -> Geometry:
    size = int(rng.integers(20, 90)), int(rng.integers(20, 90))
    views = (
        Geometry.square(size, 56),
        Geometry.whole(size),
        Geometry.crop(size, 64, 56),
        Geometry(size, (56, 56), (0, 0), (56, 56), mirrored=True),
    )
    return views[int(rng.integers(0, 4))]


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1))
def test_a_batch_is_evaluated_as_its_maps_one_by_one(seed):
    rng = np.random.default_rng(seed)
    score_maps = [some_map(rng, int(rng.integers(0, 7))) for _ in range(4)]
    views, truths = [some_view(rng) for _ in range(4)], []
    for view in views:
        corner = rng.random((int(rng.integers(0, 3)), 2)) * view.image_size
        side = 1 + rng.random(corner.shape) * view.image_size
        truths.append(GroundTruth(np.concatenate([corner, corner + side], 1).round(), bool(rng.integers(0, 2))))
    found = box_evaluation.evaluate(PROTOCOLS, score_maps, views, truths)
    for name, evaluated_by in PROTOCOLS.items():
        one_by_one = [slow(evaluated_by, *one) for one in zip(score_maps, views, truths, strict=True)]
        assert found[name].tolist() == [one.tolist() for one in one_by_one], name


@pytest.mark.parametrize("name", ["choe2020", "choe2020-v2", "cam2016", "bas2022"])
def test_whole_curves_at_the_protocols_own_sizes(name):
    rng = np.random.default_rng(0)
    evaluated_by, view = protocol(name), Geometry.square((120, 90), 224)
    truth = GroundTruth(np.array([[20.0, 10.0, 80.0, 70.0], [0.0, 0.0, 119.0, 89.0]]), inclusive=True)
    score_maps = [cv2.GaussianBlur(rng.standard_normal((14, 14)), (0, 0), 1.5).astype(np.float32) for _ in range(3)]
    found = box_evaluation.evaluate({name: evaluated_by}, score_maps, [view] * 3, [truth] * 3)[name]
    assert found.any()
    assert found.tolist() == [slow(evaluated_by, score_map, view, truth).tolist() for score_map in score_maps]


@given(st.integers(1, 40), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_the_weights_of_cubic_interpolation_are_opencvs(cells, size, seed):
    row = np.random.default_rng(seed).standard_normal((1, cells))
    found, weights = _cubic(cells, size)
    products = row[0][found] * weights
    ours = products[:, 0] + products[:, 1] + products[:, 2] + products[:, 3]
    expected = cv2.resize(np.repeat(row, 2, 0), (size, 2), interpolation=cv2.INTER_CUBIC)[0]
    vertical = np.array([0.0, 1.0, 0.0, 0.0])
    assert (ours * vertical[1]).tolist() == expected.tolist()


def test_what_is_wrong_with_a_map_names_the_image():
    unscaled = dataclasses.replace(PROTOCOLS["choe2020"], scaling="none")
    view, truth = Geometry.square((9, 9), 9), GroundTruth(np.array([[0.0, 0.0, 5.0, 5.0]]), inclusive=False)
    given = [np.ones((3, 3)), np.full((3, 3), 2.0)]
    with pytest.raises(InputError, match=r"b\.jpg, protocol 'choe2020': scaling 'none' expects maps in \[0, 1\]"):
        box_evaluation.evaluate({"choe2020": unscaled}, given, [view] * 2, [truth] * 2, ["a.jpg", "b.jpg"])


def test_protocols_that_place_alike_are_one_group():
    groups = box_evaluation.groups_of(tuple(PROTOCOLS.items()))
    members = {tuple(name for name, _ in group.protocols) for group in groups}
    assert any({"choe2020", "choe2020-v2", "peak of many"} <= set(names) for names in members)
    assert ("acol2018", "ilsvrc") in members
    assert ("bas2022",) in members


def test_threads_are_the_process_share(monkeypatch):
    alone = box_evaluation.threads()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * alone))
    assert box_evaluation.threads() == 1


def test_a_window_is_what_the_boxes_of_the_geometries_say():
    rng = np.random.default_rng(0)
    for _ in range(50):
        view = some_view(rng)
        frame = Geometry.crop(view.image_size, 64, 56)
        seen = maps.upright(view).to_image([[0.0, 0.0, *view.input_size]])
        expected = np.rint(frame.to_input(seen)[0]).astype(int).tolist()
        assert list(maps.window(view, frame)) == expected
