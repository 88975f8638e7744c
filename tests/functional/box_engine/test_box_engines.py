"""The tree engine against OpenCV cut by cut: on every small image, and on many kinds of larger ones."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol.functional import boxes
from wsol.functional.box_engine.spans import Limits
from wsol.functional.boxes import COMPONENTS, box_spans, cuts_of, fine_levels
from wsol.functional.maps import normalize

THRESHOLDS = np.arange(0, 1, 0.001)
THREE = np.arange(3)
"""Of these cuts a binary image is the foreground at the first; fewer would be asked of OpenCV."""

LARGEST = ("largest_contour", "largest_pixels")


def equal(levels, cuts, kinds=tuple(COMPONENTS)):
    """Whether both engines find the same boxes at every cut."""
    for components in kinds:
        tree, opencv = (box_spans(levels, cuts, components, engine) for engine in boxes.ENGINES)
        for cut in range(len(cuts)):
            found = [spans.boxes[(spans.first <= cut) & (cut <= spans.last)] for spans in (tree, opencv)]
            one, other = (rows[np.lexsort(rows.T)] for rows in found)
            if not np.array_equal(one, other):
                return False
    return True


def all_binary(shape):
    """All binary images of a shape: uint8 (2 ** (H * W), H, W)."""
    bits = np.arange(2 ** (shape[0] * shape[1]))[:, None] >> np.arange(shape[0] * shape[1]) & 1
    return bits.astype(np.uint8).reshape(-1, *shape)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (2, 7), (7, 2), (1, 12), (12, 1)])
def test_all_contours_of_all_small_binary_images(shape):
    """Side by side in one large map each, with a margin that keeps them apart and the rest of the map around them."""
    images = all_binary(shape)
    columns = 2 ** (shape[0] * shape[1] // 2)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    sheet = padded.reshape(-1, columns, *padded.shape[1:]).swapaxes(1, 2).reshape(-1, columns * padded.shape[2])
    assert sheet.sum() == images.sum()
    assert equal(np.ascontiguousarray(sheet), THREE, ["all_contours"])


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (2, 5), (5, 2), (1, 9), (9, 1)])
def test_all_small_binary_images(shape):
    assert all(equal(image, THREE) for image in all_binary(shape))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (2, 7), (7, 2)])
def test_all_binary_images(shape):
    assert all(equal(image, THREE) for image in all_binary(shape))


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 1)),
)
def test_binary_images(image):
    assert equal(image, THREE)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(2, 7),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_random_maps_of_few_levels(shape, num_levels, fine, seed):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, num_levels, shape).astype(np.uint8)
    if fine:
        levels = levels.astype(np.uint16) << 8 | rng.integers(0, 256, shape, dtype=np.uint16)
    assert equal(levels, np.arange(num_levels))


def stamped(rng, size, num):
    """Rings, frames, discs and lines of few sizes on top of one another: nesting, and ties of every size."""
    levels = np.zeros((size, size), np.uint8)
    for _ in range(num):
        x, y, radius = (int(value) for value in (*rng.integers(0, size, 2), rng.integers(0, 9)))
        level, thickness = int(rng.integers(0, 5)), int(rng.choice([-1, 1, 1, 2]))
        if rng.random() < 0.5:
            cv2.rectangle(levels, (x, y), (x + radius, y + radius), level, thickness)
        elif rng.random() < 0.7:
            cv2.circle(levels, (x, y), radius, level, thickness)
        else:
            cv2.line(levels, (x, y), (x + radius, y), level, 1)
    return levels


@given(st.integers(0, 2**32 - 1), st.integers(5, 70), st.integers(1, 60))
def test_nested_and_tied_stamps(seed, size, num):
    assert equal(stamped(np.random.default_rng(seed), size, num), np.arange(6))


def test_equal_stamps_side_by_side():
    stamp = np.zeros((7, 7), np.uint8)
    cv2.circle(stamp, (3, 3), 2, 1, 1)
    for rows, columns in itertools.product((1, 2, 3), repeat=2):
        levels = np.tile(stamp, (rows, columns))
        assert equal(levels, THREE)
        levels[levels > 0] = np.random.default_rng(0).integers(1, 5, (levels > 0).sum())
        assert equal(levels, np.arange(6))


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 2), (2, 1), (1, 600), (600, 1), (2, 300), (300, 2), (7, 8), (8, 7), (55, 56), (9, 248), (480, 480)],
)
def test_engines_agree_on_extreme_shapes(shape):
    rng = np.random.default_rng(0)
    cells = rng.random((max(shape[0] // 8, 1), max(shape[1] // 8, 1)))
    for score_map in (cv2.resize(cells, shape[::-1], interpolation=cv2.INTER_CUBIC), rng.random(shape)):
        levels = fine_levels(normalize(score_map))
        assert equal(levels, cuts_of(levels, THRESHOLDS[::50])[0])


@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
def test_engines_agree_on_constant_maps(value):
    levels = fine_levels(np.full((9, 12), value))
    assert equal(levels, cuts_of(levels, THRESHOLDS)[0])
    assert equal(levels, np.arange(256))


def smooth(rng, cells, size):
    return normalize(cv2.resize(rng.standard_normal((cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize("cells", [3, 7, 14, 28])
def test_whole_curves_of_smooth_maps(cells):
    rng = np.random.default_rng(cells)
    for clip in (1.0, 0.6):
        levels = fine_levels(np.minimum(smooth(rng, cells, 112), clip))
        assert equal(levels, cuts_of(levels, THRESHOLDS)[0])


@pytest.mark.parametrize("sigma", [0, 0.7, 2])
def test_engines_agree_on_noise(sigma):
    noise = np.random.default_rng(0).random((64, 70))
    levels = fine_levels(normalize(cv2.GaussianBlur(noise, (0, 0), sigma) if sigma else noise))
    assert equal(levels, cuts_of(levels, THRESHOLDS[::7])[0])


WAYS = {
    "tracing": Limits(0, 2.0, 10**9),
    "adding up": Limits(0, -1.0),
    "no budget": Limits(0, 2.0, 0),
    "runs": Limits(255),
}
"""Each alone: contours traced with a budget that does for any map; sizes added up; a search given up; cut by cut."""


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(WAYS)))
def test_each_way_to_the_largest_component(seed, way):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 5, rng.integers(1, 25, 2)).astype(np.uint8) if seed % 2 else stamped(rng, 40, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "LIMITS", WAYS[way])
        assert equal(levels, np.arange(5), LARGEST)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_on_smooth_maps(way, monkeypatch):
    levels = fine_levels(smooth(np.random.default_rng(0), 14, 64))
    monkeypatch.setattr(boxes, "LIMITS", WAYS[way])
    assert equal(levels, cuts_of(levels, THRESHOLDS)[0], LARGEST)


def test_threads_find_what_one_finds():
    rng = np.random.default_rng(0)
    maps = [fine_levels(smooth(rng, int(rng.integers(3, 12)), int(rng.integers(20, 150)))) for _ in range(40)]
    jobs = [(levels, cuts_of(levels, THRESHOLDS)[0], components) for levels in maps for components in COMPONENTS]
    alone = [box_spans(*job) for job in jobs]
    with ThreadPoolExecutor(4) as executor:
        together = list(executor.map(lambda job: box_spans(*job), jobs))
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
