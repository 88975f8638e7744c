"""timm's models as backbones: their own features, edits inside them, weights from files, and refusals."""

import pytest
import timm
import torch
from torch import nn

from wsol.backbones.timm import Timm
from wsol.errors import InputError

SMALL_VIT = {"img_size": 64, "depth": 4, "embed_dim": 48, "num_heads": 3}


class Zero(nn.Module):
    def forward(self, x):
        assert x.ndim == 4
        return x * 0


@torch.no_grad()
def test_features_are_those_of_timm(tmp_path):
    whole = timm.create_model("resnet10t", zero_init_last=False).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    backbone = Timm("resnet10t", weights=str(tmp_path / "weights.pth")).eval()
    images = torch.randn(1, 3, 64, 96)
    assert torch.allclose(backbone(images)["last"], whole.forward_features(images), atol=1e-5)
    assert backbone.preprocessing.size == 176
    assert backbone.preprocessing.interpolation == "bicubic"


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convnext_atto", {}),
        ("mobilenetv3_small_050", {}),
        ("efficientnet_b0", {}),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "window_size": 2}),
        ("xception41", {}),
    ],
)
def test_points_and_edits(name, options):
    backbone = Timm(name, options=options).eval()
    images = torch.randn(1, 3, 64, 64)
    features = backbone(images, taps=list(backbone.points))
    assert all(
        features[key].shape == (1, p.channels, 64 // p.stride, 64 // p.stride) for key, p in backbone.points.items()
    )
    edited = backbone(images, taps=["early", "mid", "last"], edits={"mid": Zero()})
    assert torch.equal(edited["early"], features[backbone.aliases["early"]])
    assert edited["mid"].abs().max() == 0
    assert not torch.allclose(edited["last"], features["last"])
    assert torch.equal(backbone(images)["last"], features["last"])
    assert backbone(images, edits={"last": Zero()})["last"].abs().max() == 0


def test_hooks_are_gone_after_a_failure():
    class Fails(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    backbone = Timm("resnet10t").eval()
    with pytest.raises(KeyboardInterrupt):
        backbone(torch.zeros(1, 3, 64, 64), edits={"mid": Fails()})
    assert not any(module._forward_hooks for module in backbone.modules())


@torch.no_grad()
def test_vision_transformer_gives_maps_but_cannot_be_edited_inside():
    backbone = Timm("vit_tiny_patch16_224", options=SMALL_VIT).eval()
    assert backbone(torch.zeros(1, 3, 64, 64))["last"].shape == (1, 48, 4, 4)
    with pytest.raises(InputError, match=r"cannot be edited at 'blocks.*edit 'last'"):
        backbone(torch.zeros(1, 3, 64, 64), edits={"mid": Zero()})


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride(stride):
    assert Timm("resnet10t", output_stride=stride).points["last"].stride == stride


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet10x"}, "timm has no model 'resnet10x': did you mean"),
        ({"name": "resnet10t.nosuchtag"}, "nosuchtag"),
        ({"name": "densenet121", "output_stride": 8}, "cannot make a feature network of densenet121.*output_stride"),
        ({"name": "vgg11", "output_stride": 16}, "cannot make a feature network of vgg11"),
        ({"name": "resnet10t", "options": {"colour": 3}}, "colour"),
        ({"name": "resnet10t", "weights": "nowhere.pth"}, "no such file"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Timm(**arguments)


def test_models_without_feature_maps_are_refused(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("features_only not implemented")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(InputError, match=r"features_only not implemented.*without feature maps"):
        Timm("resnet10t")


def test_failed_download_says_what_to_do(monkeypatch):
    def fail(*_, **__):
        raise FileNotFoundError("no network")

    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(InputError, match=r"download failed.*path"):
        Timm("resnet10t", weights="pretrained")


def test_features_that_are_no_maps_are_refused(monkeypatch):
    backbone = Timm("resnet10t")
    monkeypatch.setattr(backbone.network.layer1, "forward", lambda _: torch.zeros(1, 64, 7))
    monkeypatch.setattr(backbone.network.layer2, "forward", lambda _: torch.zeros(1, 128, 8, 8))
    with pytest.raises(InputError, match="no feature map at 'layer1'"):
        backbone(torch.zeros(1, 3, 64, 64), taps=["layer1"])


def test_weights_of_another_model_are_refused(tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match="missing keys"):
        Timm("resnet14t", weights=str(tmp_path / "weights.pth"))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"depth": 4, "embed_dim": 48, "num_heads": 3}),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 24, "depths": (1, 1, 1, 1), "window_size": 2}),
    ],
)
def test_models_built_for_one_size_say_so_and_can_be_built_for_another(name, options):
    message = (
        rf"{name} was built for images of 224x224 pixels, got 96x64.*image_size=224.*backbone.options.img_size=\[64"
    )
    with pytest.raises(InputError, match=message):
        Timm(name, options=options)(torch.zeros(1, 3, 64, 96))
    backbone = Timm(name, options={**options, "img_size": 64}).train()
    assert backbone.preprocessing.size == 64
    assert backbone(torch.zeros(1, 3, 64, 64))["last"].shape[2:] == (64 // backbone.points["last"].stride,) * 2
    with pytest.raises(InputError, match=r"built for images of 64x64 pixels, got 224x224.*image_size=64"):
        backbone.check_size(224, 224)
    assert backbone.network.training


@torch.no_grad()
def test_models_that_take_any_size_are_let():
    assert Timm("vit_tiny_patch16_224", options={**SMALL_VIT, "dynamic_img_size": True})(torch.zeros(1, 3, 32, 96))
    assert Timm("resnet10t")(torch.zeros(1, 3, 64, 96))
