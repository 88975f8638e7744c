"""Geometry and pixels go together: what a view says about a place is what the transform does to its pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol.data.transforms import ResizeCrop, ResizeSquare, TenCrop
from wsol.functional.geometry import Geometry

SIDES = st.integers(24, 150)
TRANSFORMS = [ResizeSquare(32), ResizeCrop(32, 40), TenCrop(32, 37), ResizeSquare(96), ResizeCrop(96, 120, "bicubic")]


def of(transform):
    return f"{type(transform).__name__}-{transform.size}"


@given(st.data(), SIDES, SIDES, st.sampled_from(TRANSFORMS))
@settings(max_examples=80, deadline=None)
def test_boxes_go_there_and_back(data, width, height, transform):
    numbers = st.floats(-10, 200, allow_nan=False)
    boxes = np.array(data.draw(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=4))).reshape(-1, 4)
    for view in transform.views((width, height)):
        np.testing.assert_allclose(view.to_image(view.to_input(boxes)), boxes, atol=1e-9)
        np.testing.assert_allclose(view.to_input(view.to_image(boxes)), boxes, atol=1e-9)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=of)
@given(width=SIDES, height=SIDES)
@settings(max_examples=15, deadline=None)
def test_pixels_hold_what_the_geometry_says(transform, width, height):
    """A ramp of the coordinates themselves: each input pixel must show the place it is said to come from."""
    x, y = np.meshgrid((np.arange(width) + 0.5), (np.arange(height) + 0.5))
    step = 250 / max(width, height)
    image = np.stack([x * step, y * step, 0 * x], -1).round().astype(np.uint8)
    views = transform.views((width, height))
    pixels = transform(image).astype(float)
    for view, shown in zip(views, pixels if len(views) > 1 else pixels[None], strict=True):
        centres = np.arange(transform.size) + 0.5
        points = np.stack([centres, centres, centres, centres], -1)
        at = view.to_image(points)[:, :2]
        blur = 2 * max(1, width / view.resized[0], height / view.resized[1]) + 1  # at the border resizing sees one side
        for axis, (edge, line) in enumerate([(width, shown[0].mean(0)), (height, shown[1].mean(1))]):
            inner = (at[:, axis] > blur) & (at[:, axis] < edge - blur)
            assert np.abs(line[inner] - at[inner, axis] * step).max(initial=0) < 1.2
            assert np.abs(line - at[:, axis] * step).max() < 1.2 + blur * step


@pytest.mark.parametrize("transform", TRANSFORMS, ids=of)
@given(data=st.data(), width=SIDES, height=SIDES)
@settings(max_examples=15, deadline=None)
def test_a_bright_box_stays_in_its_box(transform, data, width, height):
    """The brightness inside the mapped box, edges by their share of a pixel, is that of the painted rectangle."""
    x0, y0 = data.draw(st.integers(0, width - 12)), data.draw(st.integers(0, height - 12))
    x1, y1 = data.draw(st.integers(x0 + 8, width)), data.draw(st.integers(y0 + 8, height))
    image = np.zeros((height, width, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    views = transform.views((width, height))
    pixels = transform(image)
    for view, shown in zip(views, pixels if len(views) > 1 else pixels[None], strict=True):
        ((a, b, c, d),) = view.to_input([[x0, y0, x1, y1]])
        bright = shown[0] > 127
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        box = np.clip([a, b, c, d], 0, transform.size)
        if box[2] - box[0] < 2 or box[3] - box[1] < 2:
            continue  # cropped away, or as good as
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(found - box).max() <= 1.0


def test_square_is_the_whole_image():
    view = Geometry.square((50, 20), 10)
    np.testing.assert_allclose(view.to_input([[0, 0, 50, 20]]), [[0, 0, 10, 10]])


def test_mirrored_boxes_keep_their_order():
    view = Geometry((20, 20), (10, 10), (1, 2), (8, 8), mirrored=True)
    ((x0, y0, x1, y1),) = view.to_input([[4, 6, 8, 10]])
    assert (x0, y0, x1, y1) == (5, 1, 7, 3)
