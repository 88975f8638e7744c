"""C2AM's network by its authors; see `wsol.interop.peers`.

github.com/CVI-SZU/CCAM (Xie et al. 2022), WSOL/: which side of the map is the object is no tensor of the network, but
the entry ``Flag`` that the file has beside it.
"""

from __future__ import annotations

from wsol.interop.peer_naming import Peer

CONTRASTIVE = (
    Peer(
        "C2AM of its authors, ResNet-50",
        marks=("backbone.layer4.2.conv3.weight", "ac_head.activation_head.weight", "ac_head.bn_head.weight"),
        absent=(),
        strides=(16,),
        words=("backbone=resnet50", "method=c2am", "method.head.read=[layer4,layer3]"),
        modules={
            "backbone": "backbone",
            "ac_head.activation_head": "head.activation",
            "ac_head.bn_head": "head.norm",
        },
        beside={"Flag": "head.border"},
        classifies=False,
    ),
)
