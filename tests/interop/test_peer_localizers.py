"""C2AM and DA-WSOL of their authors, written plainly with their names, against ours with the translated tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception3

from tests.interop.test_peers import filled, resnet
from wsol.backbones.weights import load_strictly, read_state
from wsol.config import build
from wsol.config.compose import compose
from wsol.engine import conversion
from wsol.errors import InputError
from wsol.interop.peer_c2am import CONTRASTIVE
from wsol.interop.peer_dawsol import ADAPTED
from wsol.interop.peers import PEERS, num_classes, recognise
from wsol.models.localizer import Localizer

K = 5


class C2am(nn.Module):
    """One plane between 0 and 1, of the last two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential()
        for name, module in resnet(16):
            self.backbone.add_module(name, module)
        self.ac_head = nn.Sequential()
        self.ac_head.add_module("activation_head", nn.Conv2d(3072, 1, 3, padding=1, bias=False))
        self.ac_head.add_module("bn_head", nn.BatchNorm2d(1))

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.backbone[:-1]:
            x = stage(x)
        return self.ac_head(torch.cat([self.backbone.layer4(x), x], 1)).sigmoid()[:, 0]


class Pair(nn.Module):
    """A network, and a classifier of each of its cells."""

    def __init__(self, extractor: nn.Module, channels: int) -> None:
        super().__init__()
        self.extractor = extractor
        self.classifier = nn.Sequential()
        self.classifier.add_module("fc", nn.Conv2d(channels, K, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.classifier(self.extractor(images))
        return maps.mean((2, 3)), maps

    def saved(self) -> dict:
        """As their program saves it."""
        parts = {f"state_dict_{name}": part.state_dict() for name, part in self.named_children()}
        return {"architecture": "any", "epoch": 3, **parts, "optimizer_extractor": {"state": {}, "param_groups": []}}


class Inception(nn.Module):
    """Torchvision's blocks up to Mixed_6e with padding everywhere, and two convolutions."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        network = Inception3(aux_logits=False, init_weights=False)
        network.Conv2d_1a_3x3.conv.padding = (1, 1)
        for conv in (network.Mixed_6a.branch3x3.conv, network.Mixed_6a.branch3x3dbl_3.conv):
            conv.stride, conv.padding = (1, 1), (1, 1)
        for name, module in network.named_children():
            if name.startswith(("Conv2d", "Mixed_5", "Mixed_6")):
                self.add_module(name, module)
        self.SPG_A3_1b = nn.Sequential(nn.Conv2d(768, 1024, 3, padding=1), nn.ReLU())
        self.SPG_A3_2b = nn.Sequential(nn.Conv2d(1024, 1024, 3, padding=1), nn.ReLU())
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        for name, module in self.named_children():
            if name == "Mixed_6a":
                x = F.max_pool2d(x, 3, 2, ceil_mode=True) if self.stride == 16 else x
                twice = module.branch3x3dbl_3(module.branch3x3dbl_2(module.branch3x3dbl_1(x)))
                x = torch.cat([module.branch3x3(x), twice, F.max_pool2d(x, 3, 1, 1)], 1)
                continue
            x = module(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        return x


def stages(stride: int) -> nn.Module:
    network = nn.Sequential()
    for name, module in resnet(stride):
        network.add_module(name, module)
    return network


def stages_with_adl(stride: int) -> nn.Module:
    """ADL's layers are counted among the blocks, and a linear layer is not read."""
    network = stages(stride)
    network.layer3.insert(1, nn.Identity())
    network.layer4.insert(1, nn.Identity())
    network.layer4.append(nn.Identity())
    network.fc = nn.Linear(2048, K)
    network.forward = lambda x: nn.Sequential(*list(network)[:-1])(x)  # type: ignore[method-assign]
    return network


CASES = {
    "C2AM of its authors, ResNet-50": lambda stride: C2am(),
    "DA-WSOL of its authors, ResNet-50": lambda stride: Pair(stages(stride), 2048),
    "DA-WSOL with ADL of its authors, ResNet-50": lambda stride: Pair(stages_with_adl(stride), 2048),
    "DA-WSOL of its authors, Inception-v3": lambda stride: Pair(Inception(stride), 1024),
}
BY_NAME = {peer.name: peer for peer in (*CONTRASTIVE, *ADAPTED)}
PAIRS = [(name, stride) for name, peer in BY_NAME.items() for stride in peer.strides]


def ours(name: str, stride: int) -> Localizer:
    words = [*BY_NAME[name].words, f"backbone.output_stride={stride}"]
    return build.build_localizer(compose("train", words), tuple(map(str, range(K))))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_tensor_has_one_place_and_no_other_peer_fits(name: str) -> None:
    with torch.device("meta"):
        state, localizer = CASES[name](16).state_dict(), ours(name, 16)
    peer, translated = recognise({f"module.{key}": value for key, value in state.items()}, "weights.pth")
    assert peer == BY_NAME[name]
    assert [other.name for other in PEERS if other.fits(state)] == [name]
    assert not peer.classifies or num_classes(translated, "weights.pth") == K
    shapes = {key: tuple(value.shape) for key, value in localizer.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in translated.items()}
    assert set(shapes) - set(given) <= {"backbone.scale", "backbone.shift", *peer.lacks, *peer.beside.values()}
    assert all(shapes[key] == shape for key, shape in given.items())


@torch.no_grad()
@pytest.mark.parametrize(("name", "stride"), [pair for pair in PAIRS if "C2AM" not in pair[0]])
def test_scores_and_maps_of_dawsol(name: str, stride: int, tmp_path: Path) -> None:
    network = filled(lambda: CASES[name](stride))
    torch.save(network.saved(), tmp_path / "a.pth.tar")
    localizer = ours(name, stride).eval()
    peer, state = recognise(read_state(tmp_path / "a.pth.tar"), "a.pth.tar")
    optional = [*peer.lacks, *(f"backbone.{key}" for key in localizer.backbone.optional)]
    load_strictly(localizer, state, "a.pth.tar", optional=optional)
    images = torch.randn(1, 3, 96, 64)
    scores, maps = network(images)
    output = localizer(images)
    assert maps.shape[2:] == (96 // stride, 64 // stride)
    torch.testing.assert_close(output.logits, scores, rtol=0, atol=1e-5 * scores.abs().max().item())
    found = localizer.maps(output, torch.arange(K)[None])
    torch.testing.assert_close(found, maps, rtol=0, atol=1e-5 * maps.abs().max().item())


@torch.no_grad()
def test_c2am_and_the_side_that_is_the_object(tmp_path: Path) -> None:
    network, images = filled(C2am), torch.randn(2, 3, 64, 96)
    saved = {"epoch": 20, "CorLoc": 50.0, "Threshold": 0.35, "state_dict": network.state_dict()}
    expected = network(images)
    assert expected.std() > 0.01
    for flag in (torch.tensor(True), False):
        torch.save({**saved, "Flag": flag}, tmp_path / "current_epoch.pth")
        found = conversion._peer(
            compose("convert", [f"weights={tmp_path / 'current_epoch.pth'}"]), tmp_path / "current_epoch.pth"
        )
        assert found.title == "C2AM of its authors, ResNet-50, output stride 16, without classes"
        state = {key.removeprefix("localizer."): value for key, value in found.checkpoint["state_dict"].items()}
        localizer = build.build_localizer(found.settings, ("object",), load_weights=False).eval()
        localizer.load_state_dict(state)
        maps = localizer.maps(localizer(images), torch.zeros(2, 1, dtype=torch.int64))[:, 0]
        torch.testing.assert_close(maps, 1 - expected if flag else expected, rtol=0, atol=1e-5)
    for wrong in ({}, {"Flag": "yes"}):
        torch.save({**saved, **wrong}, tmp_path / "other.pth")
        with pytest.raises(InputError, match=r"maps depend on the entry Flag .*which this file lacks"):
            conversion._peer(compose("convert", [f"weights={tmp_path / 'other.pth'}"]), tmp_path / "other.pth")
