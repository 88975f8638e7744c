"""The pools of VGG by option, against the same layers written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import vgg11

from wsol.backbones.vgg import POOLINGS, VGG
from wsol.errors import InputError
from wsol.types import FeatureInfo

HALVE, PADDED, DENSE, AVERAGE = (
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d(3, 1, 1),
    nn.AvgPool2d(3, 1, 1),
)
NOTHING = nn.Identity()
EXPECTED = {
    ("standard", 32): [HALVE] * 5,
    ("standard", 16): [HALVE] * 4 + [NOTHING],
    ("standard", 8): [HALVE] * 3 + [DENSE, NOTHING],
    ("standard", 4): [HALVE] * 2 + [DENSE, DENSE, NOTHING],
    ("dropped", 32): [HALVE] * 5,
    ("dropped", 16): [HALVE] * 4 + [NOTHING],
    ("dropped", 8): [HALVE] * 3 + [NOTHING] * 2,
    ("dropped", 4): [HALVE] * 2 + [NOTHING] * 3,
    ("spg", 32): [HALVE] * 3 + [PADDED, HALVE],
    ("spg", 16): [HALVE] * 3 + [PADDED, NOTHING],
    ("spg", 8): [HALVE] * 3 + [NOTHING] * 2,
    ("spg", 4): [HALVE] * 2 + [NOTHING] * 3,
    ("acol", 32): [PADDED] * 4 + [nn.Sequential(PADDED, AVERAGE)],
    ("acol", 16): [PADDED] * 4 + [nn.Sequential(DENSE, AVERAGE)],
    ("acol", 8): [PADDED] * 3 + [DENSE, nn.Sequential(DENSE, AVERAGE)],
    ("acol", 4): [PADDED] * 2 + [DENSE, DENSE, nn.Sequential(DENSE, AVERAGE)],
}
"""What stands behind each of the five stages."""
DEFAULTS = {"standard": 16, "dropped": 16, "spg": 16, "acol": 8}


@pytest.fixture(scope="module")
def torchvisions(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Sequential, Path]:
    """Its VGG-11 features with random weights, and a file of them."""
    with torch.device("meta"):
        features = vgg11().features
    features.to_empty(device="cpu")
    torch.manual_seed(0)
    for value in features.state_dict().values():
        value.normal_(0, (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1)
    file = tmp_path_factory.mktemp("weights") / "vgg11.pth"
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, file)
    return features, file


def stages(features: nn.Sequential) -> list[list[nn.Conv2d]]:
    """The convolutions of torchvision's VGG by stage."""
    found: list[list[nn.Conv2d]] = [[]]
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            found.append([])
        elif isinstance(layer, nn.Conv2d):
            found[-1].append(layer)
    return found[:5]


@torch.no_grad()
@pytest.mark.parametrize(("pooling", "stride"), EXPECTED)
def test_features_with_torchvisions_weights(
    pooling: str, stride: int, torchvisions: tuple[nn.Sequential, Path]
) -> None:
    features, file = torchvisions
    backbone = VGG(11, pooling=pooling, output_stride=stride, weights=str(file)).eval()
    images = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    x = images
    for convs, pool in zip(stages(features), EXPECTED[pooling, stride], strict=True):
        for conv in convs:
            x = conv(x).relu()
        x = pool(x)
    found = backbone(images)["last"]
    assert found.shape[2:] == (96 // stride, 64 // stride)
    torch.testing.assert_close(found, x)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_default_stride_and_points(pooling: str) -> None:
    backbone = VGG(11, pooling=pooling)
    assert backbone.points["last"].stride == DEFAULTS[pooling]
    assert [name for name in backbone.points if name.startswith("pool")][:4] == ["pool1", "pool2", "pool3", "pool4"]


def test_every_pooling_is_written_out() -> None:
    assert {pooling for pooling, _ in EXPECTED} == set(POOLINGS)


def test_fully_connected_layers_are_those_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        theirs, ours = vgg11().state_dict(), VGG(depth=11, output_stride=32, fully_connected=True)
    shapes = {key: value.shape for key, value in theirs.items() if not key.startswith("classifier.6.")}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    assert (ours.points["fc6"], ours.points["last"]) == (FeatureInfo(4096, 0), FeatureInfo(4096, 0))
    monkeypatch.setattr("wsol.backbones.vgg.UNITS", 16)  # 4,096 would take half a gigabyte
    torch.manual_seed(0)
    network = VGG(depth=11, output_stride=32, fully_connected=True).eval()
    images = torch.randn(2, 3, 96, 64)
    features = network(images, taps=["pool5", "fc6", "last"])
    x = nn.functional.adaptive_avg_pool2d(features["pool5"], 7).flatten(1)
    for name, index in (("fc6", 0), ("last", 3)):
        x = network.classifier[index](x).relu()
        torch.testing.assert_close(features[name], x[:, :, None, None])
    with pytest.raises(InputError, match="fully_connected=true: the layers read the fifth pool; set output_stride=32"):
        VGG(depth=11, fully_connected=True)


def test_pretrained_weights_of_the_fully_connected_layers_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("wsol.backbones.vgg.UNITS", 16)
    given = VGG(depth=11, output_stride=32, fully_connected=True).state_dict()
    torch.save(
        {**given, "classifier.6.weight": torch.zeros(9, 16), "classifier.6.bias": torch.zeros(9)}, tmp_path / "w.pth"
    )
    loaded = VGG(depth=11, output_stride=32, fully_connected=True, weights=str(tmp_path / "w.pth")).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in given.items())
