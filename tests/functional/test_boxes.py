"""Both engines against flood fills in plain Python, written from the definitions."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.functional.reference_boxes import SLOW
from wsol.errors import InputError
from wsol.functional.boxes import COMPONENTS, ENGINES, Spans, box_spans, boxes_at, cuts_of, fine_levels
from wsol.functional.maps import to_levels


def at_each_cut(spans, num_cuts):
    """The boxes at each cut, sorted."""
    rows = list(zip(spans.boxes.tolist(), spans.first.tolist(), spans.last.tolist(), strict=True))
    assert all(0 <= first <= last < num_cuts for _, first, last in rows)
    return [sorted(box for box, first, last in rows if first <= cut <= last) for cut in range(num_cuts)]


def check(levels, cuts):
    grey = (levels >> 8).astype(np.uint8) if levels.dtype == np.uint16 else levels
    for components, engine in itertools.product(COMPONENTS, ENGINES):
        spans = box_spans(levels, np.array(cuts), components, engine)
        assert spans.boxes.dtype == spans.first.dtype == spans.last.dtype == np.int64
        expected = [sorted(map(list, SLOW[components](grey > cut, levels) or [(0, 0, 0, 0)])) for cut in cuts]
        assert at_each_cut(spans, len(cuts)) == expected, (components, engine, levels.tolist(), cuts)


def test_a_slow_reference_for_every_kind():
    assert set(SLOW) == set(COMPONENTS)


@pytest.mark.parametrize("shape", [(3, 3), (1, 5), (4, 2)])
def test_all_small_binary_images(shape):
    for bits in itertools.product((0, 1), repeat=shape[0] * shape[1]):
        check(np.array(bits, np.uint8).reshape(shape), [0, 1, 2])


@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
        elements=st.sampled_from([0, 0, 3, 200, 255]),
    ),
    st.sets(st.sampled_from([0, 1, 2, 3, 199, 254, 255]), min_size=1),
)
def test_random_maps_with_plateaus_ties_and_nesting(levels, cuts):
    check(levels, sorted(cuts))


@given(
    hnp.arrays(np.uint16, (6, 7), elements=st.integers(0, 4 * 256 - 1)),
    st.sampled_from([[0, 1, 2], [1, 2, 3], [0, 3, 4, 9]]),
)
def test_the_lower_byte_changes_no_box(levels, cuts):
    check(levels, cuts)


def test_all_of_a_16_bit_range():
    check(np.array([[65535, 65534, 0, 65280], [255, 256, 257, 65279]], np.uint16), [0, 1, 253, 254, 255])


def test_rings_nest():
    levels = np.zeros((15, 15), np.uint8)
    for inset in range(0, 7, 2):
        cv2.rectangle(levels, (inset, inset), (14 - inset, 14 - inset), 255 - inset)
    check(levels, [0, 249, 251, 253])
    assert boxes_at(levels, 0, "largest_contour").tolist() == [[0, 0, 15, 15]]


def test_largest_pixels_is_not_largest_contour():
    levels = np.zeros((9, 12), np.uint8)
    cv2.rectangle(levels, (0, 0), (5, 5), 255)  # a ring of 20 pixels, of area 25
    levels[0:8, 8:11] = 255  # a block of 24 pixels, of area 14
    assert boxes_at(levels, 0, "largest_contour").tolist() == [[0, 0, 6, 6]]
    assert boxes_at(levels, 0, "largest_pixels").tolist() == [[8, 0, 3, 8]]


def test_ties_go_to_the_first_in_reading_order_or_in_opencvs():
    levels = np.array([[0, 0, 9], [9, 0, 0]], np.uint8)
    assert boxes_at(levels, 0, "largest_pixels").tolist() == [[2, 0, 1, 1]]
    assert boxes_at(levels, 0, "largest_contour").tolist() == [[0, 1, 1, 1]]  # OpenCV lists contours from below


def test_the_cut_itself_is_not_above():
    levels = np.array([[10, 11]], np.uint8)
    assert boxes_at(levels, 10, "largest_pixels").tolist() == [[1, 0, 1, 1]]
    assert boxes_at(levels, 11, "largest_pixels").tolist() == [[0, 0, 0, 0]]
    assert boxes_at(levels.astype(np.uint16) * 256 + 255, 10, "largest_pixels").tolist() == [[1, 0, 1, 1]]


@given(
    hnp.arrays(np.uint8, (5, 6), elements=st.integers(0, 255)),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.sampled_from(sorted(COMPONENTS)),
    st.sampled_from(ENGINES),
)
def test_spans_say_what_each_cut_says(levels, thresholds, components, engine):
    cuts, position = cuts_of(levels, np.array(thresholds))
    assert [int(t * int(levels.max())) for t in thresholds] == cuts[position].tolist()
    assert (np.diff(cuts) > 0).all()
    assert [part.tolist() for part in cuts_of(levels.astype(np.uint16) * 256 + 77, np.array(thresholds))] == [
        cuts.tolist(),
        position.tolist(),
    ]
    found = at_each_cut(box_spans(levels, cuts, components, engine), len(cuts))
    assert found == [sorted(boxes_at(levels, cut, components).tolist()) for cut in cuts]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0, 1)), min_size=0, max_size=8).map(
        lambda rows: [(min(a, b), max(a, b), v) for a, b, v in rows]
    )
)
def test_best_is_the_maximum_over_spans(rows):
    first, last, values = (np.array([row[k] for row in rows]) for k in range(3))
    spans = Spans(np.zeros((len(rows), 4), np.int64), first.astype(np.int64), last.astype(np.int64))
    expected = [max((v for a, b, v in rows if a <= k <= b), default=0.0) for k in range(6)]
    assert spans.best(values.astype(np.float64), 6).tolist() == expected


@given(hnp.arrays(np.float64, (3, 5), elements=st.one_of(st.floats(0, 1), st.integers(0, 255).map(lambda k: k / 255))))
def test_fine_levels_refine_levels(score_map):
    fine = fine_levels(score_map)
    assert fine.dtype == np.uint16
    assert (fine >> 8).tolist() == to_levels(score_map).tolist()
    assert fine.tolist() == np.floor(256 * (score_map * 255)).tolist()
    assert (
        fine_levels(score_map.astype(np.float32)).tolist() == fine_levels(score_map.astype(np.float32) * 1.0).tolist()
    )
    assert fine_levels(score_map.T).tolist() == fine.T.tolist()


@pytest.mark.parametrize("bad", [[[0.5, -1e-9]], [[1.0000001]], [[0.2, np.nan]], [[np.inf]], [], [0.5], [[]]])
def test_fine_levels_refuse_what_levels_refuse(bad):
    for function in (fine_levels, to_levels):
        with pytest.raises(InputError, match=r"\[0, 1\]|\(H, W\)"):
            function(np.array(bad))


def test_bad_arguments_are_refused():
    levels, cuts = np.zeros((2, 2), np.uint8), np.arange(3)
    with pytest.raises(InputError, match="did you mean 'largest_pixels'"):
        boxes_at(levels, 0, "largest_pixel")
    with pytest.raises(InputError, match="did you mean 'tree'"):
        box_spans(levels, cuts, "all_contours", "trees")
    for bad in (levels.astype(np.float32), levels[0], levels[:0]):
        with pytest.raises(InputError, match="uint8"):
            box_spans(bad, cuts, "all_contours")


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_changed(engine):
    levels = np.random.default_rng(0).integers(0, 65280, (8, 8)).astype(np.uint16)
    before, cuts = levels.copy(), np.arange(0, 255, 50)
    levels.setflags(write=False)
    found = [box_spans(levels, cuts, components, engine) for components in COMPONENTS]
    kept = [[part.copy() for part in spans] for spans in found]
    for components in COMPONENTS:  # what was found does not change with the next map either
        box_spans(levels[::-1], cuts, components, engine)
    assert np.array_equal(levels, before)
    assert all((a == b).all() for spans, old in zip(found, kept, strict=True) for a, b in zip(spans, old, strict=True))
