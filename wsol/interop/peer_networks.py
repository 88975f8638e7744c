"""Networks of ACoL's authors, of wsolevaluation, and of CALM's authors; see `wsol.interop.peers`."""

from __future__ import annotations

from collections.abc import Iterable

from wsol.interop.peer_naming import Peer


def vgg_names(theirs: Iterable[int | str]) -> dict[str, str]:
    """Return the names here of VGG-16's convolutions, by their names there (numbers are those in ``features``)."""
    ours = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    names = [name if isinstance(name, str) else f"features.{name}" for name in theirs]
    return {name: f"backbone.features.{number}" for name, number in zip(names, ours, strict=True)}


def classifier_names(theirs: str, ours: str) -> dict[str, str]:
    """Return the names of a classifier of two convolutions, each with a ReLU, and a 1x1 convolution."""
    return {f"{theirs}.0": f"{ours}.trunk.1", f"{theirs}.2": f"{ours}.trunk.4", f"{theirs}.4": f"{ours}.classifier"}


_EARLY = (0, 2, 5, 7, 10, 12, 14)  # conv1_1 to conv3_3
_CAM = {"conv6": "head.conv.0", "fc": "head.classifier"}
_ACOL = classifier_names("classifier_A", "head.branches.a") | classifier_names("classifier_B", "head.branches.b")
_SPG = {"SPG_B_1a": "head.b1", "SPG_B_2a": "head.b2", "SPG_B_shared": "head.tail", "SPG_C": "head.c"}
_SPG_A_VGG: list[int | str] = [*_EARLY, "SPG_A_1.0", "SPG_A_1.2", "SPG_A_1.4", "SPG_A_2.0", "SPG_A_2.2", "SPG_A_2.4"]
_SPG_A_RESNET = {"SPG_A1.0": "backbone.layer3.0"} | {f"SPG_A2.{n}": f"backbone.layer3.{n + 1}" for n in range(5)}
ADL_RESNET = {f"layer3.{n + 1}": f"backbone.layer3.{n}" for n in range(1, 6)} | {
    f"layer4.{n + 1}": f"backbone.layer4.{n}" for n in range(1, 3)
}
"""The blocks of ResNet-50 behind those that ADL follows: its layers are counted among them."""
_ERASED = ("method=acol", "method.head.delta=0.7", "method.head.erase_at_test=label")
_GUIDED = ("method=spg", "method.head.thresholds=[[0.7,0.01],[0.5,0.05],[0.7,0.1]]")
_DROPPED = ("backbone=vgg16", "backbone.pooling=dropped")

CONVOLUTIONAL = (
    Peer(
        "ACoL of its authors, VGG-16",
        marks=("features.28.weight", "cls.4.weight", "cls_erase.4.weight"),
        absent=(),
        strides=(8,),
        words=("backbone=vgg16_acol", "method=acol", "method.head.delta=0.6", "method.head.erase_at_test=label"),
        modules=classifier_names("cls", "head.branches.a") | classifier_names("cls_erase", "head.branches.b"),
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
        | vgg_names(_SPG_A_VGG)
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
            modules=_CAM | vgg_names([*_EARLY, *convs]),
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
            modules=_CAM | vgg_names([*_EARLY, *convs]),
        )
        for cells, stride, convs in ((14, 16, (18, 20, 22, 26, 28, 30)), (28, 8, (18, 20, 22, 25, 27, 29)))
    ),
    Peer(
        "ADL of wsolevaluation, ResNet-50",
        marks=("layer3.6.conv3.weight", "layer4.3.conv3.weight", "fc.weight"),
        absent=("layer3.1.conv3.weight", "layer4.1.conv3.weight"),
        strides=(16, 8),
        words=("backbone=resnet50", "method=adl/resnet50"),
        modules=ADL_RESNET | {"fc": "head.classifier"},
    ),
    Peer(
        "CAM of wsolevaluation, ResNet-50",
        marks=("layer3.5.conv3.weight", "layer4.2.conv3.weight", "fc.weight"),
        absent=("layer3.6.conv3.weight", "layer4.3.conv3.weight"),
        strides=(16, 8),
        words=("backbone=resnet50", "method=cam"),
        modules={"fc": "head.classifier"},
    ),
    Peer(
        "CALM of its authors, ResNet-50",
        marks=("layer4.2.conv3.weight", "conv_last.weight", "attention.0.weight"),
        absent=(),
        strides=(16, 8),
        words=("backbone=resnet50", "method=calm"),
        modules={"conv_last": "head.classifier", "attention.0": "head.attention"},
    ),
)
"""In the order of the methods."""
