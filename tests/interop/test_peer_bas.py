"""Networks of BAS by its authors, written plainly with their names, against ours with the translated tensors."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50

from wsol.backbones.mobilenet_v1 import MobileNetV1
from wsol.backbones.weights import load_strictly
from wsol.config import build
from wsol.config.compose import compose
from wsol.engine import conversion
from wsol.errors import InputError
from wsol.interop.peer_bas import SUPPRESSION
from wsol.interop.peers import PEERS, num_classes, recognise

K = 5
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Bas(nn.Module):
    """Inner features, the stages behind them, a classifier of three convolutions, and a localizer."""

    def __init__(self, inner: int, last: int, name: str = "classifier_cls") -> None:
        super().__init__()
        convs = (nn.Conv2d(last, 1024, 3, padding=1), nn.Conv2d(1024, 1024, 3, padding=1), nn.Conv2d(1024, K, 1))
        layers = [layer for conv in convs for layer in (conv, nn.ReLU())]
        self.add_module(name, nn.Sequential(*layers))
        self.classifier_loc = nn.Sequential(nn.Conv2d(inner, K, 3, padding=1), nn.Sigmoid())
        self.name = name

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, K) and maps (N, K, h, w)."""
        inner = self.inner(images)
        return self.get_submodule(self.name)(self.tail(inner)).mean((2, 3)), self.classifier_loc(inner)


class Vgg(Bas):
    def __init__(self) -> None:
        super().__init__(512, 512)
        before = 3
        for stage, widths in enumerate(STAGES, start=1):
            for number, width in enumerate(widths, start=1):
                self.add_module(f"conv{stage}_{number}", nn.Conv2d(before, width, 3, padding=1))
                before = width

    def stage(self, x: Tensor, number: int) -> Tensor:
        for conv in range(1, len(STAGES[number - 1]) + 1):
            x = self.get_submodule(f"conv{number}_{conv}")(x).relu()
        return x

    def inner(self, x: Tensor) -> Tensor:
        for number in (1, 2, 3):
            x = F.max_pool2d(self.stage(x, number), 2)
        return self.stage(x, 4)

    def tail(self, x: Tensor) -> Tensor:
        return self.stage(F.max_pool2d(x, 2), 5)


class Resnet(Bas):
    def __init__(self) -> None:
        super().__init__(1024, 2048)
        network = resnet50()
        for stage in (network.layer3, network.layer4):
            stage[0].conv2.stride = stage[0].downsample[0].stride = (1, 1)
        for name, module in network.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)

    def inner(self, x: Tensor) -> Tensor:
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            x = self.get_submodule(name)(x)
        return x

    def tail(self, x: Tensor) -> Tensor:
        return self.layer4(F.max_pool2d(x, 2))


class Mobile(Bas):
    def __init__(self) -> None:
        super().__init__(512, 1024)
        self.model = MobileNetV1(late_stride=True).model

    def inner(self, x: Tensor) -> Tensor:
        return self.model[:-2](x)

    def tail(self, x: Tensor) -> Tensor:
        return self.model[-2:](x)


class Inception(Bas):
    """Only its names: blocks of torchvision, whose strides are those of our backbone's tests."""

    def __init__(self) -> None:
        super().__init__(768, 2048, "classifier")
        words = ["backbone=inception_v3", "backbone.cut=whole", "backbone.late_stride=true"]
        for name, module in build.instantiate(compose("train", words).backbone, "backbone").named_children():
            if not name.startswith("maxpool"):
                self.add_module(name, module)


NETWORKS = {"VGG-16": Vgg, "ResNet-50": Resnet, "MobileNet-V1": Mobile, "Inception-v3": Inception}
PEERS_BY_NETWORK = {peer.name.removeprefix("BAS of its authors, "): peer for peer in SUPPRESSION}


def ours(peer, relu: str):
    words = [*peer.words, "backbone.output_stride=16", f"method.head.relu={relu}"]
    return build.build_localizer(compose("train", words), tuple(map(str, range(K))))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_has_one_place_and_no_other_peer_fits(name: str) -> None:
    with torch.device("meta"):
        state = NETWORKS[name]().state_dict()
        localizer = ours(PEERS_BY_NETWORK[name], "scores")
    copies = {"classifier_cls_copy.0.weight": torch.zeros(1), "layer4_copy.0.conv1.weight": torch.zeros(1)}
    peer, translated = recognise({f"module.{key}": value for key, value in {**state, **copies}.items()}, "weights.pth")
    assert peer == PEERS_BY_NETWORK[name]
    assert [other.name for other in PEERS if other.fits(state)] == [peer.name]
    assert num_classes(translated, "weights.pth") == K
    shapes = {key: tuple(value.shape) for key, value in localizer.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in translated.items()}
    assert set(shapes) - set(given) <= {"backbone.scale", "backbone.shift"}
    assert all(shapes[key] == shape for key, shape in given.items())


@torch.no_grad()
@pytest.mark.parametrize("name", ["VGG-16", "ResNet-50", "MobileNet-V1"])
def test_scores_and_maps_are_the_peers(name: str) -> None:
    torch.manual_seed(0)
    network, images = NETWORKS[name]().eval(), torch.randn(1, 3, 96, 64)
    nn.init.normal_(network.classifier_cls[4].bias, 0.1, 0.1)
    localizer = ours(PEERS_BY_NETWORK[name], "scores").eval()
    load_strictly(localizer, recognise(network.state_dict(), "weights.pth")[1], "weights.pth")
    scores, maps = network(images)
    output = localizer(images)
    assert scores.max() > 0
    assert (output.logits - scores).abs().max() < 1e-5 * scores.max()
    assert torch.allclose(localizer.maps(output, torch.arange(K)[None]), maps, atol=1e-5)


def test_what_no_tensor_tells_is_asked_for() -> None:
    peer, settings = SUPPRESSION[0], partial(compose, "convert")
    with pytest.raises(InputError, match=r"a\.pth: BAS .* give relu, which no tensor shows: relu=scores for"):
        conversion._settings(peer, 16, settings(["weights=a.pth"]))
    head = conversion._settings(peer, 16, settings(["weights=a.pth", "relu=ratio", "top=80"])).method.head
    assert (head.relu, head.top) == ("ratio", 80)
    other = next(peer for peer in PEERS if peer.name.startswith("CAM"))
    with pytest.raises(InputError, match=r"relu=ratio: CAM .* comes from one release only; leave relu out"):
        conversion._settings(other, 16, settings(["weights=a.pth", "relu=ratio"]))
