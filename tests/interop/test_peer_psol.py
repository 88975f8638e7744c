"""PSOL's networks, which are torchvision's with other last layers, against ours with the translated tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from tests.interop.test_peers import filled
from wsol.backbones import vgg
from wsol.config import build
from wsol.config.compose import compose
from wsol.engine import conversion
from wsol.interop.peer_psol import REGRESSORS
from wsol.interop.peers import PEERS, recognise


def last(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, 512), nn.ReLU(), nn.Linear(512, 4), nn.Sigmoid())


def resnet() -> nn.Module:
    network = models.resnet50()
    network.fc = last(2048)
    return network


def densenet() -> nn.Module:
    network = models.densenet161()
    network.classifier = last(2208)
    return network


def vgg_of(units: int) -> nn.Module:
    features = models.vgg16().features if units == 1 else models.vgg.make_layers(models.vgg.cfgs["D"])
    layers = [nn.Linear(25088, units), nn.ReLU(), nn.Dropout(), nn.Linear(units, units), nn.ReLU(), nn.Dropout()]
    network = nn.Sequential()
    for name, part in (("features", features), ("flat", nn.Flatten()), ("classifier", nn.Sequential(*layers))):
        network.add_module(name, part)
    network.classifier.append(last(units))
    return network


def vgg_gap() -> nn.Module:
    network = nn.Sequential()
    parts = {
        "features": models.vgg.make_layers(models.vgg.cfgs["D"]),
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "classifier": last(512),
    }
    for name, part in parts.items():
        network.add_module(name, part)
    return network


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "VGG-16": (lambda: vgg_of(vgg.UNITS), 224),
    "VGG-16 without its fully connected layers": (vgg_gap, 64),
    "ResNet-50": (resnet, 64),
    "DenseNet-161": (densenet, 64),
}
"""With the side of their input."""
BY_NAME = {peer.name.removeprefix("PSOL of its authors, "): peer for peer in REGRESSORS}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_tensor_has_one_place_and_no_other_peer_fits(name: str) -> None:
    make, _ = NETWORKS[name]
    stride = [] if BY_NAME[name].fixed_stride else ["backbone.output_stride=32"]
    config = compose("train", [*BY_NAME[name].words, *stride])
    with torch.device("meta"):
        state = make().state_dict()
    with torch.device("cpu" if name == "DenseNet-161" else "meta"):  # timm models are tried on an image
        localizer = build.build_localizer(config, ("object",))
    peer, translated = recognise({f"module.{key}": value for key, value in state.items()}, "weights.pth")
    assert peer == BY_NAME[name]
    assert [other.name for other in PEERS if other.fits(state)] == [peer.name]
    shapes = {key: tuple(value.shape) for key, value in localizer.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in translated.items()} == shapes


@torch.no_grad()
@pytest.mark.parametrize("name", BY_NAME)
def test_the_same_boxes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "UNITS", 16)  # 4,096 would take a gigabyte
    make, side = NETWORKS[name]
    network = filled(make)
    torch.save(network.state_dict(), tmp_path / "loc.pth.tar")
    found = conversion._peer(compose("convert", [f"weights={tmp_path / 'loc.pth.tar'}"]), tmp_path / "loc.pth.tar")
    assert found.title == f"PSOL of its authors, {name}, output stride 32, without classes"
    localizer = build.build_localizer(found.settings, ("object",), load_weights=False).eval()
    state = found.checkpoint["state_dict"]
    localizer.load_state_dict({key.removeprefix("localizer."): value for key, value in state.items()})
    images = torch.randn(2, 3, side, side)
    x, y, w, h = network(images).unbind(1)
    assert torch.stack([x, y, w, h]).std() > 1e-3
    expected = torch.stack([x, y, (x + w).clamp(max=1), (y + h).clamp(max=1)], 1)
    torch.testing.assert_close(localizer.boxes(localizer(images)), expected, rtol=0, atol=1e-5)
