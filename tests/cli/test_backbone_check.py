"""`wsol backbone check`: a good backbone passes, and each way to break the contract is found and named."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.choices import SMALL_VIT
from wsol.backbones.base import Backbone, Stage
from wsol.backbones.tiny import Tiny
from wsol.backbones.vit import ViT
from wsol.cli import main
from wsol.models.backbone_contract import contract


class Good(Backbone):
    min_size = 4

    def __init__(
        self, width: int = 8, stride: int = 4, aliases=("one", "two", "two"), weights: str | None = None
    ) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU())
        self.declare([Stage("one", ("one",), width, 2), Stage("two", ("two",), width, stride)], aliases=aliases)
        self.load(weights, architecture=None, preprocessing=None)


class Unused(Good):
    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.classifier = nn.Linear(8, 10)
        self.load(weights, architecture=None, preprocessing=None)


class Deaf(Good):
    def __init__(self) -> None:
        super().__init__()


class Lenient(Good):
    def load(self, weights, architecture, preprocessing) -> bool:
        if weights is not None:
            self.load_state_dict(torch.load(weights, weights_only=True), strict=False)
        return False


class Social(Good):
    def prepare(self, images):
        return images - images.mean(dim=0, keepdim=True)


class Forgetful(Good):
    def prepare(self, images):
        self.calls = getattr(self, "calls", 0) + 1
        return images * self.calls


class Exploding(Good):
    def prepare(self, images):
        return images * float("inf")


class Swallowing(Good):
    def _check(self, images) -> None:
        pass


class Rigid(Good):
    def prepare(self, images):
        return nn.functional.interpolate(images, (96, 128))


BROKEN = [
    (partial(Good, stride=8), "channels and strides", "not the declared stride 8"),
    (partial(Good, aliases=("two", "one", "one")), "points and aliases", "strides [4, 2, 2]"),
    (partial(Unused), "gradients everywhere", "first is backbone.classifier.weight"),
    (partial(Unused), "distributed training", "every parameter must be used"),
    (partial(Deaf), "strict weights", "no argument `weights`"),
    (partial(Lenient), "strict weights", "loaded silently"),
    (partial(Social), "images are independent", "change with its batch"),
    (partial(Forgetful), "channels last", "other features"),
    (partial(Exploding), "map's mean plus bias is the score", "finite"),
    (partial(Exploding), "bfloat16", "not finite"),
    (partial(Exploding), "gradients everywhere", "not finite"),
    (partial(Swallowing), "smallest input", "not refused"),
    (partial(Rigid), "channels and strides", "larger by 0 x 0"),
]


PATCHES_OF_14 = partial(ViT, "vit_small_patch14_reg4_dinov2.lvd142m", **SMALL_VIT)


@pytest.mark.parametrize("make", [partial(Good), partial(Tiny), PATCHES_OF_14], ids=["Good", "Tiny", "ViT"])
def test_a_good_backbone_passes_everything(make) -> None:
    found = list(contract(make, speed=False))
    assert [(each.name, each.said) for each in found if not each.passed] == []
    assert len(found) == 13


@pytest.mark.parametrize(("make", "name", "message"), BROKEN, ids=[f"{m.func.__name__}-{n}" for m, n, _ in BROKEN])
def test_what_is_broken_is_found_and_said(make, name: str, message: str) -> None:
    found = {each.name: each for each in contract(make, speed=False)}
    assert not found[name].passed, found[name].said
    assert message in found[name].said


def test_something_else_is_no_backbone() -> None:
    assert [each.passed for each in contract(partial(nn.Identity), speed=False)] == [False]


def test_the_verb_prints_a_list_and_exits_by_it(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["backbone", "check", "wsol.backbones.tiny.Tiny", "backbone.widths=[4,4,8,8]", "speed=false"]) == 0
    assert "13 of 13 checks passed" in capsys.readouterr().out
    Path("my_net_for_check.py").write_text(
        "from wsol.backbones.tiny import Tiny\n"
        "class Lazy(Tiny):\n    def __init__(self):\n        super().__init__()\n"
        "        self.extra = __import__('torch').nn.Linear(2, 2)\n"
    )
    assert main(["backbone", "check", "my_net_for_check.Lazy", "speed=false"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  gradients everywhere" in out
    assert "FAIL  strict weights: takes no argument `weights`" in out


def test_a_model_of_timm_is_checked_by_name(capsys) -> None:
    assert main(["backbone", "check", "backbone=timm", "backbone.name=test_resnet", "speed=false"]) == 0
    assert "pass  strict weights" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which backbone?"),
        (["a.B", "backbone=tiny"], "which backbone?"),
        (["no_such_package.Net"], "no such package"),
        (["wsol.backbones.tiny.Tinny"], "did you mean 'Tiny'"),
        (["wsol.backbones.tiny.Tiny", "backbone.width=3"], "takes no 'width'"),
        (["backbone=tinny"], "did you mean 'tiny'"),
        (["backbone=tiny", "--fast"], "unknown option '--fast'"),
    ],
)
def test_bad_input_is_one_message(capsys, words: list[str], message: str) -> None:
    assert main(["backbone", "check", *words]) == 2
    assert message in capsys.readouterr().err
