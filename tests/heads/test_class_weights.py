"""Weights of classes reach the loss of every head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.test_every_method import BACKBONES, CLASSES, METHODS, lacks, localizer
from wsol.config.construct import locate
from wsol.engine.module import LocalizerModule
from wsol.errors import InputError
from wsol.heads.base import soft_cross_entropy

HEADS = Path(__file__).parents[2] / "wsol" / "heads"
SMALL = [name for name in METHODS if name.rpartition("/")[2] not in BACKBONES and not lacks(name, "tiny")]
WITHOUT = {name for name in SMALL if not locate(METHODS[name].head._target_, name).classifies}
"""Methods that learn without classes."""


@pytest.mark.parametrize("method", [name for name in SMALL if name not in WITHOUT])
def test_every_head_weighs_its_classification(method: str) -> None:
    """An image's terms are multiplied by the weight of its class, those that know no class are not."""
    model = localizer(method, "tiny", 16).eval()
    targets = torch.eye(CLASSES)[:1]
    output = model(torch.randn(1, 3, 64, 64), labels=torch.tensor([0]))
    torch.manual_seed(1)  # the loss of DA-WSOL draws cells
    plain = model.loss(output, targets)
    weights = torch.ones(CLASSES)
    weights[0] = 3.0
    model.head.weigh_classes(weights)
    torch.manual_seed(1)
    weighed = model.loss(output, targets)
    ratios = {name: (weighed[name] / plain[name]).item() for name in plain}
    assert next(iter(ratios.values())) == pytest.approx(3.0, rel=1e-4), ratios
    assert all(ratio == pytest.approx(3.0, rel=1e-4) or weighed[n] == plain[n] for n, ratio in ratios.items()), ratios
    assert "class_weights" not in "".join(model.state_dict())
    model.head.weigh_classes(None)
    torch.manual_seed(1)
    again = model.loss(output, targets)
    assert all(torch.equal(again[name], plain[name]) for name in plain)


@pytest.mark.parametrize("method", sorted(WITHOUT))
def test_what_learns_without_classes_refuses_what_is_about_classes(method: str) -> None:
    model = localizer(method, "tiny", 16)
    model.head.weigh_classes(None)
    with pytest.raises(InputError, match=r"class_weights: \w+ learns without classes; leave them out"):
        model.head.weigh_classes(torch.ones(CLASSES))
    with pytest.raises(InputError, match=r"label_smoothing=0.1: the network learns without classes; leave it out"):
        LocalizerModule(model, label_smoothing=0.1)


def test_heads_make_their_terms_by_the_weighing_method() -> None:
    for file in HEADS.glob("*.py"):
        text = file.read_text()
        if file.name != "base.py":
            assert "soft_cross_entropy" not in text, (
                f"{file.name}: self.cross_entropy(...) knows the weights of classes"
            )
            assert "F.cross_entropy(" not in text, file.name


def test_the_mean_over_processes_is_that_over_all_images() -> None:
    logits, targets = torch.randn(8, 4), torch.eye(4)[torch.tensor([0, 0, 0, 0, 0, 0, 1, 2])]
    weights = torch.tensor([0.3, 2.0, 5.0, 1.0])
    whole = soft_cross_entropy(logits, targets, 0.0, weights)
    parts = torch.stack([soft_cross_entropy(logits[i::2], targets[i::2], 0.0, weights) for i in range(2)])
    assert torch.allclose(parts.mean(), whole)
    each = -(targets * weights * logits.log_softmax(1)).sum(1)
    assert torch.allclose(whole, each.mean())
