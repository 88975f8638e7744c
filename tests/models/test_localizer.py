"""Backbone, head and edits as one network."""

from functools import partial

import pytest
import torch
from torch import nn

from wsol.backbones.nin import NIN
from wsol.backbones.resnet import ResNet
from wsol.backbones.tiny import Tiny
from wsol.errors import InputError
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer


class Gain(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return x * self.gain


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def resnet(**options):
    torch.manual_seed(0)
    return ResNet(18, width=8, **options)


@torch.no_grad()
def test_a_made_head_and_a_partial_one_do_the_same(images):
    backbone = Tiny().eval()
    torch.manual_seed(0)
    made = Localizer(backbone, GapHead(backbone.points, 5), num_classes=5).eval()
    torch.manual_seed(0)
    partially = Localizer(backbone, partial(GapHead, pool="avg"), num_classes=5, classes=list("abcde")).eval()
    assert torch.equal(made(images).logits, partially(images, labels=torch.tensor([0, 1])).logits)
    assert partially.classes == ("a", "b", "c", "d", "e")
    assert (made.num_classes, made.preprocessing) == (5, backbone.preprocessing)


@torch.no_grad()
def test_edits_act_at_points_with_dots_and_are_in_the_state_dict(images):
    edited = Localizer(resnet(), GapHead, 3, edits={"layer4.0": Gain(0.0), "early": Gain(2.0)}).eval()
    plain = Localizer(resnet(), GapHead, 3).eval()
    plain.load_state_dict(edited.state_dict(), strict=False)
    assert {key for key in edited.state_dict() if "edits" in key} == {"edits.layer4/0.gain", "edits.early.gain"}
    taps = ("layer2", "layer4.0", "last")
    features = plain.backbone(images, taps=taps, edits={"layer4.0": Gain(0.0), "early": Gain(2.0)})
    assert features["layer4.0"].abs().max() == 0
    assert torch.allclose(features["layer2"], 2 * plain.backbone(images, taps=taps)["layer2"])
    assert torch.equal(edited(images).logits, plain.head(features).logits)
    assert not torch.allclose(edited(images).logits, plain(images).logits)


def test_parameter_groups_hold_everything_trainable_once():
    model = Localizer(resnet(), partial(GapHead, conv_channels=4), 3, edits={"layer3": Gain(1.0)})
    model.backbone.conv1.weight.requires_grad_(False)
    groups = model.parameter_groups()
    assert list(groups) == ["backbone", "head"]
    names = [name for group in groups.values() for name, _ in group]
    assert sorted([*names, "backbone.conv1.weight"]) == sorted(name for name, _ in model.named_parameters())
    assert {name for name, _ in groups["head"]} == {
        "edits.layer3.gain", "head.conv.0.weight", "head.conv.0.bias", "head.classifier.weight", "head.classifier.bias",
    }  # fmt: skip


@torch.no_grad()
def test_head_may_read_aliases(images):
    model = Localizer(resnet(output_stride=16), partial(GapHead, point="mid"), 3).eval()
    assert model.maps(model(images), torch.zeros(2, 1, dtype=torch.int64)).shape == (2, 1, 4, 4)


def test_loss_terms_are_those_of_the_head(images):
    model = Localizer(Tiny(), GapHead, 3)
    losses = model.loss(model(images), torch.eye(3)[:2], label_smoothing=0.1)
    assert list(losses) == ["classification"]
    assert losses["classification"].ndim == 0


def test_state_dict_of_another_class_count_is_a_clear_choice(tmp_path):
    state = {**resnet().state_dict(), "fc.weight": torch.randn(10, 64), "fc.bias": torch.randn(10)}
    torch.save(state, tmp_path / "ten.pth")
    make = partial(resnet, weights=str(tmp_path / "ten.pth"))
    model = Localizer(make(), GapHead, 10, pretrained_classifier=True)
    assert torch.equal(model.head.classifier.weight, state["fc.weight"])
    assert torch.equal(model.head.classifier.bias, state["fc.bias"])
    assert not torch.equal(Localizer(make(), GapHead, 10).head.classifier.weight, state["fc.weight"])
    with pytest.raises(InputError, match=r"3 classes on 64 features.*\(10, 64\).*pretrained_classifier=false"):
        Localizer(make(), GapHead, 3, pretrained_classifier=True)
    with pytest.raises(InputError, match=r"10 classes on 32 features.*conv_channels=null"):
        Localizer(make(), partial(GapHead, conv_channels=32), 10, pretrained_classifier=True)


def test_a_rectified_classifier_needs_its_head(tmp_path):
    state = {**NIN().state_dict(), "classifier.weight": torch.randn(7, 1024, 1, 1), "classifier.bias": torch.zeros(7)}
    torch.save(state, tmp_path / "nin.pth")
    backbone = NIN(weights=str(tmp_path / "nin.pth"))
    with pytest.raises(InputError, match=r"ReLU before the pooling.*method=cam_1x1"):
        Localizer(backbone, GapHead, 7, pretrained_classifier=True)
    planes = partial(GapHead, pool_at="scores", rectify=True)
    model = Localizer(backbone, planes, 7, pretrained_classifier=True)
    assert torch.equal(model.head.classifier.weight, state["classifier.weight"][:, :, 0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", "b"]}, "expected 3 class names, got 2"),
        ({"edits": {"conv9": nn.Identity()}}, "unknown point of Tiny 'conv9'"),
        ({"edits": {"late": nn.Identity(), "last": nn.Identity()}}, "same point"),
        ({"head": partial(GapHead, point="conv9")}, "unknown point 'conv9'"),
        ({"head": GapHead(Tiny().points, 4)}, "the head has 4 classes, expected 3"),
        ({"head": GapHead(resnet().points, 3, point="layer1")}, "unknown point of Tiny 'layer1'"),
        ({"pretrained_classifier": True}, "Tiny has no pretrained classifier"),
    ],
)
def test_bad_input_is_refused(options, message):
    arguments = {"backbone": Tiny(), "head": GapHead, "num_classes": 3} | options
    with pytest.raises(InputError, match=message):
        Localizer(**arguments)
