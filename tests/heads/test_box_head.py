"""The head that gives boxes: its loss and boxes against plain loops, and what it refuses."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

from wsol.backbones.tiny import Tiny
from wsol.errors import InputError
from wsol.heads.base import Head
from wsol.heads.box import BoxHead
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer
from wsol.types import FeatureInfo

POINTS = {"last": FeatureInfo(channels=6, stride=4)}
K = 5
NAN = float("nan")


def head(**options) -> BoxHead:
    torch.manual_seed(0)
    return BoxHead(POINTS, K, **{"width": 8, **options})


def features(count: int = 3) -> dict[str, torch.Tensor]:
    return {"last": torch.randn(count, 6, 4, 5, generator=torch.Generator().manual_seed(1))}


def test_box_and_loss_are_those_of_a_loop() -> None:
    model = head(weight=50.0)
    output = model(features())
    pseudo = torch.tensor([[0.1, 0.2, 0.6, 0.9], [NAN] * 4, [0.0, 0.0, 1.0, 0.5]])
    first, second = (copy.deepcopy(model.box[i]).requires_grad_(False) for i in (0, 2))
    total = 0.0
    for i in range(3):
        pooled = features()["last"][i].mean((1, 2))
        hidden = [max(0.0, float(row @ pooled + bias)) for row, bias in zip(first.weight, first.bias, strict=True)]
        raw = [
            float(torch.sigmoid(row @ torch.tensor(hidden) + bias))
            for row, bias in zip(second.weight, second.bias, strict=True)
        ]
        x, y, w, h = raw
        expected = torch.tensor([x, y, min(x + w, 1), min(y + h, 1)])
        torch.testing.assert_close(model.boxes(output)[i].detach(), expected)
        if i != 1:
            x0, y0, x1, y1 = pseudo[i].tolist()
            total += sum((a - b) ** 2 for a, b in zip(raw, (x0, y0, x1 - x0, y1 - y0), strict=True))
    (loss,) = model.loss(output, torch.eye(K)[:3], pseudo=pseudo).values()
    torch.testing.assert_close(loss.detach(), torch.tensor(50 * total / (2 * 4)))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_an_image_without_a_box_is_as_if_it_were_not_there() -> None:
    model, pseudo = head(), torch.rand(3, 4).sort(1).values
    alone = model.loss(model({"last": features()["last"][:2]}), torch.eye(K)[:2], pseudo=pseudo[:2])
    pseudo[2] = NAN
    torch.testing.assert_close(model.loss(model(features()), torch.eye(K)[:3], pseudo=pseudo), alone)
    none = model.loss(model(features()), torch.eye(K)[:3], pseudo=torch.full((3, 4), NAN))["box"]
    none.backward()
    assert none == 0
    assert all((p.grad == 0).all() for p in model.parameters())


def test_classes_are_learnt_beside_the_box_where_asked() -> None:
    model, pseudo = head(classify=True), torch.rand(3, 4).sort(1).values
    output = model(features())
    assert model.classifies
    torch.testing.assert_close(output.logits, model.classifier(features()["last"].mean((2, 3))))
    terms = model.loss(output, torch.eye(K)[:3], label_smoothing=0.1, pseudo=pseudo)
    assert list(terms) == ["box", "classification"]
    torch.testing.assert_close(terms["classification"], model.cross_entropy(output.logits, torch.eye(K)[:3], 0.1))
    assert not head().classifies
    assert head()(features()).logits.shape == (3, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width: expected a number from 1, got 0"),
        ({"weight": 0.0}, "weight: expected more than 0"),
        ({"point": "lost"}, "lost"),
    ],
)
def test_options_out_of_range(options, message) -> None:
    with pytest.raises(InputError, match=message):
        head(**options)


def test_what_cannot_be_done_is_refused() -> None:
    model = head()
    output = model(features())
    with pytest.raises(InputError, match="learns from pseudo boxes, and none were given"):
        model.loss(output, torch.eye(K)[:3])
    with pytest.raises(InputError, match="a head without maps was asked for maps"):
        model.maps(output, torch.zeros(3, 1, dtype=torch.int64))
    made = Localizer(Tiny(), partial(GapHead), K)
    assert isinstance(made.head, Head)
    assert not made.gives_boxes
    with pytest.raises(InputError, match="GapHead gives no boxes of its own"):
        made.boxes(made(torch.zeros(1, 3, 32, 32)))
