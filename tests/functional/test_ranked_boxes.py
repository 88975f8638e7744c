"""The CAM authors' procedure against one in plain Python, and on the picture released with their code."""

import itertools
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.functional.reference_boxes import all_contours
from wsol.errors import InputError
from wsol.functional.ranked_boxes import ranked_boxes

RELEASED = Path(__file__).parents[3] / "shared" / "data" / "cam-boxes" / "heatmap_6.jpg"


def slow_rectangles(levels, threshold):
    """Steps 1 and 2, pixel by pixel."""
    above = levels > threshold
    outside = [tuple(place) for place in np.argwhere(~above)]
    kept = above
    if outside and above.any():
        distance = np.zeros(levels.shape)
        for y, x in np.argwhere(above):
            distance[y, x] = min(math.dist((y, x), place) for place in outside)
        kept = np.array([[math.floor(d * (255 / distance.max()) + 0.5) > 10 for d in row] for row in distance])
    height, width = levels.shape
    for x, y, w, h in all_contours(kept):
        yield min(x, width - 5), min(y, height - 5), min(w, width - x - 5), min(h, height - y - 5)


def slow_ranking(rectangles):
    """Step 3, as the released code goes through its list."""
    left = sorted(rectangles, key=lambda box: box[2] * box[3], reverse=True)
    i = 0
    while i < len(left):
        j = i + 1
        while j < len(left):
            (ax, ay, aw, ah), (bx, by, bw, bh) = left[i], left[j]
            across = max(0, min(ax + aw, bx + bw) - max(ax, bx))
            down = max(0, min(ay + ah, by + bh) - max(ay, by))
            if across * down > int(max(aw * ah, bw * bh) * 0.5):
                del left[j]
            j += 1
        i += 1
    return [[max(value, 0) for value in box] for box in left]


@st.composite
def blobs(draw):
    levels = np.zeros((draw(st.integers(6, 24)), draw(st.integers(6, 24))), np.uint8)
    for _ in range(draw(st.integers(1, 5))):
        x, y, w, h = (
            draw(st.integers(0, 20)),
            draw(st.integers(0, 20)),
            draw(st.integers(1, 15)),
            draw(st.integers(1, 15)),
        )
        levels[y : y + h, x : x + w] = draw(st.sampled_from([0, 15, 21, 90, 105, 111, 255]))
    return levels


@given(st.one_of(blobs(), hnp.arrays(np.uint8, (9, 10), elements=st.sampled_from([0, 20, 21, 101, 255]))))
def test_equals_the_procedure_pixel_by_pixel(levels):
    rectangles = [box for threshold in (20, 100, 110) for box in slow_rectangles(levels, threshold)]
    for one, other in itertools.combinations(rectangles, 2):
        assume(one == other or one[2] * one[3] != other[2] * other[3])  # ties go by OpenCV's order
    got = ranked_boxes(levels)
    assert got.dtype == np.int64
    assert got.tolist() == slow_ranking(rectangles)


def test_the_one_behind_a_removed_one_is_passed_over():
    levels = np.zeros((40, 60), np.uint8)
    levels[5:30, 5:50] = 255  # the same rectangle at all three thresholds; the third stays
    assert ranked_boxes(levels).tolist() == [[5, 5, 45, 25]] * 2
    assert ranked_boxes(levels, (20, 100)).tolist() == [[5, 5, 45, 25]]


def test_thin_borders_are_not_deep():
    levels = np.zeros((70, 90), np.uint8)
    levels[10:60, 10:70] = 200
    cv2.line(levels, (70, 30), (80, 30), 200)  # 1 pixel from the background; the deepest ones are 25: 10.2 of 255
    assert ranked_boxes(levels, (20,)).tolist() == [[11, 11, 59, 48]]


def test_nothing_above_and_everything_above():
    assert ranked_boxes(np.full((20, 30), 20, np.uint8)).shape == (0, 4)
    assert ranked_boxes(np.full((20, 30), 200, np.uint8), (20,)).tolist() == [[0, 0, 25, 15]]
    assert ranked_boxes(np.full((3, 3), 200, np.uint8), (20,)).tolist() == [[0, 0, 0, 0]]


def test_a_rectangle_within_the_margin_has_no_extent():
    levels = np.zeros((40, 40), np.uint8)
    levels[4:8, 37:39] = 255
    assert ranked_boxes(levels, (20,)).tolist() == [[35, 4, 0, 4]]


def test_not_grey_levels():
    with pytest.raises(InputError, match="uint8"):
        ranked_boxes(np.zeros((5, 5)))


@pytest.mark.skipif(not RELEASED.exists(), reason="the released heat map is not here")
def test_the_released_example():
    levels = cv2.imread(str(RELEASED), cv2.IMREAD_GRAYSCALE)
    assert ranked_boxes(levels).tolist() == [[41, 145, 362, 202], [102, 188, 242, 126]]
