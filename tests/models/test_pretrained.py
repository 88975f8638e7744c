"""Plain classifiers of torchvision and timm, asked by explainers."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision.models as zoo

from wsol.errors import InputError
from wsol.explain.cam import CAM
from wsol.explain.gradcam import GradCAM
from wsol.explain.guided_backprop import GuidedBackprop
from wsol.models.classifier import Classifier
from wsol.models.pretrained import timm_classifier, torchvision_classifier

CLASSES = torch.tensor([[3, 7]])


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "googlenet", "densenet121", "mobilenet_v3_small"])
def test_torchvisions_networks_have_gradcam(name: str) -> None:
    model = torchvision_classifier(name)
    assert model.num_classes == 1000
    maps = GradCAM()(model, torch.randn(1, 3, 96, 96), CLASSES)
    assert maps.shape[:2] == (1, 2)
    assert maps.shape[2] == maps.shape[3] > 1


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_cam_times_area_is_gradcam_where_the_classifier_reads_the_mean(name: str) -> None:
    torch.manual_seed(0)
    model = torchvision_classifier(name)
    image = torch.randn(1, 3, 96, 96)
    cam = CAM()(model, image, CLASSES)
    assert cam.mean((2, 3)) == pytest.approx(
        (model.eval()(image).logits - _last(model).bias)[0, CLASSES].detach().numpy(), abs=1e-3
    )


def _last(model: torch.nn.Module) -> torch.nn.Linear:
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]


@pytest.mark.parametrize(("name", "layer", "layout"), [
    ("vit_tiny_patch16_224", "blocks.10", "tokens"),
    ("swin_tiny_patch4_window7_224", "layers.3", "nhwc"),
    ("convnext_atto", None, "nchw"),
])  # fmt: skip
def test_timms_networks_have_gradcam(name: str, layer: str | None, layout: str) -> None:
    model = timm_classifier(name, options={"num_classes": 9})
    assert model.num_classes == 9
    image = torch.randn(1, 3, 224, 224)
    maps = GradCAM(layer, layout)(model, image, CLASSES)
    assert maps.shape[2] == maps.shape[3] > 1
    if layer:
        with pytest.raises(InputError, match="name a layer and its layout"):
            GradCAM()(model, image, CLASSES)
    with pytest.raises(InputError, match="no ReLU"):
        GuidedBackprop()(model, image[..., :224], CLASSES)


def test_weights_are_read_from_files(tmp_path: Path) -> None:
    ours = zoo.resnet18(num_classes=1000)
    torch.save(ours.state_dict(), tmp_path / "a.pth")
    loaded = torchvision_classifier("resnet18", str(tmp_path / "a.pth"))
    assert torch.equal(loaded.network.fc.weight, ours.fc.weight)
    theirs = timm.create_model("resnet10t", num_classes=4)
    torch.save(theirs.state_dict(), tmp_path / "b.pth")
    loaded = timm_classifier("resnet10t", str(tmp_path / "b.pth"), {"num_classes": 4})
    assert torch.equal(loaded.network.fc.weight, theirs.fc.weight)
    with pytest.raises(InputError, match="do not fit"):
        timm_classifier("resnet10t", str(tmp_path / "a.pth"))


def test_unknown_names_have_near_matches() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet50'"):
        torchvision_classifier("resnet5O")
    with pytest.raises(InputError, match="timm has no such model"):
        timm_classifier("resnet5O")
    with pytest.raises(InputError, match="no such file and no such name"):
        torchvision_classifier("resnet18", "DEFUALT")
    with pytest.raises(InputError, match="timm cannot make resnet10t"):
        timm_classifier("resnet10t", options={"depht": 3})


def test_a_plain_classifier_has_no_maps_of_its_own() -> None:
    model: Classifier = torchvision_classifier("squeezenet1_1").eval()
    output = model(torch.zeros(1, 3, 64, 64))
    with pytest.raises(InputError, match="makes no maps"):
        model.maps(output, CLASSES)


def test_a_timm_model_built_for_one_size_refuses_others() -> None:
    small = {"depth": 1, "embed_dim": 24, "num_heads": 2}
    with pytest.raises(InputError, match=r"built for images of 224x224 pixels, got 64x64.* options.img_size=64"):
        timm_classifier("vit_tiny_patch16_224", options=small)(torch.zeros(1, 3, 64, 64))
    model = timm_classifier("vit_tiny_patch16_224", options={**small, "img_size": 64})
    assert model.preprocessing.size == 64
    assert model(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 1000)


def test_weights_may_expect_another_preprocessing() -> None:
    chosen = timm_classifier("resnet10t", preprocessing={"mean": [0.5, 0.5, 0.5], "size": None}).preprocessing
    assert (chosen.mean, chosen.size) == ((0.5, 0.5, 0.5), timm_classifier("resnet10t").preprocessing.size)
