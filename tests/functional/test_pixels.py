import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol.errors import InputError
from wsol.functional.pixels import average_precision, score_edges, score_histograms


def slow_pxap(score_maps, masks):
    """Precision and recall at each threshold from the pixels themselves."""
    scores = np.concatenate([m.ravel() for m in score_maps]).astype(np.float64)
    truth = np.concatenate([m.ravel() for m in masks])
    scores, objects = scores[truth != 255], truth[truth != 255] == 1
    total, recall_before = 0.0, 0.0
    for threshold in [1.0, *np.arange(0, 1, 0.001)[::-1]]:
        kept = scores >= threshold
        if kept.any():
            recall = objects[kept].sum() / objects.sum()
            total += objects[kept].mean() * (recall - recall_before)
            recall_before = recall
    return 100 * total


def test_equals_the_slow_definition():
    rng = np.random.default_rng(0)
    score_maps = [rng.random((12, 15)).astype(np.float32) ** 2, np.round(rng.random((7, 5)), 3), np.zeros((3, 3))]
    masks = [rng.choice([0, 1, 255], m.shape).astype(np.uint8) for m in score_maps]
    histograms = sum(score_histograms(m, mask) for m, mask in zip(score_maps, masks, strict=True))
    assert average_precision(histograms) == pytest.approx(slow_pxap(score_maps, masks), abs=1e-10)


@given(
    hnp.arrays(np.float64, (3, 4), elements=st.one_of(st.floats(0, 1), st.integers(0, 1000).map(lambda k: k * 0.001))),
    hnp.arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 255])),
    st.sampled_from([1000, 7, 49]),
)
def test_bins_are_those_of_numpy(score_map, mask, num):
    edges = np.append(score_edges(num), 2.0)
    expected = [np.histogram(score_map[mask == value], bins=edges)[0].tolist() for value in (0, 1)]
    assert score_histograms(score_map, mask, num).tolist() == expected


def test_every_edge_falls_in_its_own_bin():
    edges = score_edges(1000)
    assert len(edges) == 1001
    assert (score_histograms(edges[None], np.ones((1, 1001), np.uint8))[1] == 1).all()
    below = np.nextafter(edges[1:], 0)[None]
    assert score_histograms(below, np.ones((1, 1000), np.uint8))[1].tolist() == [1] * 1000 + [0]


def test_perfect_and_ignored():
    mask = np.array([[1, 1, 0, 255]], np.uint8)
    assert average_precision(score_histograms(np.array([[0.9, 0.8, 0.1, 1.0]]), mask)) == 100.0


@pytest.mark.parametrize(
    ("score_map", "mask", "word"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3), np.uint8), "shape"),
        (np.full((1, 1), 1.5), np.zeros((1, 1), np.uint8), r"\[0, 1\]"),
        (np.full((1, 1), np.nan), np.zeros((1, 1), np.uint8), r"\[0, 1\]"),
        (np.full((1, 1), -1e-9), np.zeros((1, 1), np.uint8), r"\[0, 1\]"),
        (np.zeros((1, 1)), np.full((1, 1), 7, np.uint8), "255 ignore"),
        (np.zeros((1, 1)), np.full((1, 1), 254, np.uint8), "255 ignore"),
        (np.zeros((1, 1)), np.full((1, 1), 257), "255 ignore, got int64"),
        (np.zeros((0, 1)), np.zeros((0, 1), np.uint8), "shape"),
    ],
)
def test_bad_input_is_refused(score_map, mask, word):
    with pytest.raises(InputError, match=word):
        score_histograms(score_map, mask)


def test_no_object_at_all_is_refused():
    with pytest.raises(InputError, match="no object pixel"):
        average_precision(np.array([[5, 5], [0, 0]]))
