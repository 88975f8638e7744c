"""Hide-and-Seek against a plain loop over patches, and the statistics of its draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsol.batch_transforms.has import HaS
from wsol.errors import InputError

FILL = 7.0


def hidden(transform: HaS, images: torch.Tensor) -> torch.Tensor:
    """Hide patches of images without a value of `FILL`: bool (N, H, W), the same in all channels."""
    out, _ = transform(images, torch.eye(len(images)))
    same = out == FILL
    assert torch.equal(out[~same], images[~same])
    assert (same == same[:, :1]).all()
    return same[:, 0]


def is_grid(mask: torch.Tensor, size: int) -> bool:
    """Whether a mask (H, W) is made of whole patches from the top left corner; those at the edge may be cut off."""
    height, width = mask.shape
    return all(
        mask[y : y + size, x : x + size].unique().numel() == 1
        for y in range(0, height, size)
        for x in range(0, width, size)
    )


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0)).clamp(-5, 5)


@given(
    size=st.integers(1, 12),
    height=st.integers(12, 30),
    width=st.integers(12, 30),
    seed=st.integers(0, 999),
    probability=st.sampled_from([0.3, 0.5, 0.9]),
)
def test_whole_patches_are_hidden(size: int, height: int, width: int, seed: int, probability: float) -> None:
    torch.manual_seed(seed)
    mask = hidden(HaS([size], probability, FILL), images(3, height, width))
    assert all(is_grid(one, size) for one in mask)


@given(height=st.integers(8, 40), width=st.integers(8, 40), seed=st.integers(0, 99))
def test_drawn_sizes_make_the_grid_of_one_of_them(height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    for mask in hidden(HaS([0, 3, 5, 8], 0.5, FILL), images(6, height, width)):
        assert not mask.any() or any(is_grid(mask, size) for size in (3, 5, 8))


def test_every_patch_of_a_rectangle_is_hidden_as_often_and_independently() -> None:
    torch.manual_seed(1)
    count = 4000
    mask = hidden(HaS([8], 0.3, FILL), images(count, 16, 40))  # 2 x 5 patches
    patches = mask[:, ::8, ::8].flatten(1).float()
    assert patches.shape == (count, 10)
    assert patches.mean(0).tolist() == pytest.approx([0.3] * 10, abs=4.5 * (0.3 * 0.7 / count) ** 0.5)
    assert (torch.corrcoef(patches.T) - torch.eye(10)).abs().max() < 4.5 / count**0.5


def test_patches_at_the_far_edges_are_drawn_too() -> None:
    torch.manual_seed(1)
    mask = hidden(HaS([8], 0.5, FILL), images(2000, 10, 19))  # patches of 8x8, cut off below and on the right
    corner = mask[:, 9, 18].float()
    assert corner.mean().item() == pytest.approx(0.5, abs=0.05)
    assert (
        torch.corrcoef(torch.stack([corner, mask[:, 9, 8].float(), mask[:, 0, 18].float()])).triu(1).abs().max() < 0.1
    )


def test_sizes_are_drawn_evenly_for_each_image() -> None:
    torch.manual_seed(0)
    count, sizes = 3000, [0, 2, 4, 16]
    mask = hidden(HaS(sizes, 0.999999, FILL), images(count, 16, 16))
    assert mask.flatten(1).all(1).float().mean().item() == pytest.approx(3 / 4, abs=0.04)
    torch.manual_seed(0)
    mask = hidden(HaS(sizes, 0.5, FILL), images(count, 16, 16))
    shares = mask.flatten(1).float().mean(1)
    coarse = (shares == 1).float().mean().item()  # one patch of 16: hidden or not
    assert coarse == pytest.approx(1 / 8, abs=0.03)
    assert (shares == 0).float().mean().item() == pytest.approx(1 / 4 + 1 / 8, abs=0.04)


@pytest.mark.parametrize("arguments", [([0], 1.0), ([4], 0.0)])
def test_nothing_is_hidden(arguments) -> None:
    x = images(3, 8, 8)
    out, _ = HaS(*arguments, FILL)(x, torch.eye(3))
    assert torch.equal(out, x)


def test_everything_is_hidden_with_the_colour_given() -> None:
    out, _ = HaS([4], 1.0, [1.0, -2.0, 0.5])(images(2, 8, 12), torch.eye(2))
    assert torch.equal(out, torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1).expand(2, 3, 8, 12))


def test_the_default_fill_is_the_mean() -> None:
    out, _ = HaS([4], 1.0)(images(2, 8, 12), torch.eye(2))
    assert (out == 0).all()


def test_new_images_and_the_same_soft_targets() -> None:
    x, targets = images(4, 32, 32), torch.rand(4, 6)
    before = x.clone()
    out, after = HaS([8], 0.5)(x, targets)
    assert torch.equal(x, before)
    assert out.data_ptr() != x.data_ptr()
    assert after is targets


def test_layout_and_type_stay() -> None:
    x = images(4, 32, 32).bfloat16().contiguous(memory_format=torch.channels_last)
    out, _ = HaS([8])(x, torch.eye(4))
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_the_seed_decides() -> None:
    transform, x = HaS([0, 4, 8], fill=FILL), images(8, 32, 32)
    torch.manual_seed(5)
    first, second = hidden(transform, x), hidden(transform, x)
    torch.manual_seed(5)
    assert torch.equal(hidden(transform, x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("height", "width"), [(31, 64), (64, 31), (16, 16)])
def test_patches_larger_than_the_image_are_refused(height: int, width: int) -> None:
    with pytest.raises(InputError, match=rf"32 pixels are larger than the images of {width}x{height}; lower"):
        HaS([0, 16, 32])(images(1, height, width), torch.eye(1))
    HaS([16])(images(1, height, width), torch.eye(1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sizes": []}, "sizes"),
        ({"sizes": [-4]}, "sizes"),
        ({"sizes": [2.5]}, "sizes"),
        ({"probability": 1.1}, "probability"),
        ({"fill": [0.0, 1.0]}, "fill"),
    ],
)
def test_wrong_options_are_refused(wrong, message: str) -> None:
    with pytest.raises(InputError, match=message):
        HaS(**wrong)
