"""Which families of timm have class activation maps of their pretrained classifier, and why the others have none."""

import pytest
import timm
import torch
from timm.layers import Format
from torch import nn

from wsol.backbones.timm import Timm
from wsol.errors import InputError
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer

CLASSES = 7
QUICK = {
    "resnet10t": "",
    "efficientnet_b0": "",
    "mobilenetv2_035": "",
    "mobilenetv3_small_050": r"conv_head \(Conv2d\) stands between the pooling and 'classifier'",
    "densenet121": "",
    "regnety_002": "",
    "convnext_atto": r"head.norm \(LayerNorm2d\) stands between the pooling and 'head.fc'",
    "vit_tiny_patch16_224": "'head' reads a class token",
}
SLOW = {
    "resnetv2_18d": "",  # the classifier is a 1x1 convolution behind the pooling
    "swin_tiny_patch4_window7_224": "",
    "hrnet_w18_small": "",
    "mixer_s32_224": "",
    "repvgg_a0": "",
    "mobilevit_xxs": "",
    "pvt_v2_b0": "",
    "mobileone_s0": "",
    "dla34": "",
    "mixnet_s": "",
    "rexnet_100": "",
    "res2net50_26w_4s": "",
    "hardcorenas_a": r"conv_head \(Conv2d\)",
    "ghostnet_050": r"conv_head \(Conv2d\) stands between the pooling and 'classifier'",
    "poolformer_s12": r"head.norm \(LayerNorm2d\)",
    "edgenext_xx_small": r"head.norm \(LayerNorm2d\)",
    "levit_128s": "forward_features does not return a map",
}


def lively(name):
    """The whole model, without norms that are identities and branches that start at zero."""
    torch.manual_seed(0)
    whole = timm.create_model(name, num_classes=CLASSES).eval()
    with torch.no_grad():
        for key, value in whole.state_dict().items():
            if key.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2)
        for parameter in whole.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return whole


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "refusal"),
    [*QUICK.items(), *(pytest.param(*item, marks=pytest.mark.slow, id=item[0]) for item in SLOW.items())],
)
def test_each_family_scores_as_timm_does_or_is_refused(name, refusal, tmp_path):
    whole = lively(name)
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    backbone = Timm(name, weights=str(tmp_path / "whole.pth"), options={"num_classes": CLASSES}).eval()
    side = backbone.preprocessing.size
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    same_as_features_of_timm(backbone, whole, images)
    if refusal:
        with pytest.raises(InputError, match=rf"{refusal}.*explainer=gradcam"):
            Localizer(backbone, GapHead, CLASSES, pretrained_classifier=True)
        return
    model = Localizer(backbone, GapHead, CLASSES, pretrained_classifier=True).eval()
    output, expected = model(images), whole(images)
    scale = expected.abs().max()
    assert (output.logits - expected).abs().max() < 1e-4 * scale
    means = model.maps(output, torch.arange(CLASSES)[None]).mean((2, 3)) + model.head.classifier.bias
    assert (means - expected).abs().max() < 1e-4 * scale


def same_as_features_of_timm(backbone, whole, images):
    source = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": whole.state_dict()}}
    features = timm.create_model(backbone.name, features_only=True, **source).eval()
    expected = features(images)
    names = list(backbone.points)[: len(expected)]
    found = backbone(images, taps=names)
    for name, feature in zip(names, expected, strict=True):
        at_end = getattr(features, "output_fmt", None) == Format.NHWC
        torch.testing.assert_close(
            found[name], feature.permute(0, 3, 1, 2) if at_end else feature, rtol=1e-4, atol=1e-4
        )


@torch.no_grad()
def test_last_is_behind_the_final_convolution_and_can_be_edited():
    backbone = Timm("mobilenetv2_035").eval()
    images = torch.randn(1, 3, 64, 96)
    assert list(backbone.points)[-3:] == ["blocks.6", "final", "last"]
    assert backbone.aliases["late"] == "blocks.6"
    plain = backbone(images, taps=["late", "last"])
    assert plain["last"].shape == (1, 1280, 2, 3)
    assert torch.equal(backbone.network.forward_features(images), plain["last"])
    edited = backbone(images, taps=["late", "final"], edits={"final": nn.Threshold(1e9, 0.0)})
    assert torch.equal(edited["late"], plain["late"])
    assert edited["final"].abs().max() == 0
    assert not any("classifier" in key for key in backbone.state_dict())


def test_random_weights_have_no_classifier_to_keep():
    with pytest.raises(InputError, match="its weights are random: give weights"):
        Localizer(Timm("resnet10t"), GapHead, 1000, pretrained_classifier=True)
