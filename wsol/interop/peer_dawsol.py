"""DA-WSOL's networks by its authors; see `wsol.interop.peers`.

github.com/zh460045050/DA-WSOL_CVPR2022 (Zhu et al. 2022) saves two state dicts, of the extractor and of the classifier.
The centres of its loss are not saved; here they start anew. With ADL, the extractor contains a linear layer that
is never used. Their program ignores the option for ADL on Inception-v3.
"""

from __future__ import annotations

from wsol.interop.peer_naming import Peer
from wsol.interop.peer_networks import ADL_RESNET

CLASSIFIER = {"extractor": "backbone", "classifier.fc": "head.classifier"}
CENTRES = tuple(f"head.{name}" for name in ("class_centres", "class_counts", "universum", "universum_count"))
WITHOUT_RESCALING = ("backbone.extra_convs=2", "backbone.transform_input=false", "backbone.preprocessing.size=224")

ADAPTED = (
    Peer(
        "DA-WSOL of its authors, ResNet-50",
        marks=("extractor.layer4.2.conv3.weight", "classifier.fc.weight"),
        absent=("extractor.layer4.3.conv3.weight",),
        strides=(16, 8),
        words=("backbone=resnet50", "method=dawsol"),
        modules=CLASSIFIER,
        lacks=CENTRES,
    ),
    Peer(
        "DA-WSOL with ADL of its authors, ResNet-50",
        marks=("extractor.layer3.6.conv3.weight", "extractor.layer4.3.conv3.weight", "classifier.fc.weight"),
        absent=("extractor.layer3.1.conv3.weight", "extractor.layer4.1.conv3.weight"),
        strides=(16, 8),
        words=("backbone=resnet50", "method=dawsol_adl/resnet50"),
        modules=CLASSIFIER | {f"extractor.{theirs}": ours for theirs, ours in ADL_RESNET.items()},
        unread=("extractor.fc.",),
        lacks=CENTRES,
    ),
    Peer(
        "DA-WSOL of its authors, Inception-v3",
        marks=("extractor.Mixed_6e.branch_pool.conv.weight", "extractor.SPG_A3_2b.0.weight", "classifier.fc.weight"),
        absent=(),
        strides=(16, 8),
        words=("backbone=inception_v3", *WITHOUT_RESCALING, "method=dawsol"),
        modules={
            **CLASSIFIER,
            "extractor.SPG_A3_1b.0": "backbone.extra1.1",
            "extractor.SPG_A3_2b.0": "backbone.extra2.1",
        },
        lacks=CENTRES,
    ),
)
"""In the order of the paper's tables."""
