"""Transformers of the authors of TS-CAM, SCM and SAT; see `wsol.interop.peers`.

They keep timm's names, so the backbone's tensors are called the same here. Networks of one method differ in the width
of their tokens, and at an input of 384 pixels in the number of positions.
"""

from __future__ import annotations

from collections.abc import Mapping

from wsol.interop.peer_naming import Peer

SIZES = {
    "DeiT-T": ("deit_tiny_patch16_224", 192, 224),
    "DeiT-S": ("deit_small_patch16_224", 384, 224),
    "DeiT-B": ("deit_base_patch16_224", 768, 224),
    "DeiT-B at 384 pixels": ("deit_base_patch16_384", 768, 384),
}
"""timm's name, width of the tokens and side of the input, by what the authors call the network."""
LAYERS = {
    f"layers.{layer}.{theirs}": f"head.layers.{layer}.{ours}"
    for layer in range(4)
    for theirs, ours in {"fuse._loss_rate": "similarity", "thred": "threshold"}.items()
}
"""SCM's calibration layers: lambda and beta of each."""


def _peers(method: str, choices: tuple[str, ...], only: tuple[str, ...], modules: Mapping[str, str]) -> list[Peer]:
    """Return the networks of a method, of all sizes.

    Args:
        method: as its paper calls it.
        choices: choices of the config.
        only: names of tensors that only this method has.
        modules: names of its own modules, theirs and ours.
    """
    others = {"layers.0.thred", "loc_token"}.difference(only)
    return [
        Peer(
            f"{method} of its authors, {network}",
            marks=("blocks.11.attn.qkv.weight", "head.weight", *only),
            absent=tuple(others),
            strides=(16,),
            words=(*choices, f"backbone.name={name}"),
            modules={"head": "head.classifier", **modules},
            shapes={"pos_embed": (1, (side // 16) ** 2 + 1, width), "head.weight": (None, width, 3, 3)},
        )
        for network, (name, width, side) in SIZES.items()
    ]


TRANSFORMERS = (
    *_peers("TS-CAM", ("backbone=deit_s", "method=tscam"), (), {}),
    *_peers("SCM", ("backbone=deit_s", "method=scm"), ("layers.0.thred", "layers.3.thred"), LAYERS),
    *_peers("SAT", ("backbone=deit_s_gated", "method=sat"), ("loc_token", "weight"), {"weight": "head.filter"}),
)
"""In the order of the methods."""
