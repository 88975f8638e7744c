"""Transforms: shapes, faithfulness of resizing, and randomness from the generator alone."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsol.data.transforms import (
    RandomCrop,
    RandomResizedCrop,
    ResizeCrop,
    ResizeSquare,
    SmallCrop,
    TenCrop,
    resize,
    shorter_side,
)
from wsol.errors import InputError

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
TRAIN = [
    RandomCrop(32, 40),
    RandomCrop(32, 40, square=False),
    RandomResizedCrop(32),
    SmallCrop(32, 4),
    SmallCrop(32, 0, flip=False),
    RandomCrop(32, 32, interpolation="bicubic"),
]


@pytest.fixture
def image():
    """Coarse noise: uint8 (75, 100, 3)."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (15, 20, 3), np.uint8))
    return np.array(coarse.resize((100, 75), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(64, 64), (40, 30), (150, 120), (100, 30)])
def test_resizing_is_pillows(image, size, interpolation):
    expected = np.array(Image.fromarray(image).resize(size, PILLOW[interpolation])).astype(int)
    difference = np.abs(resize(image, size, interpolation) - expected)
    assert difference.mean() < 0.1
    assert difference.max() <= 2


def test_resizing_to_the_same_size_is_nothing(image):
    assert resize(image, (100, 75)) is image


@pytest.mark.parametrize("transform", TRAIN)
@pytest.mark.parametrize("shape", [(75, 100), (32, 32), (100, 9), (1, 1)])
def test_training_transforms_depend_on_the_generator_alone(transform, shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    before = image.copy()
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    first = transform(image, np.random.default_rng(5))
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    second = transform(image, np.random.default_rng(5))
    assert first.shape == (3, 32, 32)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before)
    torch.from_numpy(first)  # no negative strides


@pytest.mark.parametrize("transform", TRAIN[:4])
def test_training_transforms_vary(transform, image):
    seen = {transform(image, np.random.default_rng(seed)).tobytes() for seed in range(8)}
    assert len(seen) > 1


def test_flip_mirrors_every_other_image(image):
    plain = SmallCrop(32, 0, flip=False)(image, np.random.default_rng(0))
    seen = [SmallCrop(32, 0)(image, np.random.default_rng(seed)) for seed in range(64)]
    mirrored = sum(np.array_equal(one, plain[..., ::-1]) for one in seen)
    assert mirrored + sum(np.array_equal(one, plain) for one in seen) == 64
    assert 16 < mirrored < 48


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_random_windows_fit(width, height, seed):
    w, h = RandomResizedCrop(8)._draw(width, height, np.random.default_rng(seed))
    assert 1 <= w <= width
    assert 1 <= h <= height


def test_ten_crop_is_five_windows_and_their_mirrors(image):
    crops = TenCrop(32, 40)(image)
    assert crops.shape == (10, 3, 32, 32)
    np.testing.assert_array_equal(crops[5:], crops[:5, ..., ::-1])
    np.testing.assert_array_equal(crops[4], ResizeCrop(32, 40)(image))
    resized = resize(image, shorter_side((100, 75), 40)).transpose(2, 0, 1)
    np.testing.assert_array_equal(crops[1], resized[:, :32, -32:])
    np.testing.assert_array_equal(crops[2], resized[:, -32:, :32])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ResizeSquare(0), "size must be"),
        (lambda: ResizeSquare(None), "size must be"),
        (lambda: ResizeSquare(32, "linear"), "did you mean 'bilinear'"),
        (lambda: ResizeCrop(224, 200), "no room"),
        (lambda: RandomCrop(64, 32), "no room"),
        (lambda: RandomResizedCrop(64, scale=(0.5, 1.5)), "scale"),
        (lambda: SmallCrop(32, 32), "padding"),
    ],
)
def test_impossible_arguments(make, text):
    with pytest.raises(InputError, match=text):
        make()


@pytest.mark.parametrize(("square", "covered"), [(True, True), (False, False)])
def test_ten_crops_of_a_square_see_every_part_of_a_wide_image(square: bool, covered: bool) -> None:
    """At 3:1 the crops of CAM's code (whole image to 256 x 256) leave nothing out; those of the shorter side do."""
    views = TenCrop(size=224, resize=256, square=square).views((900, 300))
    seen = np.zeros(900, bool)
    for view in views:
        (left, _, right, _) = view.to_image([[0.0, 0.0, 224.0, 224.0]])[0]
        seen[round(max(left, 0)) : round(right)] = True
    assert bool(seen.all()) == covered
    image = np.random.default_rng(0).integers(0, 256, (300, 900, 3), np.uint8)
    crops = TenCrop(size=224, resize=256, square=square)(image)
    whole = cv2.resize(image, (256, 256) if square else (768, 256), interpolation=cv2.INTER_AREA)
    if square:
        assert [view.offset for view in views[:5]] == [(0, 0), (32, 0), (0, 32), (32, 32), (16, 16)]
        difference = np.abs(crops[4].transpose(1, 2, 0).astype(int) - whole[16:240, 16:240])
        assert difference.mean() < 12
    assert np.array_equal(crops[9], crops[4][:, :, ::-1])
