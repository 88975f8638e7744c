"""Scaling and erasing: ranges, edge cases, gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol.functional.attention import SCALINGS, erase, max_normalize, min_max_normalize


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-20, 1e20), shift=st.floats(-5, 5))
def test_scalings_equal_loops_and_do_not_see_the_scale(seed, scale, shift):
    maps = (noise(seed, 2, 3, 4, 5) + shift) * scale
    for index in [(i, j) for i in range(2) for j in range(3)]:
        values = maps[index].double()
        low, high = values.min(), values.max()
        assert torch.allclose(min_max_normalize(maps)[index].double(), (values - low) / (high - low), atol=1e-5)
        above = values.clamp(min=0)
        expected = above / high if high > 0 else torch.zeros_like(above)
        assert torch.allclose(max_normalize(maps)[index].double(), expected, atol=1e-5)


@pytest.mark.parametrize("scale", SCALINGS.values(), ids=SCALINGS)
@pytest.mark.parametrize("value", [0.0, -3.0])
def test_maps_without_anything_give_zeros(scale, value):
    assert scale(torch.full((2, 1, 3, 3), value)).tolist() == torch.zeros(2, 1, 3, 3).tolist()


def test_erasing_takes_all_channels_from_delta_on():
    features = noise(0, 2, 3, 1, 5) + 10
    maps = torch.tensor([[[[0.0, 2.0, 2.9, 3.0, 5.0]]], [[[-1.0, -1.0, -1.0, -1.0, -1.0]]]])
    erased = erase(features, maps, delta=0.6)
    assert torch.equal(erased[0, :, :, :3], features[0, :, :, :3])
    assert not erased[0, :, :, 3:].any(), "3 is at 0.6 of the range: erased"
    assert torch.equal(erased[1], features[1]), "a constant map erases nothing"


def test_the_mask_carries_no_gradient_and_the_kept_features_do():
    features, maps = noise(0, 1, 2, 3, 3).requires_grad_(), noise(1, 1, 1, 3, 3).requires_grad_()
    erase(features, maps, delta=0.5).sum().backward()
    assert maps.grad is None
    assert torch.equal(features.grad, (min_max_normalize(maps) < 0.5).float().expand(1, 2, 3, 3))


def test_erasing_keeps_the_kind_of_number():
    assert erase(noise(0, 1, 2, 3, 3).bfloat16(), noise(1, 1, 1, 3, 3), 0.5).dtype == torch.bfloat16
