import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsol.functional.error_kinds import KINDS, MISS, PART, RIGHT, SEVERAL, TOO_LARGE, WRONG_CLASS, error_kind

SIDE = 12
sides = st.tuples(st.integers(0, SIDE), st.integers(0, SIDE)).map(sorted)
boxes = st.tuples(sides, sides).map(lambda xy: [xy[0][0], xy[1][0], xy[0][1], xy[1][1]])


def kind_of(box, *objects):
    return error_kind(np.array(box, float), np.array(objects, float).reshape(-1, 4), box_right=False, class_right=True)


def by_pixels(box, objects):
    """The definitions once more, each box painted and its pixels counted."""

    def painted(x0, y0, x1, y1):
        canvas = np.zeros((SIDE, SIDE), bool)
        canvas[y0:y1, x0:x1] = True
        return canvas

    mine, theirs = painted(*box), [painted(*one) for one in objects]
    touched = 0
    for one in theirs:
        touched += 10 * (mine & one).sum() > 3 * one.sum()
    if touched >= 2:
        return "several objects"
    chosen, chosen_iou = None, -1.0
    for one in theirs:
        union = (mine | one).sum()
        overlap = (mine & one).sum() / union if union else 0.0
        if overlap > chosen_iou:
            chosen, chosen_iou = one, overlap
    if chosen is None or not (mine & chosen).any():
        return "miss"
    if 2 * (mine & chosen).sum() > mine.sum():
        return "part"
    return "too large" if 10 * (mine & chosen).sum() >= 7 * chosen.sum() else "miss"


@given(boxes, st.lists(boxes, max_size=4))
@example([0, 0, 2, 1], [[0, 0, 1, 1]])  # exactly half of the box
@example([0, 0, 12, 7], [[0, 0, 1, 10]])  # exactly 70 % of the object
@example([0, 0, 12, 3], [[0, 0, 1, 10], [5, 0, 6, 10]])  # exactly 30 % of two
def test_equals_counting_pixels(box, objects):
    assert kind_of(box, *objects) == by_pixels(box, objects)


@pytest.mark.parametrize(
    ("kind", "box", "objects"),
    [
        (PART, (10, 10, 20, 20), [(0, 0, 100, 100)]),
        (PART, (-5, 0, 11, 4), [(0, 0, 100, 100)]),
        (TOO_LARGE, (0, 0, 100, 100), [(30, 30, 50, 50)]),
        (SEVERAL, (0, 0, 100, 40), [(0, 0, 30, 40), (60, 0, 95, 40)]),
        (SEVERAL, (0, 0, 100, 15), [(0, 0, 30, 40), (60, 0, 95, 40), (200, 0, 210, 10)]),
        (PART, (0, 0, 100, 20), [(0, 0, 200, 40), (60, 19, 95, 90)]),
        (PART, (0, 0, 10, 10), [(0, 0, 20, 20), (1, 1, 3, 3)]),
        (MISS, (0, 0, 10, 10), [(50, 50, 60, 60)]),
        (MISS, (0, 0, 10, 10), [(8, 0, 30, 10)]),
        (MISS, (10, 10, 10, 40), [(0, 0, 100, 100)]),
        (MISS, (0, 0, 10, 10), []),
    ],
)
def test_what_each_kind_looks_like(kind, box, objects):
    assert kind_of(box, *objects) == kind


@given(boxes, st.lists(boxes, max_size=3), st.booleans())
def test_a_right_box_is_a_matter_of_its_class(box, objects, class_right):
    objects = np.array(objects).reshape(-1, 4)
    expected = RIGHT if class_right else WRONG_CLASS
    assert error_kind(np.array(box), objects, box_right=True, class_right=class_right) == expected
    wrong = {error_kind(np.array(box), objects, box_right=False, class_right=known) for known in (True, False)}
    assert len(wrong) == 1
    assert wrong <= set(KINDS) - {RIGHT, WRONG_CLASS}


@given(boxes, st.lists(boxes, max_size=3), st.integers(-50, 50), st.sampled_from([0.25, 2.0, 8.0]))
def test_place_and_size_of_the_picture_do_not_matter(box, objects, shift, scale):
    moved = [[scale * (value + shift) for value in one] for one in objects]
    assert kind_of([scale * (value + shift) for value in box], *moved) == kind_of(box, *objects)
