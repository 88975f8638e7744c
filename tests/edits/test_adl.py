"""ADL against the equations written out cell by cell, its draws, and its places in real networks."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsol.backbones.inception import InceptionV3
from wsol.backbones.resnet import ResNet
from wsol.backbones.vgg import VGG
from wsol.edits.adl import ADL
from wsol.errors import InputError
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer
from wsol.types import FeatureInfo


def features(seed: int = 0, shape: tuple[int, ...] = (4, 5, 3, 6)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).relu()


def by_cell(x: torch.Tensor, drop: bool, gamma: float) -> torch.Tensor:
    """One image at a time, one cell at a time, in double precision."""
    out = torch.zeros_like(x)
    for n, image in enumerate(x.double()):
        attention = [[image[:, i, j].mean().item() for j in range(x.shape[3])] for i in range(x.shape[2])]
        top = max(max(row) for row in attention)
        for i, row in enumerate(attention):
            for j, value in enumerate(row):
                factor = float(value < gamma * top) if drop else 1 / (1 + math.exp(-value))
                out[n, :, i, j] = image[:, i, j] * factor
    return out


@pytest.mark.parametrize("drop_rate", [0.0, 1.0])
@given(seed=st.integers(0, 99), gamma=st.floats(0.1, 0.95))
def test_each_mask_is_the_equation(drop_rate: float, seed: int, gamma: float) -> None:
    x = features(seed)
    assert torch.allclose(ADL(drop_rate, gamma)(x), by_cell(x, bool(drop_rate), gamma), atol=1e-6)


def test_attention_equal_to_the_threshold_is_dropped() -> None:
    attention = torch.tensor([[2.0, 4.0, 8.0], [3.0, 5.0, 0.0]])
    kept = ADL(drop_rate=1.0, gamma=0.5)(attention.expand(1, 4, 2, 3)) != 0
    assert kept[0, 0].tolist() == [[True, False, False], [True, False, False]]  # what was 0 stays 0


def test_eval_is_the_identity_and_draws_nothing() -> None:
    x, state = features(), torch.get_rng_state()
    assert ADL().eval()(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def dropped(layer: ADL, x: torch.Tensor) -> torch.Tensor:
    """Which images (N,) had the drop mask: it leaves zeros where the importance map (above 0) leaves none."""
    return (layer(x) == 0).flatten(1).any(1)


def test_one_draw_a_forward_by_default() -> None:
    torch.manual_seed(0)
    layer, x = ADL(drop_rate=0.75), features().add(0.1)
    draws = torch.stack([dropped(layer, x) for _ in range(2000)])
    assert (draws == draws[:, :1]).all()
    assert draws[:, 0].float().mean().item() == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 2000) ** 0.5)


def test_a_draw_an_image_by_config() -> None:
    torch.manual_seed(0)
    layer, x = ADL(drop_rate=0.3, per_image=True), features().add(0.1)
    draws = torch.stack([dropped(layer, x) for _ in range(1000)]).float()
    assert draws.mean(0).tolist() == pytest.approx([0.3] * 4, abs=4 * (0.3 * 0.7 / 1000) ** 0.5)
    correlation = torch.corrcoef(draws.T) - torch.eye(4)
    assert correlation.abs().max() < 0.15  # independent of one another


def test_the_seed_decides() -> None:
    layer, x = ADL(drop_rate=0.5, per_image=True), features(shape=(64, 5, 3, 6))
    torch.manual_seed(7)
    first, other = layer(x), layer(x)
    torch.manual_seed(7)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, other)


def test_gradients_flow_through_the_importance_map_but_not_the_drop_mask() -> None:
    x = features().add(0.1).requires_grad_()
    kept = ADL(drop_rate=1.0)(x)
    (gradient,) = torch.autograd.grad(kept.sum(), x)
    assert torch.equal(gradient, (kept != 0).float())
    (gradient,) = torch.autograd.grad(ADL(drop_rate=0.0)(x).sum(), x)
    a = x.detach().mean(1, keepdim=True).sigmoid()
    through = x.detach().sum(1, keepdim=True) * a * (1 - a) / x.shape[1]
    assert torch.allclose(gradient, a + through, atol=1e-6)


def test_half_precision_and_layout_stay() -> None:
    x = features().bfloat16().contiguous(memory_format=torch.channels_last)
    out = ADL(drop_rate=1.0, gamma=0.9)(x)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out == 0, by_cell(x.float(), drop=True, gamma=0.9) == 0)


def test_an_image_does_not_see_the_others() -> None:
    layer, x = ADL(drop_rate=1.0), features()
    assert torch.equal(layer(x), torch.cat([layer(one[None]) for one in x]))


def test_given_features_stay_as_they_are() -> None:
    x = features()
    before = x.clone()
    for rate in (0.0, 1.0):
        ADL(rate)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("wrong", [{"drop_rate": 1.5}, {"drop_rate": -0.1}, {"gamma": 2.0}, {"gamma": float("nan")}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ADL(**wrong)


@pytest.mark.parametrize(
    ("backbone", "places"),
    [
        (VGG(16), {"pool3": FeatureInfo(256, 8), "conv4_3": FeatureInfo(512, 8), "conv5_3": FeatureInfo(512, 16)}),
        (
            ResNet(50, output_stride=16),
            {"layer3.0": FeatureInfo(1024, 16), "layer4.0": FeatureInfo(2048, 16), "layer4.2": FeatureInfo(2048, 16)},
        ),
        (
            InceptionV3(output_stride=16, extra_convs=2),
            {"Mixed_5d": FeatureInfo(288, 8), "Mixed_6e": FeatureInfo(768, 16), "extra2": FeatureInfo(1024, 16)},
        ),
    ],
    ids=["vgg16", "resnet50", "inception_v3"],
)
def test_the_published_places_are_there_and_change_training_alone(backbone, places) -> None:
    assert {name: backbone.named_points[name] for name in places} == places
    torch.manual_seed(0)
    edits = {name: ADL(drop_rate=0.0) for name in places}
    plain = Localizer(backbone, GapHead(backbone.named_points, 5), 5)
    edited = Localizer(backbone, plain.head, 5, edits=edits)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        seen = {}
        for name, edit in edits.items():
            edit.register_forward_hook(lambda _, args, out, name=name: seen.update({name: (args[0].shape, out)}))
        before = copy.deepcopy(backbone.state_dict())
        assert not torch.equal(edited.train()(images).logits, plain.train()(images).logits)
        backbone.load_state_dict(before)  # batch statistics
        assert {name: shape[1] for name, (shape, _) in seen.items()} == {n: p.channels for n, p in places.items()}
        assert torch.equal(edited.eval()(images).logits, plain.eval()(images).logits)
    assert not list(edited.edits.parameters())


def test_two_edits_at_one_point_and_unknown_points_are_refused() -> None:
    backbone = ResNet(18, width=8)
    head = GapHead(backbone.named_points, 5)
    with pytest.raises(InputError, match="same point"):
        Localizer(backbone, head, 5, edits={"layer4": ADL(), "layer4.1": ADL()})
    with pytest.raises(InputError, match=r"'conv4_3'.*layer3\.0"):
        Localizer(backbone, head, 5, edits={"conv4_3": ADL()})
