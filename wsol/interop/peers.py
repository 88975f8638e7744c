"""Weights saved by the authors' programs, under the names of this project's networks.

`wsol.interop.peer_networks` has networks of github.com/xiaomengyc/ACoL (Zhang et al. 2018; models/vgg/vgg_v1.py) and,
of github.com/clovaai/wsolevaluation (Choe et al. 2020), CAM, ACoL, SPG and ADL on VGG-16 and ResNet-50; networks
trained with HaS or CutMix there are CAM's. `wsol.interop.peer_transformers` has TS-CAM, SCM and SAT of their authors,
`wsol.interop.peer_bas` BAS, `wsol.interop.peer_dawsol` DA-WSOL, `wsol.interop.peer_c2am` C2AM,
`wsol.interop.peer_psol` PSOL and C2AM's second stage.
A file is recognised by the names and shapes of its tensors. A `Peer` says which config makes the same network here, in
the words of `wsol train`, and which module each of theirs is. What the tensors do not tell (the stride of a pool or a
stage, and thresholds) is not guessed where it changes the maps, see `Peer.strides`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsol.errors import InputError
from wsol.interop.peer_bas import SUPPRESSION
from wsol.interop.peer_c2am import CONTRASTIVE
from wsol.interop.peer_dawsol import ADAPTED
from wsol.interop.peer_naming import CLASSIFIER, Peer
from wsol.interop.peer_networks import CONVOLUTIONAL
from wsol.interop.peer_psol import REGRESSORS
from wsol.interop.peer_transformers import TRANSFORMERS

PARALLEL = "module."
"""Prefix that torch.nn.DataParallel adds to every name."""
OURS = "localizer."
"""What stands before the names in this project's checkpoints."""
PEERS: tuple[Peer, ...] = (*CONVOLUTIONAL, *SUPPRESSION, *ADAPTED, *CONTRASTIVE, *REGRESSORS, *TRANSFORMERS)
"""The networks known; each is the only one that fits its own tensors."""


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
            f"{source}: a checkpoint of `wsol train` already; evaluate it with wsol eval {source}, or make it "
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
        if name.endswith(CLASSIFIER):
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
