"""PSOL's networks by its authors, and the same ones of C2AM; see `wsol.interop.peers`.

github.com/tzzcl/PSOL (Zhang et al. 2020) and github.com/CVI-SZU/CCAM, WSOL/PSOL/ (Xie et al. 2022), save torchvision's
names. The sigmoid at the end has no tensor.
"""

from __future__ import annotations

from wsol.interop.peer_naming import Peer

METHOD = "method=psol"
LAST = (4, 512)
"""Shape of the layer that gives the box."""

REGRESSORS = (
    Peer(
        "PSOL of its authors, VGG-16",
        marks=("features.28.weight", "classifier.3.weight", "classifier.6.0.weight"),
        absent=(),
        strides=(32,),
        words=("backbone=vgg16", "backbone.fully_connected=true", METHOD),
        modules={"classifier.6": "head.box"},
        shapes={"classifier.6.2.weight": LAST},
        classifies=False,
    ),
    Peer(
        "PSOL of its authors, VGG-16 without its fully connected layers",
        marks=("features.28.weight", "classifier.0.weight"),
        absent=("classifier.3.weight",),
        strides=(32,),
        words=("backbone=vgg16", METHOD),
        modules={"classifier": "head.box"},
        shapes={"classifier.2.weight": LAST},
        classifies=False,
    ),
    Peer(
        "PSOL of its authors, ResNet-50",
        marks=("layer4.2.conv3.weight", "fc.0.weight"),
        absent=(),
        strides=(32,),
        words=("backbone=resnet50", METHOD),
        modules={"fc": "head.box"},
        shapes={"fc.2.weight": LAST},
        classifies=False,
    ),
    Peer(
        "PSOL of its authors, DenseNet-161",
        marks=("features.denseblock4.denselayer24.conv2.weight", "classifier.0.weight"),
        absent=(),
        strides=(32,),
        words=("backbone=timm", "backbone.name=densenet161", METHOD),
        modules={"features": "backbone.network.features", "classifier": "head.box"},
        shapes={"classifier.2.weight": LAST},
        fixed_stride=True,
        classifies=False,
    ),
)
"""In the order of the paper's tables."""
