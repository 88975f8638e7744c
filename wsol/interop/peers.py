"""Weights saved by the authors' programs, under the names of this project's networks.

Known networks are those of github.com/xiaomengyc/ACoL (Zhang et al. 2018; models/vgg/vgg_v1.py) and, from
github.com/clovaai/wsolevaluation (Choe et al. 2020), CAM, ACoL, SPG and ADL on VGG-16 and ResNet-50; networks trained
with HaS or CutMix there are CAM's. A file is recognised by the names of its tensors. A `Peer` defines the config of the
same network here, as overrides of `wsol train`, and the module here for each of theirs. Properties that the tensors do
not determine (the stride of a pool or a stage, and thresholds) are not guessed if they change the maps, see
`Peer.strides`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from wsol.errors import InputError

PARALLEL = "module."
"""Prefix that torch.nn.DataParallel adds to every name."""
OURS = "localizer."
"""Prefix of the names in this project's checkpoints."""


@dataclass(frozen=True)
class Peer:
    """A network of another program."""

    name: str
    marks: tuple[str, ...]
    """Names of tensors that, in combination, only this network has."""
    absent: tuple[str, ...]
    """Names that it lacks but other networks with the same marks have."""
    strides: tuple[int, ...]
    """Possible output strides; several if the tensors are the same for all of them."""
    words: tuple[str, ...]
    """The config of the same network, except for the output stride and the number of classes."""
    modules: Mapping[str, str]
    """Their module names and the names here; other modules belong to the backbone and have the same names."""

    def fits(self, names: Iterable[str]) -> bool:
        """Return whether a state dict with these names belongs to this network."""
        there = set(names)
        return there.issuperset(self.marks) and there.isdisjoint(self.absent)

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors under the names of `Localizer`; 1x1 classifiers (K, C, 1, 1) as (K,
        C).

        Example:
            >>> import torch
            >>> tensors = {"SPG_A2.3.bn1.bias": torch.zeros(256), "SPG_A4.weight": torch.zeros(5, 2048, 1, 1)}
            >>> spg = next(peer for peer in PEERS if peer.name == "SPG of wsolevaluation, ResNet-50")
            >>> {name: tuple(value.shape) for name, value in spg.translate(tensors).items()}
            {'backbone.layer3.4.bn1.bias': (256,), 'head.branch.classifier.weight': (5, 2048)}
        """
        renamed = {self._renamed(name): value for name, value in state.items()}
        return {
            name: value.flatten(1) if name.endswith(CLASSIFIER) and value.ndim == 4 else value
            for name, value in renamed.items()
        }

    def _renamed(self, name: str) -> str:
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            if (module := ".".join(parts[:length])) in self.modules:
                return ".".join([self.modules[module], *parts[length:]])
        return f"backbone.{name}"


CLASSIFIER = "classifier.weight"
"""Suffix of the name of the tensor that has a row for each class."""


def recognise(state: Mapping[str, Tensor], source: str) -> tuple[Peer, dict[str, Tensor]]:
    """Find the network that a state dict belongs to.

    Args:
        state: names to tensors, as the other program saved them; a DataParallel prefix is removed.
        source: its origin, for messages.

    Returns:
        The peer, and the tensors under the names of this project.

    Raises:
        InputError: this project's own weights, or weights of an unknown network; the message lists the known ones.
    """
    if any(name.startswith(OURS) for name in state):
        raise InputError(
            f"{source}: already a checkpoint of `wsol train`; evaluate it with wsol eval run={source}, or make it "
            "one file with out=<file>.safetensors"
        )
    if state and all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): value for name, value in state.items()}
    for peer in PEERS:
        if peer.fits(state):
            return peer, peer.translate(state)
    known = "; ".join(f"{peer.name} ({', '.join(peer.marks)})" for peer in PEERS)
    there = ", ".join(list(state)[:5]) or "nothing"
    raise InputError(
        f"{source}: weights of an unknown network (it has {there}, ...). Known: {known}. For a classifier "
        "of torchvision or timm, name it: backbone=resnet50, or backbone=timm backbone.name=resnet18"
    )


def num_classes(translated: Mapping[str, Tensor], source: str) -> int:
    """Return the number of classes K of translated weights: the number of rows of the classifier.

    Raises:
        InputError: they have no classifier.
    """
    for name, value in translated.items():
        if name.endswith(CLASSIFIER) and value.ndim == 2:
            return len(value)
    raise InputError(f"{source}: has no classifier (a tensor of K rows); the file is incomplete; copy it again")


def output_stride(peer: Peer, asked: int | None, source: str) -> int:
    """Return the output stride to build the network with.

    Args:
        peer: the network.
        asked: the user's value, or None.
        source: origin of the weights, for messages.

    Raises:
        InputError: the network has another one, or it may have several and the user set none.
    """
    possible = " or ".join(map(str, peer.strides))
    if asked is None and len(peer.strides) > 1:
        raise InputError(
            f"{source}: {peer.name}, whose tensors are the same at output strides {possible}; set its own: "
            "output_stride=16 (maps of 14x14 at 224), or 8 (28x28; large_feature_map)"
        )
    if asked is not None and asked not in peer.strides:
        raise InputError(f"{source}: {peer.name} has output stride {possible}, got output_stride={asked}")
    return peer.strides[0] if asked is None else asked


def _vgg(theirs: Iterable[int | str]) -> dict[str, str]:
    """Return the convolutions of VGG-16 (by their numbers in ``features``, or by name), and their names here."""
    ours = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    names = [name if isinstance(name, str) else f"features.{name}" for name in theirs]
    return {name: f"backbone.features.{number}" for name, number in zip(names, ours, strict=True)}


def _branch(theirs: str, ours: str) -> dict[str, str]:
    """Return the modules of a classifier with two convolutions, each followed by ReLU, and a 1x1 convolution."""
    return {f"{theirs}.0": f"{ours}.trunk.1", f"{theirs}.2": f"{ours}.trunk.4", f"{theirs}.4": f"{ours}.classifier"}


_EARLY = (0, 2, 5, 7, 10, 12, 14)  # conv1_1 to conv3_3
_CAM = {"conv6": "head.conv.0", "fc": "head.classifier"}
_ACOL = _branch("classifier_A", "head.branches.a") | _branch("classifier_B", "head.branches.b")
_SPG = {"SPG_B_1a": "head.b1", "SPG_B_2a": "head.b2", "SPG_B_shared": "head.tail", "SPG_C": "head.c"}
_SPG_A_VGG: list[int | str] = [*_EARLY, "SPG_A_1.0", "SPG_A_1.2", "SPG_A_1.4", "SPG_A_2.0", "SPG_A_2.2", "SPG_A_2.4"]
_SPG_A_RESNET = {"SPG_A1.0": "backbone.layer3.0"} | {f"SPG_A2.{n}": f"backbone.layer3.{n + 1}" for n in range(5)}
_ADL_RESNET = {f"layer3.{n + 1}": f"backbone.layer3.{n}" for n in range(1, 6)} | {
    f"layer4.{n + 1}": f"backbone.layer4.{n}" for n in range(1, 3)
}
_ERASED = ("method=acol", "method.head.delta=0.7", "method.head.erase_at_test=label")
_GUIDED = ("method=spg", "method.head.thresholds=[[0.7,0.01],[0.5,0.05],[0.7,0.1]]")
_DROPPED = ("backbone=vgg16", "backbone.pooling=dropped")

PEERS = (
    Peer(
        "ACoL of its authors, VGG-16",
        marks=("features.28.weight", "cls.4.weight", "cls_erase.4.weight"),
        absent=(),
        strides=(8,),
        words=("backbone=vgg16_acol", "method=acol", "method.head.delta=0.6", "method.head.erase_at_test=label"),
        modules=_branch("cls", "head.branches.a") | _branch("cls_erase", "head.branches.b"),
    ),
    Peer(
        "ACoL of wsolevaluation, VGG-16",
        marks=("features.28.weight", "classifier_A.4.weight", "classifier_B.4.weight"),
        absent=(),
        strides=(16, 8),
        words=("backbone=vgg16_acol", *_ERASED),
        modules=_ACOL,
    ),
    Peer(
        "ACoL of wsolevaluation, ResNet-50",
        marks=("layer3.5.conv3.weight", "classifier_A.4.weight", "classifier_B.4.weight"),
        absent=(),
        strides=(16, 8),
        words=("backbone=resnet50", *_ERASED),
        modules=_ACOL,
    ),
    Peer(
        "SPG of wsolevaluation, VGG-16",
        marks=("features.14.weight", "SPG_A_1.4.weight", "SPG_A_2.4.weight", "SPG_A_4.weight", "SPG_B_1a.0.weight"),
        absent=(),
        strides=(16, 8),
        words=(
            "backbone=vgg16",
            "backbone.pooling=spg",
            *_GUIDED,
            "method.head.width=512",
            "method.head.early=pool4",
            "method.head.mid=conv5_3",
        ),
        modules=_SPG
        | _vgg(_SPG_A_VGG)
        | {
            "SPG_A_3.0": "head.branch.trunk.1",
            "SPG_A_3.2": "head.branch.trunk.4",
            "SPG_A_4": "head.branch.classifier",
        },
    ),
    Peer(
        "SPG of wsolevaluation, ResNet-50",
        marks=("SPG_A1.0.conv3.weight", "SPG_A2.4.conv3.weight", "SPG_A4.weight", "SPG_B_1a.0.weight"),
        absent=(),
        strides=(16, 8),
        words=(
            "backbone=resnet50",
            *_GUIDED,
            "method.head.depth=0",
            "method.head.b_width=1024",
            "method.head.early=layer3.0",
            "method.head.mid=layer3",
        ),
        modules=_SPG | _SPG_A_RESNET | {"SPG_A4": "head.branch.classifier"},
    ),
    *(
        Peer(
            f"CAM of wsolevaluation, VGG-16, {cells}x{cells}",
            marks=(f"features.{convs[-1]}.weight", "features.21.weight", "conv6.weight", "fc.weight"),
            absent=(),
            strides=(stride,),
            words=(*_DROPPED, "method=cam_conv"),
            modules=_CAM | _vgg([*_EARLY, *convs]),
        )
        for cells, stride, convs in ((14, 16, (17, 19, 21, 24, 26, 28)), (28, 8, (17, 19, 21, 23, 25, 27)))
    ),
    *(
        Peer(
            f"ADL of wsolevaluation, VGG-16, {cells}x{cells}",
            marks=(f"features.{convs[-1]}.weight", "features.22.weight", "conv6.weight", "fc.weight"),
            absent=(),
            strides=(stride,),
            words=(*_DROPPED, "method=adl/vgg16"),
            modules=_CAM | _vgg([*_EARLY, *convs]),
        )
        for cells, stride, convs in ((14, 16, (18, 20, 22, 26, 28, 30)), (28, 8, (18, 20, 22, 25, 27, 29)))
    ),
    Peer(
        "ADL of wsolevaluation, ResNet-50",
        marks=("layer3.6.conv3.weight", "layer4.3.conv3.weight", "fc.weight"),
        absent=("layer3.1.conv3.weight", "layer4.1.conv3.weight"),
        strides=(16, 8),
        words=("backbone=resnet50", "method=adl/resnet50"),
        modules=_ADL_RESNET | {"fc": "head.classifier"},
    ),
    Peer(
        "CAM of wsolevaluation, ResNet-50",
        marks=("layer3.5.conv3.weight", "layer4.2.conv3.weight", "fc.weight"),
        absent=("layer3.6.conv3.weight", "layer4.3.conv3.weight"),
        strides=(16, 8),
        words=("backbone=resnet50", "method=cam"),
        modules={"fc": "head.classifier"},
    ),
)
"""The known networks; each is the only one that matches its own tensors."""
