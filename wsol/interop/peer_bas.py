"""Networks of BAS by its authors; see `wsol.interop.peers`.

github.com/wpy1999/BAS (Wu et al. 2022) and github.com/wpy1999/BAS-Extension (2023) save the same names. Whether the
scores are rectified is no tensor, so it is asked for. Copies of the last stages that training on ILSVRC keeps are left
out.
"""

from __future__ import annotations

from wsol.interop.peer_naming import Peer
from wsol.interop.peer_networks import classifier_names, vgg_names

HEAD = {
    **classifier_names("classifier_cls", "head.branch"),
    **classifier_names("classifier", "head.branch"),  # of Inception-v3 on CUB
    "classifier_loc.0": "head.localizer",
}
COPIES = ("classifier_cls_copy.", "classifier_copy.", "conv_copy_", "layer4_copy.", "erase_branch.", "Mixed_7a_copy.")
VGG = vgg_names([f"conv{stage}_{n}" for stage, count in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, count + 1)])
LATE = "backbone.late_stride=true"
NETWORKS = {
    "VGG-16": ("conv5_3.weight", ("backbone=vgg16",), VGG),
    "ResNet-50": ("layer4.2.conv3.weight", ("backbone=resnet50", LATE), {}),
    "Inception-v3": (
        "Mixed_7c.branch_pool.conv.weight",
        (
            "backbone=inception_v3",
            "backbone.cut=whole",
            "backbone.transform_input=false",
            "backbone.preprocessing.size=224",
            LATE,
        ),
        {},
    ),
    "MobileNet-V1": ("model.13.3.weight", ("backbone=mobilenet_v1", LATE), {}),
}
"""A tensor that only this network has, its config, and its special names, by network."""

SUPPRESSION = tuple(
    Peer(
        f"BAS of its authors, {network}",
        marks=(mark, "classifier_loc.0.weight"),
        absent=(),
        strides=(16,),
        words=(*choices, "method=bas"),
        modules=HEAD | names,
        unread=(*COPIES, "Mixed_7b_copy.", "Mixed_7c_copy."),
        asks={"relu": "relu=scores for the release of CVPR 2022 (BAS), relu=ratio for that of 2023 (BAS-Extension)"},
    )
    for network, (mark, choices, names) in NETWORKS.items()
)
"""In the order of the paper's tables."""
