"""CALM against its equations written out, its maps as probabilities, and what it refuses."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wsol.backbones.tiny import Tiny
from wsol.errors import InputError
from wsol.heads.calm import CalmHead
from wsol.models.localizer import Localizer
from wsol.types import FeatureInfo

CLASSES = 5
POINTS = {"last": FeatureInfo(6, 4)}
LABELS = torch.tensor([3, 1])


def head(**options) -> CalmHead:
    torch.manual_seed(0)
    made = CalmHead(POINTS, CLASSES, **options)
    torch.nn.init.constant_(made.attention.bias, 0.3)
    return made


def written_out(head: CalmHead, x: Tensor, train: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """p(y, z), p(y), p(z) and the loss, as the released code computes them, with its small constants."""
    cells = F.conv2d(x, head.classifier.weight[:, :, None, None], head.classifier.bias)
    a = F.conv2d(x, head.attention.weight, head.attention.bias).relu()
    prior = a / a.sum((2, 3), keepdim=True).detach()
    joint = cells.softmax(1) * prior
    likelihood = joint.sum((2, 3))
    posterior = (joint / (likelihood[:, :, None, None] + 1e-10)).detach()
    raised = torch.where(prior < 1e-8, prior + 1e-8, prior)
    gains = (posterior * (cells.log_softmax(1) + raised.log())).sum((2, 3)) if train == "em" else likelihood.log()
    return joint, likelihood, prior, F.nll_loss(gains, LABELS)


@pytest.mark.parametrize("train", ["em", "ml"])
def test_it_is_the_network_and_the_loss_of_the_paper(train: str) -> None:
    ours, theirs, x = head(train=train), head(train=train), torch.randn(2, 6, 4, 5)
    joint, likelihood, prior, expected = written_out(theirs, x, train)
    output = ours({"last": x})
    assert (prior == 0).any()
    assert torch.allclose(output.logits, likelihood.log(), atol=1e-5)
    (loss,) = ours.loss(output, torch.eye(CLASSES)[LABELS]).values()
    assert torch.allclose(loss, expected, atol=1e-5)
    loss.backward()
    expected.backward()
    for mine, his in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine.grad, his.grad, atol=1e-5)
        assert mine.grad.abs().max() > 1e-4
    classes = torch.tensor([[4, 0], [1, 2]])
    asked = classes[:, :, None, None].expand(-1, -1, 4, 5)
    maps = {name: head(map=name).maps(output, classes) for name in ("joint", "posterior", "prior")}
    assert torch.allclose(maps["joint"], joint.gather(1, asked), atol=1e-6)
    assert torch.allclose(maps["posterior"], (joint / likelihood[:, :, None, None]).gather(1, asked), atol=1e-5)
    assert torch.allclose(maps["prior"], prior.expand(-1, 2, -1, -1), atol=1e-6)


@torch.no_grad()
def test_maps_are_probabilities_and_scores_their_logarithms() -> None:
    made, x = head(), torch.randn(3, 6, 7, 4)
    output, classes = made({"last": x}), torch.arange(CLASSES).expand(3, -1)
    assert torch.allclose(output.logits.exp().sum(1), torch.ones(3), atol=1e-5)
    assert torch.allclose(made.maps(output, classes).sum((1, 2, 3)), torch.ones(3), atol=1e-5)
    made.map = "posterior"
    assert torch.allclose(made.maps(output, classes).sum((2, 3)), torch.ones(3, CLASSES), atol=1e-5)


@pytest.mark.parametrize("train", ["em", "ml"])
def test_an_image_without_attention_learns_its_class_all_the_same(train: str) -> None:
    made = head(train=train)
    torch.nn.init.constant_(made.attention.bias, -1e3)
    output = made({"last": 50 * torch.randn(2, 6, 4, 4)})
    assert torch.equal(output.state["prior"], torch.full((2, 1, 4, 4), 1 / 16))
    (loss,) = made.loss(output, torch.eye(CLASSES)[LABELS]).values()
    loss.backward()
    assert made.classifier.weight.grad.abs().max() > 0
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())


def test_label_smoothing_and_mixed_targets_weigh_the_gains() -> None:
    made = head(train="ml")
    output, targets = made({"last": torch.randn(2, 6, 4, 4)}), torch.tensor([[0.7, 0.3, 0, 0, 0], [0, 0, 0, 1, 0]])
    (loss,) = made.loss(output, targets, label_smoothing=0.1).values()
    assert torch.allclose(loss, -((0.9 * targets + 0.02) * output.logits).sum(1).mean(), atol=1e-6)


def test_under_autocast_scores_and_maps_stay_float32() -> None:
    model = Localizer(Tiny(widths=[4, 4, 4, 4]), partial(CalmHead), CLASSES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.randn(2, 3, 32, 32))
    assert output.logits.dtype == model.maps(output, LABELS[:, None]).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [({"train": "me"}, "unknown train 'me'"), ({"map": "jiont"}, "unknown map 'jiont': did you mean 'joint'")],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        head(**options)
