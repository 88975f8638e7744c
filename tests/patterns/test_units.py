"""The strongest images of units against a sort of everything, and their regions."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsol.backbones.tiny import Tiny
from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.heads.acol import AcolHead
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer
from wsol.patterns.units import TopActivations, class_weights, ranked, region


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 4), st.sampled_from([1, 3, 20]))
def test_the_images_kept_are_the_first_of_all_in_order(seed: int, size: int, count: int, levels: int) -> None:
    """Few levels make many images equal."""
    rng = np.random.default_rng(seed)
    cells = torch.from_numpy(rng.integers(0, levels, (9, 2, 5, 3, 4)).astype(np.float32))
    sizes = torch.from_numpy(rng.integers(5, 50, (9, 2)))
    top = TopActivations([4, 1], count)
    for part in torch.arange(9).split(size):
        top.update(cells[part], part, sizes[part])
    for unit in (4, 1):
        values = [float(cells[i, :, unit].max()) for i in range(9)]
        expected = sorted(range(9), key=lambda i: (-values[i], i))[:count]
        assert [one.position for one in top.of(unit)] == expected
        for one in top.of(unit):
            assert one.value == values[one.position]
            assert one.size == tuple(sizes[one.position].tolist())
            np.testing.assert_array_equal(one.cells, cells[one.position, :, unit].numpy())


def test_units_are_ranked_by_the_class_s_weights() -> None:
    localizer = Localizer(Tiny(), partial(GapHead, conv_channels=6), num_classes=3)
    weights = class_weights(localizer)
    assert weights.shape == (3, 6)
    values = weights[1].tolist()
    assert ranked(weights, 1, 4) == sorted(range(6), key=lambda unit: -values[unit])[:4]
    assert len(ranked(weights, 1, 100)) == 6


def test_without_a_linear_read_out_there_are_no_weights() -> None:
    with pytest.raises(InputError, match=r"AcolHead has no linear classifier on its features.*method=cam"):
        class_weights(Localizer(Tiny(), partial(AcolHead, width=8), num_classes=3))


def test_a_region_holds_the_maximum_and_not_the_larger_part_elsewhere() -> None:
    cells = np.zeros((1, 8, 8))
    cells[0, 1, 6] = 10
    cells[0, 4:8, 0:5] = 9
    x0, y0, x1, y1 = region(cells, [Geometry.square((80, 160), 8)], threshold=0.6)
    assert 55 <= x0 < 65 < x1 <= 75
    assert 10 <= y0 < 30 < y1 <= 50


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.5), (0.5, 0.9)])
def test_a_higher_threshold_gives_a_smaller_region(low: float, high: float) -> None:
    y, x = np.mgrid[:9, :9]
    cells = np.exp(-((x - 4) ** 2 + (y - 5) ** 2) / 6)[None]
    views = [Geometry.square((90, 90), 9)]
    wide, narrow = region(cells, views, low), region(cells, views, high)
    assert (wide[:2] < narrow[:2]).all()
    assert (wide[2:] > narrow[2:]).all()


def test_a_region_lies_where_a_crop_saw_it() -> None:
    cells = np.zeros((1, 4, 4))
    cells[0, 0, 0] = 1
    crop = Geometry((200, 100), (200, 100), (50, 0), (100, 100))
    x0, y0, x1, y1 = region(cells, [crop])
    assert (x0, y0) == (50, 0)
    assert (x1, y1) <= (80, 30)
    mirrored = Geometry((200, 100), (200, 100), (50, 0), (100, 100), mirrored=True)
    assert region(cells, [mirrored])[2] == 150


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_where_nothing_is_active_the_region_is_the_image(value: float) -> None:
    assert region(np.full((1, 4, 4), value), [Geometry.square((30, 20), 4)]).tolist() == [0, 0, 30, 20]
