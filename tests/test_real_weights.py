"""Pretrained networks on real photographs, where both lie in a folder ``shared`` beside the checkout."""

import io
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import squeezenet1_0
from torchvision.transforms.functional import normalize, resize, to_tensor

import wsol
from wsol.explain.cam import CAM

DATA = next((f for f in (p / "shared/data" for p in Path(__file__).parents) if f.is_dir()), Path("shared/data"))
pytestmark = pytest.mark.skipif(not (DATA / "weights").is_dir(), reason="no real weights beside the checkout")
NETWORKS = {
    "tf_efficientnet_lite0": ("tf_efficientnet_lite0", "cam", {}, timm.create_model),
    "mobilenetv2_100": ("mobilenetv2_100_tf2_ptq", "cam", {"pad_type": "same"}, timm.create_model),
    "squeezenet1_0": ("squeezenet1_0_deepcompression", "cam_1x1", {}, lambda _name: squeezenet1_0()),
}


def photographs(count, preprocessing):
    """Photographs of different classes (N, 3, 224, 224), and their labels."""
    with zipfile.ZipFile(DATA / "ilsvrc-val-1300-227px.zip") as archive:
        lines = archive.read("ILSVRC1300/metadata/test/class_labels.txt").decode().split()
        chosen = [line.split(",") for line in lines[:: len(lines) // count][:count]]
        opened = [Image.open(io.BytesIO(archive.read(f"ILSVRC1300/{name}"))).convert("RGB") for name, _ in chosen]
    images = [normalize(resize(to_tensor(i), [224, 224]), preprocessing.mean, preprocessing.std) for i in opened]
    return torch.stack(images), torch.tensor([int(label) for _, label in chosen])


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_the_localizer_is_the_classifier_and_knows_real_photographs(name):
    file, method, options, make = NETWORKS[name]
    weights = DATA / "weights" / f"{file}.safetensors"
    whole = make(name, **options) if options else make(name)
    whole.load_state_dict(load_file(weights))
    net = wsol.create_localizer(
        name,
        method=method,
        weights=weights,
        pretrained_classifier=True,
        overrides={"backbone.options": options, "backbone.preprocessing": HALF} if options else None,
    ).eval()
    images, labels = photographs(12, net.preprocessing)
    output, expected = net(images), whole.eval()(images)
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-3)
    assert (output.logits.argmax(1) == labels).sum() >= 7  # of 12; 71 to 82 of 100 on the whole sample
    torch.testing.assert_close(
        net.maps(output, labels[:, None]), CAM()(whole, images, labels[:, None]), rtol=1e-3, atol=1e-3
    )


HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
