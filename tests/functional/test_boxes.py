"""The OpenCV engine against flood fills in plain Python, written from the definitions."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol.errors import InputError
from wsol.functional.boxes import COMPONENTS, Spans, box_spans, boxes_at, cuts_of

FOUR = [(-1, 0), (0, -1), (0, 1), (1, 0)]
EIGHT = [*FOUR, (-1, -1), (-1, 1), (1, -1), (1, 1)]


def regions(binary, neighbours):
    """Connected regions of True as lists of (y, x), in reading order of their first pixels."""
    height, width = binary.shape
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(binary), strict=True)}
    for start in itertools.product(range(height), range(width)):
        if start in left:
            left.discard(start)
            region, stack = [start], [start]
            while stack:
                y, x = stack.pop()
                for dy, dx in neighbours:
                    if (y + dy, x + dx) in left:
                        left.discard((y + dy, x + dx))
                        region.append((y + dy, x + dx))
                        stack.append((y + dy, x + dx))
            yield region


def box(region, grow=0):
    ys, xs = [y for y, _ in region], [x for _, x in region]
    return (
        min(xs) - grow,
        min(ys) - grow,
        max(xs) - min(xs) + 1 + 2 * grow,
        max(ys) - min(ys) + 1 + 2 * grow,
    )


def holes(binary):
    height, width = binary.shape
    for region in regions(~binary, FOUR):
        if all(0 < y < height - 1 and 0 < x < width - 1 for y, x in region):
            yield region


def slow_all_contours(binary):
    return [box(r) for r in regions(binary, EIGHT)] + [box(r, grow=1) for r in holes(binary)]


def slow_largest_pixels(binary):
    return [box(r) for r in sorted(regions(binary, EIGHT), key=len, reverse=True)[:1]]  # a stable sort


def slow_largest_contour(binary):
    """The polygon's area through pixel centres is a sum over 2x2 blocks; of ties the region that begins last wins."""
    filled = binary.copy()
    for region in holes(binary):
        for y, x in region:
            filled[y, x] = True
    best, best_area = None, -1
    for region in regions(filled, EIGHT):
        inside = set(region)
        blocks = {(y - dy, x - dx) for y, x in region for dy in (0, 1) for dx in (0, 1)}
        counts = [sum((y + dy, x + dx) in inside for dy in (0, 1) for dx in (0, 1)) for y, x in blocks]
        area = sum({3: 1, 4: 2}.get(count, 0) for count in counts)
        if area >= best_area:
            best, best_area = region, area
    return [box(best)] if best else []


SLOW = {
    "largest_pixels": slow_largest_pixels,
    "largest_contour": slow_largest_contour,
    "all_contours": slow_all_contours,
}


def check(levels, cut):
    for components, slow in SLOW.items():
        got = boxes_at(levels, cut, components)
        assert got.dtype == np.int64
        expected = slow(levels > cut) or [(0, 0, 0, 0)]
        assert sorted(map(tuple, got.tolist())) == sorted(expected), (components, levels.tolist(), cut)


def test_a_slow_reference_for_every_kind():
    assert set(SLOW) == set(COMPONENTS)


@pytest.mark.parametrize("shape", [(3, 3), (1, 6), (4, 2)])
def test_all_small_binary_images(shape):
    for bits in itertools.product((0, 255), repeat=shape[0] * shape[1]):
        check(np.array(bits, np.uint8).reshape(shape), 0)


@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
        elements=st.sampled_from([0, 0, 3, 200, 255]),
    ),
    st.sampled_from([0, 2, 3, 254, 255]),
)
def test_random_maps_with_plateaus_ties_and_nesting(levels, cut):
    check(levels, cut)


def test_rings_nest():
    levels = np.zeros((15, 15), np.uint8)
    for inset in range(0, 7, 2):
        cv2.rectangle(levels, (inset, inset), (14 - inset, 14 - inset), 255)
    check(levels, 0)
    assert boxes_at(levels, 0, "largest_contour").tolist() == [[0, 0, 15, 15]]


def test_largest_pixels_is_not_largest_contour():
    levels = np.zeros((9, 12), np.uint8)
    cv2.rectangle(levels, (0, 0), (5, 5), 255)  # a ring of 20 pixels, of area 25
    levels[0:8, 8:11] = 255  # a block of 24 pixels, of area 14
    assert boxes_at(levels, 0, "largest_contour").tolist() == [[0, 0, 6, 6]]
    assert boxes_at(levels, 0, "largest_pixels").tolist() == [[8, 0, 3, 8]]


def test_ties():
    levels = np.array([[0, 0, 9], [9, 0, 0]], np.uint8)
    assert boxes_at(levels, 0, "largest_pixels").tolist() == [[2, 0, 1, 1]]
    assert boxes_at(levels, 0, "largest_contour").tolist() == [[0, 1, 1, 1]]  # OpenCV lists contours from below


def test_the_cut_itself_is_not_above():
    levels = np.array([[10, 11]], np.uint8)
    assert boxes_at(levels, 10, "largest_pixels").tolist() == [[1, 0, 1, 1]]
    assert boxes_at(levels, 11, "largest_pixels").tolist() == [[0, 0, 0, 0]]


@given(
    hnp.arrays(np.uint8, (5, 6), elements=st.integers(0, 255)),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.sampled_from(sorted(COMPONENTS)),
)
def test_spans_say_what_each_cut_says(levels, thresholds, components):
    cuts, position = cuts_of(levels, np.array(thresholds))
    assert [int(t * int(levels.max())) for t in thresholds] == cuts[position].tolist()
    assert (np.diff(cuts) > 0).all()
    spans = box_spans(levels, cuts, components)
    for place, cut in enumerate(cuts):
        there = spans.boxes[(spans.first <= place) & (place <= spans.last)]
        assert sorted(there.tolist()) == sorted(boxes_at(levels, cut, components).tolist())


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


def test_bad_arguments_are_refused():
    levels = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match="did you mean 'largest_pixels'"):
        boxes_at(levels, 0, "largest_pixel")
    with pytest.raises(InputError, match="uint8"):
        boxes_at(levels.astype(np.float32), 0, "all_contours")


def test_nothing_is_changed():
    levels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    before = levels.copy()
    for components in COMPONENTS:
        box_spans(levels, np.arange(0, 255, 50), components)
    assert np.array_equal(levels, before)
