"""Transformers of the authors of TS-CAM, SCM and SAT, written plainly, against ours with the translated tensors."""

from __future__ import annotations

import pytest
import torch

from tests.reference_vit import Reference
from wsol.config import build
from wsol.config.compose import compose
from wsol.errors import InputError
from wsol.interop.peer_transformers import TRANSFORMERS
from wsol.interop.peers import PEERS, num_classes, recognise

K = 5
HEADS = {192: 3, 384: 6, 768: 12}


def theirs(peer) -> Reference:
    """The network of a peer's name and size, on torch's meta device unless it is small."""
    _, cells, width = (1, *peer.shapes["pos_embed"][1:])
    return Reference(peer.name.split()[0], K, width, 12, HEADS[width], round((cells - 1) ** 0.5) * 16)


def ours(peer):
    config = compose("train", list(peer.words))
    return build.build_localizer(config, tuple(map(str, range(K))))


@pytest.mark.parametrize("peer", TRANSFORMERS, ids=lambda peer: peer.name)
def test_every_tensor_has_one_place_and_no_other_peer_fits(peer) -> None:
    with torch.device("meta"):
        state = theirs(peer).state_dict()
        localizer = ours(peer)
    assert [other.name for other in PEERS if other.fits(state)] == [peer.name]
    found, translated = recognise({f"module.{name}": value for name, value in state.items()}, "weights.pth")
    assert found == peer
    assert num_classes(translated, "weights.pth") == K
    shapes = {name: value.shape for name, value in localizer.state_dict().items()}
    assert {name: value.shape for name, value in translated.items()} == shapes


@torch.no_grad()
@pytest.mark.parametrize("peer", [peer for peer in TRANSFORMERS if "DeiT-T" in peer.name], ids=lambda peer: peer.name)
def test_scores_and_maps_are_the_peers(peer) -> None:
    torch.manual_seed(0)
    network, localizer, images = theirs(peer).eval(), ours(peer).eval(), torch.randn(1, 3, 224, 224)
    localizer.load_state_dict(recognise(network.state_dict(), "weights.pth")[1])
    scores, maps = network(images)
    output = localizer(images)
    found = localizer.maps(output, torch.arange(K)[None])
    assert (output.logits - scores).abs().max() < 1e-5 * scores.abs().max()
    assert (found - maps).abs().max() < 1e-5 * maps.abs().max()


def test_plain_deit_is_none_of_them() -> None:
    with torch.device("meta"):
        state = theirs(TRANSFORMERS[0]).state_dict()
        state["head.weight"] = torch.zeros(1000, 192)
    with pytest.raises(InputError, match="of an unknown network"):
        recognise(state, "deit.pth")
