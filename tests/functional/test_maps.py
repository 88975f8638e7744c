import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol.errors import InputError
from wsol.functional import maps
from wsol.functional.box_engine.quantile import level_quantile, quantile
from wsol.functional.geometry import Geometry

CROP = Geometry(image_size=(40, 30), resized=(20, 15), offset=(4, 3), input_size=(10, 10))
WHOLE = Geometry.whole(CROP.image_size)
any_map = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)


@given(any_map, st.sampled_from(["minmax", "max"]))
def test_normalize_always_gives_a_map_in_the_unit_interval(score_map, scaling):
    before = score_map.copy()
    out = maps.normalize(score_map, scaling)
    assert out.dtype == np.float64
    assert np.array_equal(score_map, before, equal_nan=True)
    assert out.min() >= 0
    assert out.max() in (0.0, 1.0)
    maps.to_levels(out)


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=4),
        elements=st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-3, 3).map(float)),
    )
)
def test_normalize_does_what_the_formula_says_to_the_last_bit(score_map):
    with np.errstate(all="ignore"):
        for scaling, low in (("minmax", score_map.min()), ("max", 0.0)):
            values = np.maximum(score_map - low, 0.0)
            usable = np.isfinite(values.max()) and values.max() > 0
            expected = values / values.max() if usable else np.zeros_like(values)
            assert maps.normalize(score_map, scaling).tobytes() == expected.tobytes()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scaling", maps.SCALINGS)
def test_a_map_that_is_not_finite_becomes_zeros(odd, scaling):
    assert not maps.normalize(np.array([[1.0, odd]]), scaling).any()


def test_maps_that_are_not_scaled_must_lie_in_the_unit_interval():
    given = np.array([[0.25, 0.5], [0.0, 0.75]])
    out = maps.normalize(given, "none")
    assert np.array_equal(out, given)
    assert out is not given
    for outside in (given - 0.1, given * 2):
        with pytest.raises(InputError, match=r"expects maps in \[0, 1\]"):
            maps.normalize(outside, "none")


def test_maps_that_are_not_scaled_stay_in_the_unit_interval_when_they_are_resized():
    corner = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    view, frame = Geometry((6, 4), (3, 2), (0, 0), (3, 2)), Geometry.whole((6, 4))
    assert maps.resize(corner, (6, 4)).min() < 0  # a cubic resize overshoots
    placed = maps.place(corner, view, frame, scaling="none")
    assert np.array_equal(placed, maps.resize(corner, (6, 4)).clip(0, 1))
    half = maps.place(corner / 2, view, frame, scaling="none")
    assert half.max() < 0.7


def test_constant_maps():
    assert not maps.normalize(np.full((2, 3), 0.4)).any()
    assert not maps.normalize(np.full((2, 3), -0.4), "max").any()
    # All pixels are above a part of the maximum: the paper's rule boxes the whole image.
    assert maps.normalize(np.full((2, 3), 0.4), "max").tolist() == np.ones((2, 3)).tolist()


def test_a_span_that_overflows_becomes_zeros():
    assert not maps.normalize(np.array([[-1.7e308, 1.7e308]])).any()


def test_resize_matches_bilinear_by_hand():
    out = maps.resize(np.array([[0.0, 4.0], [8.0, 12.0]]), (4, 4), "linear")
    steps = np.array([0.0, 0.25, 0.75, 1.0])
    assert np.allclose(out, 4 * steps[None, :] + 8 * steps[:, None])


def test_resize_of_the_same_size_is_a_copy():
    score_map = np.arange(6.0).reshape(2, 3)
    out = maps.resize(score_map, (3, 2))
    out[0, 0] = 9
    assert score_map[0, 0] == 0


def test_levels_truncate_in_float64():
    # 0.2 in float32 is a little more than 0.2: the product must not be rounded to float32 first.
    assert maps.to_levels(np.float32([[0.2, 0.999, 0.99999]])).tolist() == [[51, 254, 254]]
    for level in range(256):
        assert maps.to_levels(np.array([[level / 255]]))[0, 0] == int(level / 255 * 255)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_levels_refuse_values_outside(bad):
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        maps.to_levels(np.array([[0.5, bad]]))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: maps.normalize(np.ones((2, 2)), "min_max"), "did you mean 'minmax'"),
        (lambda: maps.resize(np.ones((2, 2)), (2, 2), "cubik"), "did you mean 'cubic'"),
        (lambda: maps.place(np.ones((2, 2)), CROP, Geometry.square((9, 9), 4)), "can't be placed"),
        (lambda: maps.normalize(np.ones(3)), r"\(H, W\)"),
        (lambda: maps.normalize(np.ones((0, 3))), "at least one pixel"),
        (lambda: maps.merge(np.ones((1, 2, 2)), [CROP, CROP]), "1 maps and 2 views"),
        (lambda: maps.merge(np.ones((2, 2, 2)), [CROP, Geometry.square((4, 4), 4)]), "different sizes"),
    ],
)
def test_bad_arguments_are_refused(call, word):
    with pytest.raises(InputError, match=word):
        call()


def test_place_in_the_image_frame_fills_the_window_only():
    rng = np.random.default_rng(0)
    score_map = rng.random((5, 5)).astype(np.float32) + 3
    out = maps.place(score_map, CROP, WHOLE, interpolation="linear")
    assert maps.window(CROP, WHOLE) == (8, 6, 28, 26)
    assert out.shape == (30, 40)
    assert np.array_equal(out[6:26, 8:28], maps.normalize(maps.resize(score_map, (20, 20), "linear")))
    out[6:26, 8:28] = 0
    assert not out.any()


def test_place_in_the_input_frame_resizes_then_scales():
    score_map = np.array([[0, 0, 9, 0, 0, 0, 0]], np.float32).repeat(7, 0)
    out = maps.place(score_map, CROP, CROP)
    assert out.shape == (10, 10)
    assert out.min() == 0  # cubic undershoot is scaled away, which only this order does
    assert out.max() == 1


@pytest.mark.parametrize("frame", [WHOLE, CROP, Geometry.square(CROP.image_size, 12)], ids=["image", "input", "square"])
def test_a_mirrored_view_is_mirrored_back(frame):
    score_map = np.random.default_rng(1).random((4, 6))
    mirrored = Geometry(CROP.image_size, CROP.resized, CROP.offset, CROP.input_size, mirrored=True)
    assert np.array_equal(maps.place(score_map[:, ::-1], mirrored, frame), maps.place(score_map, CROP, frame))


def test_a_window_over_the_edge_of_the_image_is_cut():
    view = Geometry(image_size=(8, 8), resized=(8, 8), offset=(-2, 6), input_size=(6, 4))
    score_map = np.arange(24.0).reshape(4, 6)
    out = maps.place(score_map, view, Geometry.whole((8, 8)), scaling="max")
    assert np.allclose(out[6:, :4] * 11, score_map[:2, 2:])  # scaled by what is seen of the image
    assert not out[:6].any()
    away = Geometry(image_size=(8, 8), resized=(8, 8), offset=(9, 0), input_size=(4, 4))
    with pytest.raises(InputError, match="outside its image"):
        maps.place(score_map, away, Geometry.whole((8, 8)))


def test_merge_averages_where_seen():
    left = Geometry((6, 2), (6, 2), (0, 0), (4, 2))
    right = Geometry((6, 2), (6, 2), (1, 0), (4, 2), mirrored=True)
    first = np.array([[1.0, 2.0, 3.0, 4.0]] * 2)
    second = np.array([[40.0, 30.0, 20.0, 10.0]] * 2)
    merged, geometry = maps.merge(np.stack([first, second]), [left, right])
    # columns: 0 only left; 1 to 3 both; 4 only right (mirrored back: 10 20 30 40); 5 unseen, the minimum
    assert merged.tolist() == [[1.0, 6.0, 11.5, 17.0, 40.0, 1.0]] * 2
    assert merged.dtype == np.float32
    assert geometry == Geometry((6, 2), (6, 2), (0, 0), (6, 2))


def test_merge_of_a_single_view_changes_nothing():
    score_map = np.ones((1, 3, 3), np.float32)
    merged, geometry = maps.merge(score_map, [CROP])
    assert np.array_equal(merged, score_map[0])
    assert geometry is CROP


def test_absolute_sum_equals_the_released_merging_of_ten_crops():
    """As mergeTenCrop.m: crops aligned on a canvas, mirrored ones mirrored back, magnitudes summed."""
    rng = np.random.default_rng(0)
    size, side = (8, 8), 6
    offsets = [(0, 0), (2, 0), (0, 2), (2, 2), (1, 1)]
    views = [Geometry(size, size, at, (side, side), mirrored) for mirrored in (False, True) for at in offsets]
    crops = rng.normal(size=(10, side, side)).astype(np.float32)
    canvas = np.zeros((10, *size))
    for i, (crop, (x, y)) in enumerate(zip(crops, offsets * 2, strict=True)):
        canvas[i, y : y + side, x : x + side] = crop[:, ::-1] if i >= 5 else crop
    merged, geometry = maps.merge(crops, views, merging="absolute_sum")
    assert np.allclose(merged, np.abs(canvas).sum(0), atol=1e-6)
    assert geometry == Geometry.whole(size)
    alone, _ = maps.merge(crops[:1], views[:1], merging="absolute_sum")
    assert np.array_equal(alone, np.abs(crops[0]))


values = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=7),
    elements=st.one_of(st.floats(-5, 5), st.integers(-3, 3).map(float)),
)


@given(values, st.floats(0, 1))
def test_quantiles_are_numpys_to_the_last_bit(score_map, share):
    flat = score_map.ravel()
    assert quantile(flat.copy(), share) == np.quantile(flat, share)
    levels = np.abs(score_map * 50).astype(np.uint8)
    assert level_quantile(levels.astype(np.uint16) << 8, share) == np.quantile(levels, share)


@given(values)
def test_ivr_of_0_and_1_is_minmax(score_map):
    assert maps.normalize(score_map, "quantiles", (0.0, 1.0)).tobytes() == maps.normalize(score_map).tobytes()


@given(values, st.floats(0.01, 0.95))
def test_ivr_and_pas_are_what_their_papers_say(score_map, p):
    ivr = np.maximum(score_map - np.quantile(score_map, p), 0.0)
    expected = ivr / ivr.max() if ivr.max() > 1e-3 else None
    if expected is not None:
        assert np.abs(maps.normalize(score_map, "quantiles", (p, 1.0)) - expected).max() < 1e-12
    shifted = score_map - score_map.min()
    standard = np.quantile(shifted, 0.9)
    if standard > 1e-3:
        pas = np.minimum(shifted / standard, 1.0)
        assert np.abs(maps.normalize(score_map, "quantiles", (0.0, 0.9)) - pas).max() < 1e-12


def test_clip_cuts_off_and_nearest_repeats_cells():
    assert maps.normalize(np.array([[-0.5, 0.25, 2.0]]), "clip").tolist() == [[0.0, 0.25, 1.0]]
    cells = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert maps.resize(cells, (6, 4), "nearest").tolist() == cells.repeat(2, 0).repeat(3, 1).tolist()


def test_quantiles_are_of_the_resized_map_in_the_frame():
    score_map = np.random.default_rng(0).standard_normal((5, 5))
    square = Geometry.square((40, 30), 20)
    resized = maps.resize(score_map, (20, 20))
    placed = maps.place(score_map, square, square, scaling="quantiles", quantiles=(0.45, 1.0))
    assert placed.tobytes() == maps.normalize(resized, "quantiles", (0.45, 1.0)).tobytes()
    assert (placed > 0).mean() == pytest.approx(0.55, abs=0.01)
