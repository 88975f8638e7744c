import dataclasses

import numpy as np
import pytest
import torch

from wsol.errors import InputError
from wsol.functional.baselines import centre_gaussian
from wsol.functional.geometry import Geometry
from wsol.metrics import BASELINES, Baselines, BoxAccuracy, box_accuracy, localization_rows
from wsol.protocols import Protocol
from wsol.types import Truth

PROTOCOL = Protocol(
    name="p",
    reference="none",
    frame="input",
    interpolation="cubic",
    scaling="minmax",
    components="largest_contour",
    predicted_end="last_pixel",
    true_end="last_pixel",
    truncate_true_box=False,
    plus_one=True,
    boundary=">=",
    origins=("fixed", "fullsup", "oracle"),
    fixed_threshold=0.2,
    threshold_step=0.1,
)


def draw(rng, n, thresholds):
    return rng.random((n, thresholds)) < 0.5, rng.integers(0, 8, n)


@pytest.mark.parametrize("thresholds", [1, 7, 8, 9, 1000])
def test_curves_equal_plain_means(thresholds):
    rng = np.random.default_rng(thresholds)
    hits, ranks = draw(rng, 60, thresholds)
    metric = BoxAccuracy(np.arange(thresholds) / thresholds, topk=(1, 5))
    for some in np.array_split(rng.permutation(60), 7):
        metric.update(torch.from_numpy(hits[some]), torch.from_numpy(ranks[some]), some)
    curves = metric.compute()
    assert np.allclose(curves.gt_known, 100 * hits.mean(0))
    assert curves.topk_hits[1].tolist() == hits[ranks < 1].sum(0).tolist()
    assert curves.topk_hits[5].tolist() == hits[ranks < 5].sum(0).tolist()
    twin = box_accuracy(hits, ranks, metric.thresholds)
    assert twin.hits.tolist() == curves.hits.tolist()
    assert {k: v.tolist() for k, v in twin.topk_hits.items()} == {k: v.tolist() for k, v in curves.topk_hits.items()}


def test_memory_is_a_few_hundred_bytes_an_image():
    metric = BoxAccuracy(np.arange(0, 1, 0.001))
    for start in range(0, 1024, 64):
        index = torch.arange(start, start + 64)
        metric.update(np.zeros((64, 1000), bool), torch.zeros(64), index)
    kept = sum(t.element_size() * t.nelement() for name in ("hits", "ranks", "index") for t in getattr(metric, name))
    assert kept / 1024 == 125 + 4 + 8


def test_rows_of_each_origin():
    judged = box_accuracy(np.eye(10, dtype=bool)[[4, 4, 2, 7]], np.array([0, 3, 0, 9]), PROTOCOL.thresholds)
    fullsup = box_accuracy(np.eye(10, dtype=bool)[[7, 7, 4]], np.array([0, 0, 0]), PROTOCOL.thresholds)
    rows = {row["threshold_origin"]: row for row in localization_rows(PROTOCOL, judged, fullsup)}
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
    without = localization_rows(PROTOCOL, judged)
    assert [row["threshold_origin"] for row in without] == ["fixed", "oracle"]


def test_of_equal_thresholds_the_lowest_is_taken():
    judged = box_accuracy(np.ones((1, 10), bool), np.zeros(1), PROTOCOL.thresholds)
    (row,) = localization_rows(PROTOCOL, judged, origins=["oracle"])
    assert row["threshold"] == 0.0


def test_no_images_give_no_errors():
    judged = box_accuracy(np.zeros((0, 10), bool), np.zeros(0), PROTOCOL.thresholds)
    (row, _) = localization_rows(PROTOCOL, judged)
    assert (row["gt_known_error"], row["top1_error"], row["images"]) == (None, None, 0)
    assert np.isnan(judged.gt_known).all()


def test_bad_input_is_refused():
    metric = BoxAccuracy(PROTOCOL.thresholds)
    with pytest.raises(InputError, match=r"\(N, 10\), got \(2, 9\)"):
        metric.update(np.zeros((2, 9), bool), np.zeros(2), [0, 1])
    with pytest.raises(InputError, match="needs ranks"):
        metric.update(np.zeros((2, 10), bool), None, [0, 1])
    with pytest.raises(InputError, match="needs ranks"):
        box_accuracy(np.zeros((2, 10), bool), None, None)
    judged = box_accuracy(np.zeros((2, 10), bool), None, PROTOCOL.thresholds, [])
    other = box_accuracy(np.zeros((2, 3), bool), None, np.arange(3) / 3, [])
    with pytest.raises(InputError, match="different thresholds"):
        localization_rows(PROTOCOL, judged, other)


def test_baselines_end_to_end():
    baselines = Baselines(PROTOCOL)
    metrics = {name: BoxAccuracy(baselines.thresholds[name], topk=()) for name in BASELINES}
    truths = [[0.0, 0, 20, 10], [5.0, 2, 15, 8], [0.0, 0, 4, 4]]
    for position, corners in enumerate(truths):
        hits = baselines.hits(Geometry.square((20, 10), 16), Truth(np.array([corners]), inclusive=False))
        for name, metric in metrics.items():
            metric.update(hits[name][None], None, [position])
    rows = {
        name: localization_rows(PROTOCOL, metric.compute(), origins=baselines.origins[name])
        for name, metric in metrics.items()
    }
    assert rows["whole image"] == [
        {"protocol": "p", "threshold_origin": "none", "threshold": None, "gt_known_error": 200 / 3, "images": 3}
    ]
    # The second truth is half the image's width and .6 of its height: a box of .75 has IoU .5333 with it and .5625
    # with the whole image.
    (best,) = rows["centre box"]
    assert best["gt_known_error"] == 100 / 3
    assert 0.71 <= best["threshold"] <= 0.77
    assert [row["threshold_origin"] for row in rows["centre gaussian"]] == ["fixed", "oracle"]


def test_centre_box_under_a_protocol_of_fixed_threshold_is_chosen():
    fixed = dataclasses.replace(PROTOCOL, origins=("fixed",))
    assert Baselines(fixed).origins["centre box"] == ("fullsup", "oracle")
    assert Baselines(fixed).origins["centre gaussian"] == ("fixed",)


@pytest.mark.parametrize("frame", ["input", "image"])
def test_the_cached_gaussian_is_judged_like_any_map(frame):
    protocol = dataclasses.replace(PROTOCOL, frame=frame)
    baselines = Baselines(protocol)
    for size in ((20, 10), (20, 10), (9, 13)):
        view = Geometry(size, (24, 24), (2, 4), (16, 16))
        truth = Truth(np.array([[3.0, 2.0, 8.0, 9.0]]), inclusive=True)
        expected = protocol.judge(centre_gaussian((16, 16)), view, truth)
        assert baselines.hits(view, truth)["centre gaussian"].tolist() == expected.tolist()
    assert len(baselines._found) == (1 if frame == "input" else 2)


def test_the_cache_stays_small(monkeypatch):
    monkeypatch.setattr("wsol.metrics.baselines._CACHED_SIZES", 2)
    baselines = Baselines(dataclasses.replace(PROTOCOL, frame="image"))
    for width in range(8, 13):
        baselines.hits(Geometry.square((width, 8), 8), Truth(np.array([[1.0, 1.0, 6.0, 6.0]]), inclusive=True))
        assert len(baselines._found) <= 2
