"""The layers that explainers read: found, named, and refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.explain.networks import CLASSES, NAMES, localizer, made, plain
from wsol.backbones.timm import Timm
from wsol.backbones.tiny import Tiny
from wsol.errors import InputError
from wsol.explain.cam import CAM
from wsol.explain.eigencam import EigenCAM
from wsol.explain.gradcam import GradCAM
from wsol.explain.layercam import LayerCAM
from wsol.explain.layers import LayerExplainer, last_map
from wsol.heads.acol import AcolHead
from wsol.heads.gap import GapHead
from wsol.heads.spg import SpgHead
from wsol.models.localizer import Localizer


def test_the_last_map_is_found() -> None:
    image = torch.randn(1, 3, 16, 16)
    assert last_map(plain().eval(), image) == "relu"
    assert last_map(localizer().eval(), image) == "head.conv"


def test_points_and_modules_name_the_same_layer(images: Tensor) -> None:
    model = localizer()
    for point, module in (("conv4", "backbone.conv4"), ("mid", "backbone.conv3"), ("last", "backbone.conv4")):
        torch.testing.assert_close(
            LayerCAM(point)(model, images, CLASSES), LayerCAM(module)(model, images, CLASSES), msg=point
        )


def test_points_of_a_timm_network_can_be_read(images: Tensor) -> None:
    torch.manual_seed(0)
    backbone = Timm("resnet10t")
    model = Localizer(backbone, GapHead(backbone.named_points, 5), num_classes=5)
    larger = F.interpolate(images, 64)
    for point in ("layer2", "late"):
        module = {"layer2": "layer2", "late": "layer4"}[point]
        torch.testing.assert_close(
            LayerCAM(point)(model, larger, CLASSES), LayerCAM(f"backbone.network.{module}")(model, larger, CLASSES)
        )
    assert len(model.edits) == 0


@pytest.mark.parametrize("kind", [AcolHead, SpgHead])
def test_other_heads_are_explained_at_what_their_scores_are_made_of(kind: type, images: Tensor) -> None:
    torch.manual_seed(0)
    backbone = Tiny(widths=(4, 4, 6, 8))
    model = Localizer(backbone, kind(backbone.named_points, 5, width=6), num_classes=5).eval()
    state = model(images).state
    features, branch = state.get("hidden", state.get("a")), getattr(model.head, "branch", None)
    branch = branch or model.head.branches["a"]
    planes = branch.class_maps(features, CLASSES) / (features.shape[2] * features.shape[3])
    torch.testing.assert_close(GradCAM(relu=False)(model, images, CLASSES), planes.detach(), rtol=1e-4, atol=1e-6)


def test_a_point_is_read_behind_the_edit_there(images: Tensor) -> None:
    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    plain_one, torch_state = localizer(), localizer().state_dict()
    backbone = Tiny(widths=(4, 4, 6, 8))
    edited = Localizer(backbone, GapHead(backbone.named_points, 5), num_classes=5, edits={"late": Double()})
    edited.load_state_dict(torch_state)
    twice = EigenCAM("last")(edited, images, CLASSES)
    torch.testing.assert_close(twice, 2 * EigenCAM("last")(plain_one, images, CLASSES))
    assert isinstance(edited.edits["late"], Double)


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(made(name), LayerExplainer)])
def test_an_unknown_layer_names_those_there_are(name: str, images: Tensor) -> None:
    with pytest.raises(InputError, match="unknown layer 'conv9': did you mean 'conv2', 'conv1'"):
        made(name, layer="conv9")(plain(), images, CLASSES)
    if name != "cam":
        with pytest.raises(InputError, match=r"unknown layer 'conv5'.*head\.conv.*mid"):
            made(name, layer="conv5")(localizer(), images, CLASSES)


def test_a_layer_that_cannot_be_used_is_refused(images: Tensor) -> None:
    model = plain()
    model.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(InputError, match="'spare' does not run"):
        GradCAM("spare")(model, images, CLASSES)
    with pytest.raises(InputError, match=r"layer 'fc': expected nchw, got the shape \(4, 5\)"):
        GradCAM("fc")(model, images, CLASSES)
    with pytest.raises(InputError, match="neither the means of 'conv1' nor linear in them"):
        CAM("conv1")(model, images, CLASSES)
    with pytest.raises(InputError, match="makes the CAM"):
        CAM("last")(localizer(), images, CLASSES)


class Tokens(nn.Module):
    """A little ViT, or a Swin: cells with channels at the end, and without maps near the scores."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        self.embed, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        if self.flat:
            x = torch.cat([self.token.expand(len(x), -1, -1), x.flatten(1, 2)], 1)
            return self.fc(self.blocks(x).mean(1))
        return self.fc(self.blocks(x).mean((1, 2)))


@pytest.mark.parametrize(("layout", "flat"), [("tokens", True), ("nhwc", False)])
def test_transformers_name_layer_and_layout(layout: str, flat: bool, images: Tensor) -> None:
    torch.manual_seed(0)
    model = Tokens(flat)
    with pytest.raises(InputError, match="name a layer and its layout"):
        GradCAM()(model, images, CLASSES)
    maps = GradCAM("blocks", layout, relu=False)(model, images, CLASSES)
    features = model.blocks(
        torch.cat([model.token.expand(4, -1, -1), model.embed(images).flatten(2).transpose(1, 2)], 1)
    )[:, 1:]
    share = 1 / (17 if flat else 16)
    expected = torch.einsum("nlc,nmc->nml", features, model.fc.weight[CLASSES]).unflatten(2, (4, 4)) * share
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-6)
