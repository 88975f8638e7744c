"""Networks with the peers' names for their tensors, written plainly, against ours with the translated tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50, vgg16

from wsol.config import build
from wsol.config.compose import compose
from wsol.errors import InputError
from wsol.interop.peer_networks import CONVOLUTIONAL
from wsol.interop.peers import PEERS, num_classes, output_stride, recognise
from wsol.models.localizer import Localizer
from wsol.types import Output

K = 5
LABELS = torch.tensor([3, 1])


class Cam(nn.Module):
    """Convolutions, their mean, a linear layer; the maps of the labels are weighted sums of the features."""

    def __init__(self, channels: int, convs: list[tuple[str, nn.Module]]) -> None:
        super().__init__()
        for name, module in convs:
            self.add_module(name, module)
        self.order = [name for name, _ in convs]
        self.fc = nn.Linear(channels, K)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        for name in self.order:
            x = self.get_submodule(name)(x)
            x = x.relu() if name == "conv6" else x
        maps = [
            sum(w * plane for w, plane in zip(self.fc.weight[k], f, strict=True))
            for f, k in zip(x, labels, strict=True)
        ]
        return self.fc(x.mean((2, 3))), torch.stack(maps)


class Acol(nn.Module):
    """Two branches; image by image, what the first one's map of the label has above delta is hidden from the second."""

    def __init__(
        self, channels: int, convs: list[tuple[str, nn.Module]], names: tuple[str, str], delta: float, smooth: bool
    ) -> None:
        super().__init__()
        for name, module in convs:
            self.add_module(name, module)
        self.order, self.names, self.delta, self.smooth = [name for name, _ in convs], names, delta, smooth
        for name in names:
            layers = [nn.Conv2d(channels, 1024, 3, padding=1), nn.ReLU(), nn.Conv2d(1024, 1024, 3, padding=1)]
            self.add_module(name, nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(1024, K, 1)))

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        for name in self.order:
            x = self.get_submodule(name)(x)
        x = F.avg_pool2d(x, 3, stride=1, padding=1) if self.smooth else x
        first, second = (self.get_submodule(name) for name in self.names)
        planes, maps = first(x), []
        for features, of_image, label in zip(x, planes, labels, strict=True):
            a = scaled(of_image[label])
            erased = features.clone()
            erased[:, a >= self.delta] = 0
            maps.append(torch.maximum(a, scaled(second(erased[None])[0, label])))
        return planes.mean((2, 3)), torch.stack(maps)


class Spg(nn.Module):
    """A chain of parts, then a 1x1 convolution of which the maps are the planes without bias; guides on two parts."""

    def __init__(
        self, chain: dict[str, nn.Module], last: tuple[str, int], guides: tuple[int, int, int], read: tuple[str, str]
    ) -> None:
        super().__init__()
        self.order = [*chain]
        for name, module in chain.items():
            self.add_module(name, module)
        early, mid, width = guides
        self.last, self.read = last[0], read
        self.add_module(last[0], nn.Conv2d(last[1], K, 1))
        self.SPG_B_1a = nn.Sequential(nn.Conv2d(early, width, 3, padding=1), nn.ReLU())
        self.SPG_B_2a = nn.Sequential(nn.Conv2d(mid, width, 3, padding=1), nn.ReLU())
        self.SPG_B_shared = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 1))
        self.SPG_C = nn.Sequential(nn.Conv2d(last[1], 512, 3, padding=1), nn.ReLU(), nn.Conv2d(512, 1, 1))

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen = {}
        for name in self.order:
            seen[name] = x = self.get_submodule(name)(x)
        b1, b2 = self.SPG_B_1a(seen[self.read[0]]), self.SPG_B_2a(seen[self.read[1]])
        self.guides = {"b1": self.SPG_B_shared(b1), "b2": self.SPG_B_shared(b2), "c": self.SPG_C(x)}
        plain = self.get_submodule(self.last)
        maps = [
            F.conv2d(f[None], plain.weight[k : k + 1])[0, 0]  # type: ignore[index, arg-type]
            for f, k in zip(x, labels, strict=True)
        ]
        return plain(x).mean((2, 3)), torch.stack(maps)


class Calm(nn.Module):
    """The class of each cell and a distribution over cells; scores are log p(y), maps p(y, z)."""

    def __init__(self, channels: int, convs: list[tuple[str, nn.Module]]) -> None:
        super().__init__()
        for name, module in convs:
            self.add_module(name, module)
        self.order = [name for name, _ in convs]
        self.conv_last = nn.Conv2d(channels, K, 1)
        self.attention = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.ReLU())

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        for name in self.order:
            x = self.get_submodule(name)(x)
        attention = self.attention(x) + 1e-12
        joint = self.conv_last(x).softmax(1) * attention / attention.sum((2, 3), keepdim=True)
        return joint.sum((2, 3)).log(), joint[range(len(labels)), labels]


def scaled(plane: Tensor) -> Tensor:
    return (plane - plane.min()) / (plane.max() - plane.min())


def convs(before: int, *widths: int) -> list[nn.Module]:
    pairs = zip((before, *widths), widths, strict=False)
    return [layer for a, b in pairs for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]


STAGES = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
HALVE, NOTHING = partial(nn.MaxPool2d, 2), nn.Identity


def vgg(*behind: list[Callable[[], nn.Module]]) -> list[tuple[str, nn.Module]]:
    """VGG-16 with these layers behind its stages, as ``features``."""
    layers: list[nn.Module] = []
    for stage, made in zip(STAGES, behind, strict=False):
        layers += [*convs(*stage), *(make() for make in made)]
    return [("features", nn.Sequential(*layers))]


def acol_vgg(stride: int) -> list[tuple[str, nn.Module]]:
    strided, dense = partial(nn.MaxPool2d, 3, 2, 1), partial(nn.MaxPool2d, 3, 1, 1)
    return vgg([strided], [strided], [strided], [strided if stride == 16 else dense], [dense])


def adl_vgg(stride: int) -> list[tuple[str, nn.Module]]:
    """Where the dropout layer stands, which does nothing in evaluation, a number is taken."""
    return vgg([HALVE], [HALVE], [HALVE, NOTHING], [NOTHING, *[HALVE] * (stride == 16)], [NOTHING])


def resnet(stride: int, adl: bool = False) -> list[tuple[str, nn.Module]]:
    """Torchvision's, its last one or two stages without stride."""
    network = resnet50()
    for stage in [network.layer4] + [network.layer3] * (stride == 8):
        for conv in (stage[0].conv2, stage[0].downsample[0]):
            conv.stride = (1, 1)
    parts = {name: module for name, module in network.named_children() if name not in ("avgpool", "fc")}
    if adl:
        first, *others = parts["layer3"]
        parts["layer3"] = nn.Sequential(first, nn.Identity(), *others)
        first, second, third = parts["layer4"]
        parts["layer4"] = nn.Sequential(first, nn.Identity(), second, third, nn.Identity())
    return list(parts.items())


def spg_vgg(stride: int) -> nn.Module:
    chain = {
        **dict(vgg([HALVE], [HALVE], [HALVE])),
        "SPG_A_1": nn.Sequential(*convs(256, 512, 512, 512)),
        "pool": nn.MaxPool2d(3, 2, 1) if stride == 16 else nn.Identity(),
        "SPG_A_2": nn.Sequential(*convs(512, 512, 512, 512)),
        "SPG_A_3": nn.Sequential(*convs(512, 512, 512)),
    }
    return Spg(chain, ("SPG_A_4", 512), (512, 512, 512), read=("pool", "SPG_A_2"))


def spg_resnet(stride: int) -> nn.Module:
    parts = dict(resnet(stride))
    first, *others = parts.pop("layer3")
    layer4 = parts.pop("layer4")
    chain = {**parts, "SPG_A1": nn.Sequential(first), "SPG_A2": nn.Sequential(*others), "layer4": layer4}
    return Spg(chain, ("SPG_A4", 2048), (1024, 1024, 1024), read=("SPG_A1", "SPG_A2"))


class Case(NamedTuple):
    peer: str
    stride: int
    make: Callable[[], nn.Module]
    prefix: str = ""


def cases() -> Iterable[Case]:
    pair = ("classifier_A", "classifier_B")
    yield Case(
        "ACoL of its authors, VGG-16", 8, lambda: Acol(512, acol_vgg(8), ("cls", "cls_erase"), 0.6, True), "module."
    )
    for stride, cells in ((16, "14x14"), (8, "28x28")):
        fourth = [HALVE] * (stride == 16)
        of = " of wsolevaluation, "
        yield Case(f"ACoL{of}VGG-16", stride, lambda s=stride: Acol(512, acol_vgg(s), pair, 0.7, True))
        yield Case(f"ACoL{of}ResNet-50", stride, lambda s=stride: Acol(2048, resnet(s), pair, 0.7, False))
        yield Case(f"SPG{of}VGG-16", stride, partial(spg_vgg, stride))
        yield Case(f"SPG{of}ResNet-50", stride, partial(spg_resnet, stride))
        yield Case(f"ADL{of}ResNet-50", stride, lambda s=stride: Cam(2048, resnet(s, adl=True)))
        yield Case(f"CAM{of}ResNet-50", stride, lambda s=stride: Cam(2048, resnet(s)))
        yield Case("CALM of its authors, ResNet-50", stride, lambda s=stride: Calm(2048, resnet(s)))
        conv6 = partial(nn.Conv2d, 512, 1024, 3, padding=1)
        yield Case(
            f"CAM{of}VGG-16, {cells}",
            stride,
            lambda f=fourth, conv6=conv6: Cam(1024, [*vgg([HALVE], [HALVE], [HALVE], f, []), ("conv6", conv6())]),
        )
        yield Case(
            f"ADL{of}VGG-16, {cells}",
            stride,
            lambda s=stride, conv6=conv6: Cam(1024, [*adl_vgg(s), ("conv6", conv6())]),
        )


CASES = list(cases())


def filled(make: Callable[[], nn.Module]) -> nn.Module:
    """The network with random weights and statistics, quicker than with its own initialisation."""
    with torch.device("meta"):
        network = make()
    network.to_empty(device="cpu").eval()
    torch.manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.ndim == 1:
            value.normal_(1.0 if name.endswith("weight") else 0.0, 0.1)
        elif value.ndim:
            value.normal_(0, (1 / value[0].numel()) ** 0.5)
        else:
            value.zero_()
    return network


def ours(words: Iterable[str], state: dict[str, Tensor]) -> Localizer:
    with torch.device("meta"):
        localizer = build.build_localizer(compose("train", list(words)), tuple(map(str, range(K))))
    localizer.load_state_dict(state, assign=True)
    return localizer.eval()


def guides(localizer: Localizer, output: Output) -> dict[str, Tensor]:
    """What SPG's loss compares with masks."""
    head, state = localizer.head, output.state
    b1, b2, tail, c = (head.get_submodule(name) for name in ("b1", "b2", "tail", "c"))
    return {"b1": tail(b1(state["early"])), "b2": tail(b2(state["mid"])), "c": c(state["hidden"])}


@cache
def names_of(case: Case) -> dict[str, Tensor]:
    """The state dict without values."""
    with torch.device("meta"):
        return {f"{case.prefix}{name}": value for name, value in case.make().state_dict().items()}


@torch.no_grad()
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.peer}, {case.stride}")
def test_scores_and_maps_are_the_peers(case: Case) -> None:
    network = filled(case.make)
    peer, state = recognise({f"{case.prefix}{k}": v for k, v in network.state_dict().items()}, "weights.pth")
    assert peer.name == case.peer
    assert num_classes(state, "weights.pth") == K
    localizer = ours([*peer.words, f"backbone.output_stride={case.stride}"], state)
    images = torch.randn(2, 3, 96, 64)
    logits, maps = network(images, LABELS)
    output = localizer(images, LABELS)
    found = localizer.maps(output, LABELS[:, None])[:, 0]
    assert maps.shape == (2, 96 // case.stride, 64 // case.stride)
    assert logits.std() > 1e-3
    assert maps.std() > 1e-3
    torch.testing.assert_close(output.logits, logits, rtol=0, atol=1e-5 * logits.abs().max().item())
    torch.testing.assert_close(found, maps, rtol=0, atol=1e-5 * maps.abs().max().item())
    for name, plane in getattr(network, "guides", {}).items():
        torch.testing.assert_close(guides(localizer, output)[name], plane, rtol=0, atol=1e-5 * plane.abs().max().item())


def test_every_peer_has_its_case() -> None:
    assert {(peer.name, stride) for peer in CONVOLUTIONAL for stride in peer.strides} == {
        (c.peer, c.stride) for c in CASES
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.peer}, {case.stride}")
def test_no_other_peer_fits(case: Case) -> None:
    state = {name.removeprefix(case.prefix): value for name, value in names_of(case).items()}
    assert [peer.name for peer in PEERS if peer.fits(state)] == [case.peer]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.peer}, {case.stride}")
def test_every_tensor_has_one_place(case: Case) -> None:
    peer, state = recognise(names_of(case), "weights.pth")
    assert len(state) == len(names_of(case))
    config = compose("train", [*peer.words, f"backbone.output_stride={case.stride}"])
    with torch.device("meta"):
        localizer = build.build_localizer(config, tuple(map(str, range(K))))
    assert state.keys() == localizer.state_dict().keys()


@pytest.mark.parametrize(
    "network", [vgg16, resnet50, lambda: nn.Sequential(nn.Linear(2, 2))], ids=["vgg16", "resnet50", "other"]
)
def test_plain_classifiers(network: Callable[[], nn.Module]) -> None:
    """Torchvision's ResNet-50 is a CAM network as it is; its VGG-16 and anything else is none of these."""
    with torch.device("meta"):
        state = network().state_dict()
    if "layer4.2.conv3.weight" in state:
        assert recognise(state, "weights.pth")[0].name == "CAM of wsolevaluation, ResNet-50"
        return
    with pytest.raises(InputError, match="of an unknown network") as error:
        recognise(state, "weights.pth")
    for peer in PEERS:
        assert peer.name in str(error.value)
        assert peer.marks[-1] in str(error.value)


def test_nothing_and_our_own_are_refused() -> None:
    with pytest.raises(InputError, match="it has nothing"):
        recognise({}, "weights.pth")
    with pytest.raises(InputError, match=r"`wsol train` already; evaluate it with wsol eval last\.ckpt"):
        recognise({"localizer.head.classifier.weight": torch.zeros(2, 3)}, "last.ckpt")
    with pytest.raises(InputError, match="no classifier"):
        num_classes({"backbone.conv1.weight": torch.zeros(1)}, "weights.pth")


def test_output_stride() -> None:
    by_name = {peer.name: peer for peer in PEERS}
    known, open_ = by_name["ACoL of its authors, VGG-16"], by_name["SPG of wsolevaluation, ResNet-50"]
    assert output_stride(known, None, "w.pth") == output_stride(known, 8, "w.pth") == 8
    assert output_stride(open_, 16, "w.pth") == 16
    with pytest.raises(InputError, match=r"w\.pth: SPG .* set its own: output_stride=16"):
        output_stride(open_, None, "w.pth")
    with pytest.raises(InputError, match="output stride 8, got output_stride=16"):
        output_stride(known, 16, "w.pth")
    with pytest.raises(InputError, match="16 or 8, got output_stride=32"):
        output_stride(open_, 32, "w.pth")
