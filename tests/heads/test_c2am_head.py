"""C2AM's loss and map against loops over pairs of images, and the rule that tells object from background."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from wsol.backbones.tiny import Tiny
from wsol.errors import InputError
from wsol.heads.c2am import C2amHead, likeness_loss
from wsol.models.localizer import Localizer
from wsol.types import FeatureInfo

POINTS = {"last": FeatureInfo(5, 16), "mid": FeatureInfo(3, 16)}
ANY = torch.zeros(1, 1, dtype=torch.int64)


def head(**options) -> C2amHead:
    torch.manual_seed(0)
    made = C2amHead(POINTS, 4, **options)
    torch.nn.init.normal_(made.activation.weight)
    return made


def features(count: int, side: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.rand(count, info.channels, side, side + 1) for name, info in POINTS.items()}


def cosine(a: Tensor, b: Tensor) -> float:
    return min(max((a @ b / (a.norm() * b.norm())).item(), 0.0005), 0.9995)


def by_pairs(vectors: list[Tensor], alpha: float) -> float:
    """Minus the weighted logarithms of all cosines, image by image."""
    total = 0.0
    for own in vectors:
        likeness = [cosine(own, other) for other in vectors]
        for value in likeness:
            rank = sum(other > value for other in likeness) - 1
            total -= math.exp(-alpha * rank) * math.log(value)
    return total / len(vectors) ** 2


def test_two_images_by_hand() -> None:
    made, given = head(alpha=0.3).train(), features(2)
    output = made(given)
    x = torch.cat([given["last"], given["mid"]], 1)
    plane = torch.nn.functional.conv2d(x, made.activation.weight, padding=1)[:, 0]
    expected = torch.sigmoid((plane - plane.mean()) / (plane.var(correction=0) + 1e-5).sqrt())
    assert torch.allclose(output.state["activation"], expected, atol=1e-5)
    covered = [(p * f).mean((1, 2)) for p, f in zip(expected, x, strict=True)]
    left = [((1 - p) * f).mean((1, 2)) for p, f in zip(expected, x, strict=True)]
    terms = made.loss(output, torch.zeros(2, 4))
    contrast = -sum(math.log(1 - cosine(b, f)) for b in left for f in covered) / 4
    assert terms["contrast"].item() == pytest.approx(contrast, rel=1e-4)
    (f1, f2), (b1, b2) = covered, left
    own, other = math.log(0.9995), math.log(cosine(f1, f2))
    assert terms["foreground"].item() == pytest.approx(-(math.exp(0.3) * own + other) / 2, rel=1e-4)
    other = math.log(cosine(b1, b2))
    assert terms["background"].item() == pytest.approx(-(math.exp(0.3) * own + other) / 2, rel=1e-4)


def test_ranks_weigh_pairs_and_ties_have_no_order() -> None:
    torch.manual_seed(0)
    vectors = torch.rand(6, 5)
    for alpha in (0.0, 0.75):
        assert likeness_loss(vectors, alpha).item() == pytest.approx(by_pairs(list(vectors), alpha), rel=1e-4)
    twins = torch.cat([vectors[:2].repeat(3, 1), vectors])
    order = torch.randperm(len(twins))
    assert torch.allclose(likeness_loss(twins, 0.75), likeness_loss(twins[order], 0.75))


def test_gradients_reach_everything_also_under_autocast() -> None:
    model = Localizer(Tiny(widths=[4, 4, 4, 6]), partial(C2amHead), 5).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.randn(3, 3, 32, 32))
        terms = model.loss(output, torch.zeros(3, 5))
    assert {value.dtype for value in terms.values()} == {torch.float32}
    assert output.logits.shape == (3, 0)
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_small_batches_and_saturated_maps_are_finite(count: int, scale: float) -> None:
    """The last batch of an epoch may have one image; a map that covers everything leaves a vector of zeros."""
    made, given = head().train(), features(count)
    torch.nn.init.constant_(made.norm.weight, scale)
    torch.nn.init.constant_(made.norm.bias, scale)
    given = {name: value.requires_grad_() for name, value in given.items()}
    terms = made.loss(made(given), torch.zeros(count, 4))
    sum(terms.values()).backward()
    assert all(value.isfinite() for value in terms.values())
    assert all(value.grad.isfinite().all() for value in given.values())
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())
    assert made.border.isfinite()


def test_points_of_other_sizes_come_to_that_of_the_first() -> None:
    given = features(2)
    given["mid"] = torch.rand(2, 3, 8, 10)
    assert head()(given).state["activation"].shape == (2, 4, 5)
    assert head(read=["mid", "last"])(given).state["activation"].shape == (2, 8, 10)
    given["mid"] = torch.full((2, 3, 8, 10), 0.5)
    alike = {**given, "mid": torch.full((2, 3, 4, 5), 0.5)}
    assert torch.allclose(head()(given).state["covered"], head()(alike).state["covered"], atol=1e-6)


def object_in_the_middle(count: int, bright: bool) -> dict[str, Tensor]:
    """Features of which the first channel is high in the middle of the map, or around it."""
    plane = torch.zeros(count, 1, 6, 6)
    plane[:, :, 2:4, 2:5] = 1.0
    plane = plane if bright else 1 - plane
    return {"last": torch.cat([plane, torch.rand(count, 4, 6, 6) / 10], 1), "mid": torch.rand(count, 3, 6, 6) / 10}


@pytest.mark.parametrize("bright", [True, False])
def test_the_map_is_high_away_from_the_border_whichever_side_was_learnt(bright: bool) -> None:
    made = head().train()
    with torch.no_grad():
        made.activation.weight.zero_()
        made.activation.weight[0, 0, 1, 1] = 5.0
    for _ in range(3):
        made.loss(made(object_in_the_middle(4, bright)), torch.zeros(4, 4))
    assert (made.border > 0).item() is not bright
    other = head().eval()
    other.load_state_dict(made.state_dict())
    output = other(object_in_the_middle(2, bright))
    (found,) = other.maps(output, ANY.expand(2, 3))[:1]
    assert torch.equal(found[0], found[2])
    assert found[0, 2:4, 2:5].min() > found[0, 0].max()
    before = other.border.clone()
    other.loss(output, torch.zeros(2, 4))
    assert torch.equal(other.border, before), "evaluation does not move it"


def test_the_running_mean_is_that_of_all_images_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where processes have different numbers of images."""
    made, activation = head(momentum=0.25), torch.rand(5, 4, 6)
    at_border = torch.ones(4, 6, dtype=torch.bool)
    at_border[1:-1, 1:-1] = False
    each = torch.stack([plane[at_border].mean() - plane.mean() for plane in activation])
    made._follow(activation)
    assert torch.allclose(made.border, each.mean() / 4)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    shared = head(momentum=0.25)
    rest = torch.stack([each[3:].sum(), torch.tensor(2.0)])
    monkeypatch.setattr(dist, "all_reduce", lambda value: value.add_(rest))
    shared._follow(activation[:3])
    assert torch.allclose(shared.border, made.border)


def test_one_image_decides_for_good_as_in_the_released_code() -> None:
    """The first of batch 2, by the share of cells above .5 on each side; later batches change nothing."""
    made, first, second = head(decide_at=2).train(), torch.ones(3, 4, 6), torch.zeros(3, 4, 6)
    second[0, 0], second[0, :, 0], second[1:] = 0.6, 0.7, 1.0
    decided = (1 + 1 / 6 + 1 + 1 / 4) / 4 - 0.5
    for batch, expected in ((first, 0.0), (second, decided), (1 - first, decided)):
        made._decide(batch)
        assert made.border.item() == pytest.approx(expected)
    again = head(decide_at=2)
    again.load_state_dict(made.state_dict())
    again.train().loss(again(object_in_the_middle(2, bright=True)), torch.zeros(2, 4))
    assert again.border == made.border
    assert again.batches == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decide_at": 0}, "decide_at: expected the number of a batch from 1, or null, got 0"),
        ({"read": "last"}, "read: expected a list of points, got 'last'"),
        ({"read": []}, r"read: expected a list of points, got \[\]"),
        ({"read": ["late"]}, "late"),
        ({"alpha": -1.0}, "alpha: expected a number from 0, got -1.0"),
        ({"momentum": 0.0}, r"momentum: expected a share of the running mean in \(0, 1\], got 0.0"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        C2amHead(POINTS, 4, **options)
