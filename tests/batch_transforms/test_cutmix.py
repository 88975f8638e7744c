"""CutMix: windows come from one other image, targets follow their exact area, soft targets too."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsol.batch_transforms.cutmix import CutMix
from wsol.errors import InputError


def numbered(count: int, height: int, width: int) -> torch.Tensor:
    """Images of a constant value of their own: (N, 3, H, W)."""
    return torch.arange(float(count)).view(-1, 1, 1, 1).expand(count, 3, height, width).contiguous()


def soft_targets(count: int, classes: int, seed: int) -> torch.Tensor:
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed)).softmax(1)


@given(
    count=st.integers(2, 5), height=st.integers(4, 24), width=st.integers(4, 24),
    alpha=st.sampled_from([0.3, 1.0, 4.0]), seed=st.integers(0, 999),
)  # fmt: skip
def test_targets_are_mixed_by_the_exact_share_of_pixels(count, height, width, alpha, seed) -> None:
    torch.manual_seed(seed)
    targets = soft_targets(count, 7, seed)
    mixed, after = CutMix(alpha)(numbered(count, height, width), targets)
    assert torch.allclose(after.sum(1), torch.ones(count), atol=1e-6)
    assert (mixed == mixed[:, :1]).all()
    for n in range(count):
        shares = torch.stack([(mixed[n, 0] == m).float().mean() for m in range(count)])
        assert (shares > 0).sum() <= 2
        assert torch.allclose(after[n], (shares[:, None] * targets).sum(0), atol=1e-6)


@given(seed=st.integers(0, 99))
def test_what_comes_from_elsewhere_is_one_window_the_same_for_all(seed: int) -> None:
    torch.manual_seed(seed)
    mixed, _ = CutMix()(numbered(3, 12, 20), torch.eye(3))
    windows = (mixed[:, 0] != torch.arange(3.0).view(3, 1, 1)).int()
    assert (windows == windows[:1]).all()
    rows, columns = windows[0].any(1), windows[0].any(0)
    assert torch.equal(windows[0].bool(), rows[:, None] & columns)
    for line in (rows, columns):
        assert line.int().diff().abs().sum() <= 2  # one run


def shares(transform: CutMix, times: int) -> torch.Tensor:
    torch.manual_seed(0)
    images = numbered(2, 64, 64)
    return torch.stack([1 - transform(images, torch.eye(2))[1][0, 0] for _ in range(times)])


def test_windows_are_of_every_size_and_smaller_where_they_stick_out() -> None:
    drawn = shares(CutMix(1.0), 2000)
    # Of a window with side s = sqrt(1 - lambda), lambda and the centre uniform, s - s^2 / 4 of each side lies inside.
    s = torch.linspace(0, 1, 10001).sqrt()
    assert drawn.mean().item() == pytest.approx(((s - s**2 / 4) ** 2).mean().item(), abs=0.03)
    assert drawn.max() > 0.9
    assert drawn.min() < 0.02


def test_alpha_shapes_the_draws() -> None:
    assert shares(CutMix(8.0), 500).std() < shares(CutMix(1.0), 500).std() < shares(CutMix(0.2), 500).std()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_probability(probability: float) -> None:
    mixed = (shares(CutMix(4.0, probability), 1000) > 0).float().mean().item()
    assert mixed == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 1000) ** 0.5 + 1e-9)


def test_nothing_given_is_changed_and_the_seed_decides() -> None:
    images, targets = numbered(4, 16, 16), soft_targets(4, 5, 0)
    before = images.clone(), targets.clone()
    torch.manual_seed(3)
    first = CutMix()(images, targets)
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])
    torch.manual_seed(3)
    again = CutMix()(images, targets)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_layout_stays() -> None:
    images = numbered(4, 16, 16).contiguous(memory_format=torch.channels_last)
    assert CutMix()(images, torch.eye(4))[0].is_contiguous(memory_format=torch.channels_last)


def test_a_batch_of_one_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"batch of one.*loader\.batch_size.*loader\.drop_last"):
        CutMix()(torch.zeros(1, 3, 8, 8), torch.eye(1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"alpha": 0.0}, "alpha"), ({"alpha": -1.0}, "alpha"), ({"probability": 1.01}, "probability")],
)
def test_wrong_options_are_refused(wrong, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CutMix(**wrong)
