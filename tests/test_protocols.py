"""Protocols against loops written from their definitions, one threshold at a time, and against numbers made by hand."""

import dataclasses
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate

from wsol import protocols
from wsol.errors import InputError
from wsol.functional import maps
from wsol.functional.geometry import Geometry
from wsol.protocols import LocalizationProtocol
from wsol.types import GroundTruth

NAMES = {file.stem for file in (Path(__file__).parents[1] / "configs" / "protocol").glob("*.yaml")}


@pytest.fixture(scope="module")
def shipped():
    """The two protocols as their files give them, chosen together."""
    ConfigStore.instance().store(name="protocols_only", node={"defaults": [{"protocol": ["cam2016", "choe2020"]}]})
    with initialize_config_module("wsol.configs", version_base=None):
        chosen = compose("protocols_only").protocol
    return {name: instantiate(node) for name, node in chosen.items()}


@pytest.fixture
def cam2016(shipped):
    return shipped["cam2016"]


@pytest.fixture
def choe2020(shipped):
    """As shipped, but evaluated in the view itself, so that small maps made by hand stay small."""
    return dataclasses.replace(shipped["choe2020"], frame="input")


def test_the_files_compose_under_their_names(shipped):
    assert {name: p.name for name, p in shipped.items()} == {"cam2016": "cam2016", "choe2020": "choe2020"}
    assert shipped["cam2016"].origins == ("fixed",)
    assert shipped["cam2016"].thresholds.tolist() == [0.2]
    assert shipped["choe2020"].origins == ("fullsup", "oracle")
    assert np.array_equal(shipped["choe2020"].thresholds, np.arange(0, 1, 0.001))


def blob(rng, shape=(14, 14)):
    noise = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), 1.2).astype(np.float32)
    return noise if rng.random() < 0.8 else np.round(noise * 8) / 8


def slow_choe2020(score_map, size, true_boxes, side):
    """MaxBoxAcc's inner loop for one image, a threshold at a time, in plain Python."""
    cam = cv2.resize(score_map.astype(np.float64), (side, side), interpolation=cv2.INTER_CUBIC)
    if np.isnan(cam).any() or cam.min() == cam.max():
        cam = np.zeros_like(cam)
    else:
        cam = cam - cam.min()
        cam = cam / cam.max()
    grey = (cam * 255).astype(np.uint8)
    truths = [[int(float(v) * side / size[k % 2]) for k, v in enumerate(b)] for b in true_boxes]
    hits = []
    for threshold in np.arange(0, 1, 0.001):
        binary = np.where(grey > int(threshold * grey.max()), 255, 0).astype(np.uint8)
        contours = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        a = [0, 0, 0, 0]
        if contours:
            x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
            a = [x, y, min(x + w, side - 1), min(y + h, side - 1)]
        best = 0.0
        for b in truths:
            w = min(a[2], b[2]) - max(a[0], b[0]) + 1
            h = min(a[3], b[3]) - max(a[1], b[1]) + 1
            shared = max(w, 0) * max(h, 0)
            areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
            best = max(best, shared / (sum(areas) - shared))
        hits.append(best >= 0.5)
    return hits


@pytest.mark.parametrize("seed", range(6))
def test_choe2020_equals_a_loop_over_all_thresholds(choe2020, seed):
    rng = np.random.default_rng(seed)
    size, side = (int(rng.integers(30, 90)), int(rng.integers(30, 90))), 56
    low = rng.uniform(0, 0.5, (2, 2)) * size
    high = low + rng.uniform(0.2, 0.5, (2, 2)) * size
    truth = GroundTruth(np.concatenate([low, high], 1).round(1), inclusive=bool(seed % 2))
    score_map = blob(rng)
    if seed == 5:
        score_map[3, 3] = np.nan
    got = choe2020.evaluate(score_map, Geometry.square(size, side), truth)
    assert got.shape == (1, 1000)
    assert got[0].tolist() == slow_choe2020(score_map, size, truth.boxes, side)


def test_choe2020_evaluates_at_224_whatever_the_network_sees(shipped):
    rng = np.random.default_rng(8)
    truth = GroundTruth(np.array([[10.2, 5.0, 60.9, 40.1]]), inclusive=False)
    score_map = blob(rng)
    expected = slow_choe2020(score_map, (80, 60), truth.boxes, 224)
    for side in (64, 224):
        got = shipped["choe2020"].evaluate(score_map, Geometry.square((80, 60), side), truth)
        assert got[0].tolist() == expected


@pytest.mark.parametrize("components", ["largest_pixels", "largest_contour", "all_contours"])
@pytest.mark.parametrize("frame", ["input", "image"])
def test_all_thresholds_at_once_equal_one_at_a_time(choe2020, components, frame):
    protocol = dataclasses.replace(choe2020, components=components, frame=frame, threshold_step=0.05)
    view = Geometry((40, 30), (28, 21), (4, 1), (20, 20), mirrored=True)
    truth = GroundTruth(np.array([[8.0, 5.0, 25.0, 22.0]]), inclusive=True)
    score_map = blob(np.random.default_rng(3))
    alone = [
        dataclasses.replace(protocol, origins=("fixed",), fixed_threshold=float(t)).evaluate(score_map, view, truth)
        for t in protocol.thresholds
    ]
    assert np.concatenate(alone, axis=1).tolist() == protocol.evaluate(score_map, view, truth).tolist()


def test_choe2020_counts_a_blob_one_pixel_larger(choe2020):
    """A blob of 60 x 50 scores as 61 x 51, and one at the frame's end as it is."""
    score_map = np.zeros((224, 224), np.float32)
    score_map[20:70, 10:70] = 1.0
    view = Geometry.square((224, 224), 224)
    half = 61 * 51 / 2
    inside = GroundTruth(np.array([[10.0, 20.0, 70.0, 20.0 + 25]]), inclusive=True)  # 61 x 26 = 1586 > 1555.5
    less = GroundTruth(np.array([[10.0, 20.0, 70.0, 20.0 + 24]]), inclusive=True)  # 61 x 25 = 1525
    assert 61 * 25 < half < 61 * 26
    assert choe2020.evaluate(score_map, view, inside)[0, 500]
    assert not choe2020.evaluate(score_map, view, less)[0, 500]
    corner = np.zeros((224, 224), np.float32)
    corner[124:, 124:] = 1.0  # predicted (124, 124, 223, 223): 100 x 100
    assert choe2020.evaluate(corner, view, GroundTruth(np.array([[124.0, 124.0, 223.0, 173.0]]), inclusive=True))[
        0, 500
    ]
    assert not choe2020.evaluate(corner, view, GroundTruth(np.array([[124.0, 124.0, 223.0, 172.0]]), inclusive=True))[
        0, 500
    ]


def test_choe2020_scales_true_corners_as_written_and_truncates(choe2020):
    score_map = np.zeros((10, 10), np.float32)
    score_map[0, 0] = 1.0  # predicted (0, 0, 1, 1): 2 x 2
    view = Geometry.square((20, 20), 10)
    wide = np.array([[0.0, 0.0, 3.9, 7.9]])  # half: (1.95, 3.95), truncated (1, 3): 2 x 4, overlap 1/2
    for inclusive in (True, False):
        assert choe2020.evaluate(score_map, view, GroundTruth(wide, inclusive))[0, 500]
        assert not choe2020.evaluate(score_map, view, GroundTruth(np.array([[0.0, 0.0, 3.9, 8.0]]), inclusive))[0, 500]


def test_choe2020_of_a_constant_map_predicts_the_first_pixel(choe2020):
    view = Geometry.square((10, 10), 10)
    first, other = (GroundTruth(np.array([corners]), inclusive=True) for corners in ([0.0, 0, 0, 0], [2.0, 2, 7, 7]))
    assert choe2020.evaluate(np.full((10, 10), 0.3), view, first).all()
    assert not choe2020.evaluate(np.full((10, 10), 0.3), view, other).any()


def test_cam2016_by_hand(cam2016):
    """8-bit levels above 51 = 20 % of 255; the larger component by pixels; exact boxes in the image."""
    score_map = np.full((10, 20), -3.0, np.float32)
    score_map[1:6, 2:10] = 0.21  # 40 pixels: x 2..9, y 1..5
    score_map[1, 2] = 1.0
    score_map[7:9, 0:19] = 0.19  # too low
    score_map[0:8, 15:18] = 0.5  # 24 pixels
    view = Geometry((20, 10), (20, 10), (0, 0), (20, 10))
    assert cam2016.predict(score_map, view).tolist() == [[2.0, 1.0, 10.0, 6.0]]
    for inclusive in (True, False):
        end = -1.0 if inclusive else 0.0
        half = GroundTruth(np.array([[2.0, 1.0, 6.0 + end, 6.0 + end]]), inclusive)  # 20 of 40 pixels
        less = GroundTruth(np.array([[2.0, 1.0, 5.9 + end, 6.0 + end]]), inclusive)
        assert cam2016.evaluate(score_map, view, half).tolist() == [[True]]
        assert cam2016.evaluate(score_map, view, less).tolist() == [[False]]
        assert dataclasses.replace(cam2016, boundary=">").evaluate(score_map, view, half).tolist() == [[False]]


def test_cam2016_evaluates_in_the_image_whatever_the_crop(cam2016):
    view = Geometry(image_size=(80, 60), resized=(40, 30), offset=(10, 5), input_size=(20, 20))
    score_map = np.zeros((20, 20), np.float32)
    score_map[5:15, 5:15] = 1.0
    (predicted,) = cam2016.predict(score_map, view)
    # the window is (20, 10, 60, 50); cubic edges spread by about a pixel of the image
    assert np.abs(predicted - [30, 20, 50, 40]).max() <= 2
    assert cam2016.evaluate(score_map, view, GroundTruth(predicted[None], inclusive=False)).tolist() == [[True]]


def test_several_true_boxes_any_hit_counts_and_none_never(cam2016):
    score_map = np.zeros((8, 8), np.float32)
    score_map[:4, :4] = 1
    view = Geometry.square((8, 8), 8)
    boxes = np.array([[5.0, 5.0, 8.0, 8.0], [0.0, 0.0, 4.0, 4.0]])
    assert cam2016.evaluate(score_map, view, GroundTruth(boxes, inclusive=False)).tolist() == [[True]]
    assert cam2016.evaluate(score_map, view, GroundTruth(boxes[:1], inclusive=False)).tolist() == [[False]]
    assert cam2016.evaluate(score_map, view, GroundTruth(np.zeros((0, 4)), inclusive=False)).tolist() == [[False]]


def test_predict_maps_input_boxes_back(choe2020):
    score_map = np.zeros((10, 10), np.float32)
    score_map[2:5, 3:8] = 1
    assert choe2020.predict(score_map, Geometry.square((40, 20), 10), 0.5).tolist() == [[12.0, 4.0, 32.0, 10.0]]
    mirrored = dataclasses.replace(Geometry.square((40, 20), 10), mirrored=True)
    assert choe2020.predict(score_map, mirrored, 0.5).tolist() == [[8.0, 4.0, 28.0, 10.0]]
    with pytest.raises(InputError, match="give the threshold"):
        choe2020.predict(score_map, mirrored)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_protocol_predicts_a_box_of_a_flat_map(name):
    for level in (0.0, 1.0):
        boxes = protocols.protocol(name).predict(np.full((5, 5), level, np.float32), Geometry.square((40, 20), 10), 0.3)
        assert boxes.ndim == 2
        assert boxes.shape[1] == 4
        assert len(boxes) >= 1


@pytest.mark.parametrize("frame", ["input", "image"])
@pytest.mark.parametrize("end", ["last_pixel", "one_past", "one_past_clipped"])
def test_given_boxes_are_evaluated_as_maps_of_the_same_box(choe2020, frame, end):
    protocol = dataclasses.replace(choe2020, frame=frame, predicted_end=end, scaling="max")
    view = Geometry.square((16, 12), 16) if frame == "input" else Geometry((16, 12), (16, 12), (0, 0), (16, 12))
    rng = np.random.default_rng(0)
    for _ in range(40):
        (x0, x1), (y0, y1) = np.sort(rng.integers(0, 16, 2)), np.sort(rng.integers(0, 12, 2))
        score_map = np.zeros(view.input_size[::-1], np.float32)
        drawn = np.array([[x0, y0, x1 + 1, y1 + 1]], float)
        (columns, rows) = (slice(x0, x1 + 1), slice(y0, y1 + 1))
        score_map[rows, columns] = 1
        truth = GroundTruth(np.array([[2.0, 2.0, 12.0, 10.0]]), inclusive=True)
        by_box = protocol.evaluate_boxes(drawn if frame == "image" else view.to_image(drawn), view, truth)
        assert protocol.evaluate(score_map, view, truth)[0, 10] == by_box[0, 0]


def test_ten_crop_is_evaluated_after_merging(shipped):
    rng = np.random.default_rng(0)
    views = [Geometry((30, 20), (30, 20), (x, 0), (20, 20), m) for x in (0, 10) for m in (False, True)]
    whole = cv2.GaussianBlur(rng.random((20, 30)), (0, 0), 4).astype(np.float32)
    parts = [whole[:, v.offset[0] : v.offset[0] + 20] for v in views]
    crops = np.stack([p[:, ::-1] if v.mirrored else p for p, v in zip(parts, views, strict=True)])
    merged, view = maps.merge(crops, views)
    assert np.allclose(merged, whole, atol=1e-6)
    truth = GroundTruth(np.array([[5.0, 5.0, 25.0, 15.0]]), inclusive=False)
    for protocol in shipped.values():
        assert protocol.evaluate(merged, view, truth).shape == (1, len(protocol.thresholds))


def test_the_grid_always_has_the_fixed_threshold(choe2020):
    on_grid = dataclasses.replace(choe2020, fixed_threshold=0.35)
    off_grid = dataclasses.replace(choe2020, fixed_threshold=0.12345)
    assert len(on_grid.thresholds) == 1000
    assert len(off_grid.thresholds) == 1001
    assert 0.12345 in off_grid.thresholds
    assert (np.diff(off_grid.thresholds) > 0).all()
    with pytest.raises(ValueError, match="read-only"):
        on_grid.thresholds[0] = 1


def test_a_protocol_is_a_value(cam2016):
    assert pickle.loads(pickle.dumps(cam2016)) == cam2016
    assert hash(dataclasses.replace(cam2016)) == hash(cam2016)
    assert LocalizationProtocol(**dataclasses.asdict(cam2016)) == cam2016
    with pytest.raises(dataclasses.FrozenInstanceError):
        cam2016.frame = "input"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frame": "imag"}, "did you mean 'image'"),
        ({"components": "largest"}, "Choices: all_contours"),
        ({"boundary": "=="}, "Choices: >, >="),
        ({"origins": ["orakle"]}, "did you mean 'oracle'"),
        ({"origins": []}, "some of fixed"),
        ({"origins": ["oracle", "oracle"]}, "each once"),
        ({"origins": ["fixed"], "fixed_threshold": None}, "needs fixed_threshold"),
        ({"fixed_threshold": 20}, r"\[0, 1\)"),
        ({"iou_thresholds": [50]}, r"\(0, 1\]"),
        ({"iou_thresholds": []}, r"\(0, 1\]"),
        ({"threshold_range": [0.5, 0.2]}, "low < high"),
        ({"frame": "square"}, "needs frame_size"),
        ({"frame": "crop", "frame_size": 224}, "frame_resize of at least"),
        ({"components": "ranked"}, "their own thresholds"),
        ({"guesses": [[1, 2]]}, "only components: ranked"),
        ({"average": "mean"}, "Choices: class, image"),
        ({"threshold_step": 0}, "threshold_step"),
    ],
)
def test_contradictions_are_refused(cam2016, change, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(cam2016, **change)


def test_nothing_is_changed(shipped):
    score_map = blob(np.random.default_rng(0))
    truth = GroundTruth(np.array([[1.0, 2.0, 9.0, 9.0]]), inclusive=True)
    before = score_map.copy(), truth.boxes.copy()
    for protocol in shipped.values():
        protocol.evaluate(score_map, Geometry.square((20, 20), 14), truth)
        protocol.evaluate_boxes(truth.boxes, Geometry.square((20, 20), 14), truth)
    assert np.array_equal(score_map, before[0])
    assert np.array_equal(truth.boxes, before[1])


def test_cam2016_code_sums_magnitudes_of_views_and_of_a_single_map():
    code, text = protocols.protocol("cam2016-code"), protocols.protocol("cam2016")
    whole = Geometry.whole((6, 6))
    signed = np.zeros((6, 6))
    signed[:3, :3], signed[4:, 4:] = 1.0, -2.0
    assert np.array_equal(code.merge(np.stack([signed, -signed]), [whole, whole])[0], 2 * np.abs(signed))
    assert not text.merge(np.stack([signed, -signed]), [whole, whole])[0].any()
    assert np.array_equal(code.levels(signed, whole), code.levels(np.abs(signed), whole))
    assert code.levels(signed, whole)[5, 5] == 255
    assert text.levels(signed, whole)[5, 5] == 0
