"""Erasing of regions against a loop over pixels that interpolates by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsol.errors import InputError
from wsol.functional.erasing import erase_regions


def at(score_map: torch.Tensor, y: float, x: float) -> float:
    """The value of a map (h, w) between its cells, the border repeated outwards; y, x in cells from the centre of 0."""
    height, width = score_map.shape
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    m = score_map.double()
    above = m[top, left] * (1 - fx) + m[top, right] * fx
    below = m[bottom, left] * (1 - fx) + m[bottom, right] * fx
    return float(above * (1 - fy) + below * fy)


@given(seed=st.integers(0, 99), h=st.integers(1, 4), w=st.integers(1, 4), threshold=st.sampled_from([0.2, 0.5, 0.8]))
def test_pixels_at_or_above_the_threshold_become_the_mean(seed: int, h: int, w: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 9, 13, generator=generator)
    maps = torch.rand(2, h, w, generator=generator)
    erased = erase_regions(images, maps, threshold)
    for n in range(2):
        for y in range(9):
            for x in range(13):
                value = at(maps[n], (y + 0.5) * h / 9 - 0.5, (x + 0.5) * w / 13 - 0.5)
                if abs(value - threshold) > 1e-5:
                    wanted = torch.zeros(3) if value > threshold else images[n, :, y, x]
                    assert torch.equal(erased[n, :, y, x], wanted)


def test_equal_to_the_threshold_is_erased_and_nothing_given_changes() -> None:
    images, maps = torch.ones(1, 3, 2, 2), torch.tensor([[[0.5, 0.49]]])
    assert erase_regions(images, maps, 0.5)[0, 0].tolist() == [[0, 1], [0, 1]]
    assert (images == 1).all()


def test_maps_get_no_gradient() -> None:
    images, maps = torch.ones(1, 3, 2, 2, requires_grad=True), torch.rand(1, 2, 2, requires_grad=True)
    erase_regions(images, maps, 0.5).sum().backward()
    assert maps.grad is None
    assert torch.equal(images.grad[0, 0] == 0, maps[0] >= 0.5)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    with pytest.raises(InputError, match=r"threshold.*\(0, 1\]"):
        erase_regions(torch.ones(1, 3, 2, 2), torch.ones(1, 1, 1), threshold)


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 1, 1, 1)])
def test_maps_of_another_shape_are_refused(shape) -> None:
    with pytest.raises(InputError, match=r"expected maps \(1, h, w\)"):
        erase_regions(torch.ones(1, 3, 2, 2), torch.ones(shape), 0.5)
