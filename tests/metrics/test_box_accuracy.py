import dataclasses

import numpy as np
import pytest
import torch

from tests.curves import box_accuracy
from wsol.box_evaluation import GroundTruthBatch
from wsol.errors import InputError
from wsol.functional.baselines import centre_gaussian
from wsol.functional.geometry import Geometry
from wsol.metrics._baselines import BASELINES, Baselines
from wsol.metrics._box_accuracy import BoxAccuracy
from wsol.metrics._table_rows import localization_rows
from wsol.protocols import LocalizationProtocol
from wsol.protocols import protocol as protocol_of
from wsol.types import GroundTruth

PROTOCOL = LocalizationProtocol(
    name="p",
    reference="none",
    frame="input",
    interpolation="cubic",
    scaling="minmax",
    components="largest_contour",
    predicted_end="last_pixel",
    true_end="last_pixel",
    truncate_true_box=False,
    clip_true_box="none",
    plus_one=True,
    boundary=">=",
    average="image",
    blacklist=False,
    origins=("fixed", "fullsup", "oracle"),
    fixed_threshold=0.2,
    threshold_step=0.1,
)


EYE = np.eye(10, dtype=bool)[:, None]


def correct(baselines, view, truth):
    """Whether the baselines are correct on one image: bool (I, G) by name."""
    return {name: one[0] for name, one in baselines.correct([view], GroundTruthBatch.of([truth])).items()}


def draw(rng, n, thresholds):
    return rng.random((n, 1, thresholds)) < 0.5, rng.integers(0, 8, n)


@pytest.mark.parametrize("thresholds", [1, 7, 8, 9, 1000])
def test_curves_equal_plain_means(thresholds):
    rng = np.random.default_rng(thresholds)
    hits, ranks = draw(rng, 60, thresholds)
    metric = BoxAccuracy(np.arange(thresholds) / thresholds, topk=(1, 5))
    for some in np.array_split(rng.permutation(60), 7):
        metric.update(torch.from_numpy(hits[some]), some, torch.from_numpy(ranks[some]))
    curves = metric.compute()
    assert np.allclose(curves.gt_known, 100 * hits.mean(0))
    for k in (1, 5):
        assert np.allclose(curves.accuracy(f"top{k}"), 100 * (hits * (ranks < k)[:, None, None]).mean(0))
    twin = box_accuracy(hits, metric.layout.thresholds, ranks)
    for name in curves.names():
        assert np.array_equal(twin.accuracy(name), curves.accuracy(name))


def test_memory_is_a_few_hundred_bytes_an_image():
    metric = BoxAccuracy(np.arange(0, 1, 0.001))
    for start in range(0, 1024, 64):
        index = torch.arange(start, start + 64)
        metric.update(np.zeros((64, 1, 1000), bool), index, torch.zeros(64))
    kept = sum(t.element_size() * t.nelement() for name in ("correct", "ranks", "index") for t in getattr(metric, name))
    assert kept / 1024 == 125 + 4 + 8


def test_rows_of_each_origin():
    evaluated = box_accuracy(EYE[[4, 4, 2, 7]], PROTOCOL.thresholds, [0, 3, 0, 9])
    fullsup = box_accuracy(EYE[[7, 7, 4]], PROTOCOL.thresholds, [0, 0, 0])
    rows = {row["threshold_origin"]: row for row in localization_rows(PROTOCOL, evaluated, fullsup)}
    assert list(rows) == ["fixed", "fullsup", "oracle"]
    assert rows["oracle"] == {
        "protocol": "p",
        "threshold_origin": "oracle",
        "threshold": 0.4,
        "gt_known_error": 50.0,
        "top1_error": 75.0,
        "top5_error": 50.0,
        "images": 4,
    }
    assert (rows["fullsup"]["threshold"], rows["fullsup"]["gt_known_error"]) == (0.7, 75.0)
    assert (rows["fixed"]["threshold"], rows["fixed"]["gt_known_error"]) == (0.2, 75.0)
    assert rows["fixed"]["top1_error"] == 75.0
    without = localization_rows(PROTOCOL, evaluated)
    assert [row["threshold_origin"] for row in without] == ["fixed", "oracle"]


def test_of_equal_thresholds_the_lowest_is_taken():
    evaluated = box_accuracy(np.ones((1, 1, 10), bool), PROTOCOL.thresholds, [0])
    (row,) = localization_rows(PROTOCOL, evaluated, origins=["oracle"])
    assert row["threshold"] == 0.0


def test_no_images_give_no_errors():
    evaluated = box_accuracy(np.zeros((0, 1, 10), bool), PROTOCOL.thresholds, [])
    (row, _) = localization_rows(PROTOCOL, evaluated)
    assert (row["gt_known_error"], row["top1_error"], row["images"]) == (None, None, 0)
    assert np.isnan(evaluated.gt_known).all()


def test_bad_input_is_refused():
    metric = BoxAccuracy(PROTOCOL.thresholds)
    with pytest.raises(InputError, match=r"\(N, 1, 10\), got \(2, 1, 9\)"):
        metric.update(np.zeros((2, 1, 9), bool), [0, 1], np.zeros(2))
    with pytest.raises(InputError, match="needs ranks"):
        metric.update(np.zeros((2, 1, 10), bool), [0, 1])
    with pytest.raises(InputError, match="needs ranks"):
        box_accuracy(np.zeros((2, 1, 1), bool), None)
    with pytest.raises(InputError, match="needs labels"):
        box_accuracy(np.zeros((2, 1, 1), bool), None, topk=[], by_class=True)
    evaluated = box_accuracy(np.zeros((2, 1, 10), bool), PROTOCOL.thresholds, topk=[])
    other = box_accuracy(np.zeros((2, 1, 3), bool), np.arange(3) / 3, topk=[])
    with pytest.raises(InputError, match="different thresholds"):
        localization_rows(PROTOCOL, evaluated, other)


def test_baselines_end_to_end():
    baselines = Baselines(PROTOCOL)
    metrics = {name: baselines.metric(name) for name in BASELINES}
    truths = [[0.0, 0, 20, 10], [5.0, 2, 15, 8], [0.0, 0, 4, 4]]
    for position, corners in enumerate(truths):
        hits = correct(baselines, Geometry.square((20, 10), 16), GroundTruth(np.array([corners]), inclusive=False))
        for name, metric in metrics.items():
            metric.update(hits[name][None], [position])
    rows = {
        name: localization_rows(PROTOCOL, metric.compute(), origins=baselines.origins[name])
        for name, metric in metrics.items()
    }
    assert rows["whole image"] == [
        {
            "protocol": "p",
            "threshold_origin": "none",
            "threshold": None,
            "gt_known_error": pytest.approx(200 / 3),
            "images": 3,
        }
    ]
    # The second truth is half the image's width and .6 of its height: a box of .75 has IoU .5333 with it and .5625
    # with the whole image.
    (best,) = rows["centre box"]
    assert best["gt_known_error"] == pytest.approx(100 / 3)
    assert 0.71 <= best["threshold"] <= 0.77
    assert [row["threshold_origin"] for row in rows["centre gaussian"]] == ["fixed", "oracle"]


def test_centre_box_under_a_protocol_of_fixed_threshold_is_chosen():
    fixed = dataclasses.replace(PROTOCOL, origins=("fixed",))
    assert Baselines(fixed).origins["centre box"] == ("fullsup", "oracle")
    assert Baselines(fixed).origins["centre gaussian"] == ("fixed",)


@pytest.mark.parametrize("frame", ["input", "image"])
def test_the_cached_gaussian_is_evaluated_like_any_map(frame):
    protocol = dataclasses.replace(PROTOCOL, frame=frame)
    baselines = Baselines(protocol)
    for size in ((20, 10), (20, 10), (9, 13)):
        view = Geometry(size, (24, 24), (2, 4), (16, 16))
        truth = GroundTruth(np.array([[3.0, 2.0, 8.0, 9.0]]), inclusive=True)
        expected = protocol.evaluate(centre_gaussian((16, 16)), view, truth)
        assert correct(baselines, view, truth)["centre gaussian"].tolist() == expected.tolist()
    assert len(baselines._found) == (1 if frame == "input" else 2)


def test_the_cache_stays_small(monkeypatch):
    monkeypatch.setattr("wsol.metrics._baselines._CACHED_SIZES", 2)
    baselines = Baselines(dataclasses.replace(PROTOCOL, frame="image"))
    for width in range(8, 13):
        correct(
            baselines, Geometry.square((width, 8), 8), GroundTruth(np.array([[1.0, 1.0, 6.0, 6.0]]), inclusive=True)
        )
        assert len(baselines._found) <= 2


def test_several_overlaps_have_thresholds_of_their_own():
    rng = np.random.default_rng(0)
    protocol = dataclasses.replace(PROTOCOL, iou_thresholds=(0.3, 0.5, 0.7))
    overlaps = rng.random((50, 1, 10))
    hits, ranks = overlaps >= np.array([0.3, 0.5, 0.7])[:, None], rng.integers(0, 3, 50)
    metric = BoxAccuracy.from_protocol(protocol, [1])
    metric.update(hits, np.arange(50), ranks)
    curves = metric.compute()
    (row,) = localization_rows(protocol, curves, origins=["oracle"])
    best = [hits[:, i].mean(0).argmax() for i in range(3)]
    assert row["threshold"] is None
    assert row["gt_known_error"] == pytest.approx(
        100 - 100 * np.mean([hits[:, i, g].mean() for i, g in enumerate(best)])
    )
    top1 = [(hits[:, i, g] & (ranks == 0)).mean() for i, g in enumerate(best)]
    assert row["top1_error"] == pytest.approx(100 - 100 * np.mean(top1))
    assert [(part["iou"], part["threshold"]) for part in row["by_iou"]] == [
        (iou, round(g / 10, 12)) for iou, g in zip((0.3, 0.5, 0.7), best, strict=True)
    ]
    assert np.allclose(curves.correct("gt_known", best), np.mean([hits[:, i, g] for i, g in enumerate(best)], axis=0))


def test_the_mean_over_classes():
    hits = np.array([True, True, True, False, False, True])[:, None, None]
    labels = np.array([4, 4, 4, 4, 9, 9])
    curves = box_accuracy(hits, None, topk=[], labels=labels, by_class=True)
    assert curves.gt_known.tolist() == [[100 * (3 / 4 + 1 / 2) / 2]]
    assert curves.per_class("gt_known", [0], labels) == {4: 75.0, 9: 50.0}


def test_guesses_name_class_and_box():
    """Classes 1 and 2 with two boxes each, class 3 with one: the heuristics of CAM 2016."""
    ranked = protocol_of("cam2016-code")
    hits = np.array([[True, False], [False, True], [False, True], [True, False], [False, True], [True, True]])[:, None]
    ranks = np.array([0, 0, 1, 2, 2, 3])
    metric = BoxAccuracy.from_protocol(ranked, [1, 5])
    metric.update(hits, np.arange(6), ranks)
    (row,) = localization_rows(ranked, metric.compute())
    assert (row["threshold_origin"], row["threshold"]) == ("fixed", None)
    assert row["gt_known_error"] == 50.0  # the first boxes of images 0, 3 and 5
    assert row["top1_error"] == pytest.approx(100 * 5 / 6)  # image 0 alone
    assert row["top5_error"] == pytest.approx(100 * 2 / 6)  # images 0, 1, 2 and 3


def test_intervals_hold_the_error():
    evaluated = box_accuracy(np.arange(200).reshape(-1, 1, 1) % 3 == 0, None, np.zeros(200))
    (row,) = localization_rows(PROTOCOL, evaluated, intervals=True)
    for error in ("gt_known_error", "top1_error"):
        low, high = row["intervals"][error]
        assert low < row[error] < high
        assert 5 < high - low < 20
