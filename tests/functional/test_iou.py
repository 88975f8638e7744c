from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol.functional.iou import best_iou, iou

side = st.integers(0, 12)
corners = st.tuples(side, side, side, side).map(
    lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
)


def pixels(box, plus_one):
    x0, y0, x1, y1 = box
    return {(x, y) for x in range(x0, x1 + plus_one) for y in range(y0, y1 + plus_one)}


@given(st.lists(corners, min_size=1, max_size=4), st.lists(corners, min_size=1, max_size=4), st.booleans())
def test_equals_counting_pixels(boxes_a, boxes_b, plus_one):
    got = iou(np.array(boxes_a), np.array(boxes_b), plus_one=plus_one)
    assert got.shape == (len(boxes_a), len(boxes_b))
    assert got.dtype == np.float64
    for row, a in enumerate(boxes_a):
        for column, b in enumerate(boxes_b):
            in_a, in_b = pixels(a, plus_one), pixels(b, plus_one)
            expected = Fraction(len(in_a & in_b), len(in_a | in_b) or 1)
            assert got[row, column] == float(expected)


def test_the_conventions_by_hand():
    a, b = np.array([[0, 0, 9, 9]]), np.array([[5, 0, 14, 9]])
    assert iou(a, b, plus_one=True)[0, 0] == 50 / 150
    assert iou(a, b, plus_one=False)[0, 0] == 36 / 126
    # half-open corners without +1 equal inclusive ones with it
    edge = np.array([0, 0, 1, 1])
    assert iou(a + edge, b + edge, plus_one=False) == iou(a, b, plus_one=True)


def test_empty_boxes_and_empty_sets():
    empty = np.array([[0, 0, -1, -1]])
    assert iou(empty, empty, plus_one=True).tolist() == [[0.0]]
    assert iou(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 0]]), plus_one=True).tolist() == [[1.0]]
    assert iou(np.zeros((2, 4)), np.zeros((0, 4)), plus_one=False).shape == (2, 0)


def test_exactly_one_half_is_exact():
    assert iou(np.array([[0, 0, 99, 99]]), np.array([[0, 0, 99, 49]]), plus_one=True)[0, 0] == 0.5


@pytest.mark.parametrize("plus_one", [True, False])
def test_fractional_boxes(plus_one):
    a, b = np.array([[0.5, 0.0, 2.5, 1.0]]), np.array([[1.5, 0.0, 2.5, 1.0]])
    assert iou(a, b, plus_one=plus_one)[0, 0] == pytest.approx(4 / 6 if plus_one else 1 / 2)


numbers = st.one_of(st.integers(-3, 20).map(float), st.floats(-10, 300), st.integers(0, 2**26).map(float))


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(4)), elements=numbers),
    hnp.arrays(np.float64, st.tuples(st.integers(0, 4), st.just(4)), elements=numbers),
    st.booleans(),
)
def test_the_best_overlap_is_the_greatest_to_the_last_bit(boxes_a, boxes_b, plus_one):
    got = best_iou(boxes_a, boxes_b, plus_one)
    assert got.dtype == np.float64
    assert got.tolist() == iou(boxes_a, boxes_b, plus_one=plus_one).max(axis=1, initial=0.0).tolist()


def test_the_best_overlap_of_arrays_of_any_kind():
    boxes = np.array([[0, 0, 3, 3], [2, 2, 9, 9]])
    boxes.setflags(write=False)
    assert best_iou(boxes, boxes[:1], plus_one=True).tolist() == best_iou(boxes * 1.0, boxes[:1] * 1.0, True).tolist()
    assert best_iou(boxes[::-1], boxes[:1], True).tolist() == best_iou(boxes, boxes[:1], True).tolist()[::-1]
