"""SAT and its gated backbone against the network written out, its loss by hand, and what they refuse."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn

import wsol
from tests.choices import SMALL_VIT
from tests.reference_vit import Reference
from wsol.backbones.vit import ViT
from wsol.backbones.vit_gated import GatedViT
from wsol.errors import InputError
from wsol.heads.sat import SatHead, gaussian
from wsol.models.localizer import Localizer

CLASSES = 5
DEIT = "deit_tiny_patch16_224"
LABELS = torch.tensor([3, 1])


def network(**options) -> Localizer:
    torch.manual_seed(0)
    return Localizer(GatedViT(DEIT, **SMALL_VIT), partial(SatHead, **options), CLASSES)


def test_it_is_the_network_and_the_loss_of_the_paper() -> None:
    torch.manual_seed(1)
    reference, images = Reference("SAT", CLASSES, 24, 3, 2), torch.randn(2, 3, 224, 224)
    model = network(area=0.4, area_weight=2.0, norm_weight=3.0).eval()
    model.load_state_dict(reference.translated())
    scores, maps = reference(images)
    output = model(images)
    found = model.maps(output, torch.tensor([[4, 0], [1, 1]]))
    assert torch.allclose(output.logits, scores, atol=1e-5)
    assert torch.allclose(found, maps.expand(-1, 2, -1, -1), atol=1e-6)
    terms = model.loss(output, torch.eye(CLASSES)[LABELS])
    smooth = nn.functional.conv2d(maps, reference.weight, padding=1)
    assert torch.allclose(terms["classification"], nn.functional.cross_entropy(scores, LABELS), atol=1e-5)
    assert torch.allclose(terms["area"], 2 * (maps.mean() - 0.4).abs(), atol=1e-6)
    assert torch.allclose(terms["norm"], 3 * (smooth * (1 - smooth)).mean(), atol=1e-6)
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.backbone.loc_token.grad.abs().max() > 0


@torch.no_grad()
def test_with_an_open_gate_and_a_token_that_no_one_attends_to_it_is_deit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    plain, gated, images = ViT(DEIT, **SMALL_VIT).eval(), GatedViT(DEIT, **SMALL_VIT).eval(), torch.randn(2, 3, 64, 96)
    gated.load_state_dict(plain.state_dict(), strict=False)
    assert not torch.allclose(gated(images)["last"], plain(images)["last"], atol=1e-3)
    monkeypatch.setattr(
        "wsol.backbones.vit_gated._gate", lambda heads: torch.ones(len(heads.keys), heads.keys.shape[2])
    )
    monkeypatch.setattr(GatedViT, "_embed", ViT._embed)
    monkeypatch.setattr(GatedViT, "suffix", 0)
    taps = ["blocks.0", "attention", "keys", "affinity", "class", "last"]
    expected, found = plain(images, taps=taps), gated(images, taps=taps)
    for name in taps:
        assert torch.allclose(found[name], expected[name], atol=1e-6), name


@torch.no_grad()
def test_edits_and_points_leave_the_token_out() -> None:
    backbone, images = GatedViT(DEIT, gated_blocks=2, **SMALL_VIT).eval(), torch.randn(1, 3, 48, 32)
    found = backbone(images, taps=["gate", "attention", "keys", "affinity", "blocks.1", "last"])
    shapes = {name: tuple(value.shape[1:]) for name, value in found.items()}
    assert shapes == {
        "gate": (2, 3, 2),
        "attention": (6, 3, 2),
        "keys": (24, 3, 2),
        "affinity": (6, 3, 2),
        "blocks.1": (24, 3, 2),
        "last": (24, 3, 2),
    }
    same = backbone(images, taps=["last"], edits={"blocks.1": nn.Identity()})["last"]
    assert torch.equal(same, found["last"])
    assert torch.allclose(backbone(images, taps=["gate"])["gate"], found["gate"])


def test_the_area_is_that_of_the_whole_batch_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(area=0.5)
    gates = torch.rand(4, 3, 4, 4, requires_grad=True)
    tokens = torch.randn(4, 24, 4, 4)

    def area(part: slice) -> torch.Tensor:
        output = model.head({"last": tokens[part], "gate": gates[part]})
        return model.loss(output, torch.eye(CLASSES)[:1].expand(len(output.logits), -1))["area"]

    whole = area(slice(0, 4))
    (expected,) = torch.autograd.grad(whole, gates)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    halves = []
    for part, other in ((slice(0, 2), slice(2, 4)), (slice(2, 4), slice(0, 2))):
        monkeypatch.setattr(dist, "all_reduce", lambda value, o=other: value.add_(gates[o].detach().mean()))
        halves.append(area(part))
    assert torch.allclose(torch.stack(halves), whole.expand(2), atol=1e-6)
    (found,) = torch.autograd.grad(sum(halves) / 2, gates)
    assert torch.allclose(found, expected)


def test_drop_path_and_autocast_give_finite_gradients() -> None:
    model = Localizer(GatedViT(DEIT, drop_path=0.5, **SMALL_VIT), partial(SatHead), CLASSES).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.randn(2, 3, 64, 64))
        losses = model.loss(output, torch.eye(CLASSES)[LABELS])
    assert model.maps(output, LABELS[:, None]).dtype == torch.float32
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_filter_is_a_gaussian() -> None:
    for side in (1, 3, 5):
        found = gaussian(side)
        assert found.shape == (side, side)
        assert found.sum() == pytest.approx(1)
        assert torch.equal(found, found.T)
    assert gaussian(3)[1, 1] == pytest.approx(0.8054, abs=1e-4)
    assert gaussian(3)[0] == pytest.approx([0.0026, 0.0460, 0.0026], abs=1e-4)


def test_weights_of_the_plain_network_fit(tmp_path) -> None:
    plain = ViT(DEIT, **SMALL_VIT)
    torch.save(plain.state_dict(), tmp_path / "deit.pth")
    gated = GatedViT(DEIT, weights=str(tmp_path / "deit.pth"), **SMALL_VIT)
    assert torch.equal(gated.blocks[2].attn.qkv.weight, plain.blocks[2].attn.qkv.weight)
    assert gated.loc_token.std() > 0.005
    assert {"loc_token", "loc_embed", "cls_token", "pos_embed"} <= gated.no_weight_decay()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"area": 1.5}, r"area: expected a share of the map in \[0, 1\], got 1.5"),
        ({"smooth": 2}, "smooth: expected an odd number of cells, got 2"),
        ({"kernel": 2}, "kernel: expected an odd number of cells, got 2"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SatHead(GatedViT(DEIT, **SMALL_VIT).named_points, CLASSES, **options)


def test_other_refusals() -> None:
    with pytest.raises(InputError, match="gated_blocks: expected 1 to 3, got 4"):
        GatedViT(DEIT, gated_blocks=4, **SMALL_VIT)
    with pytest.raises(InputError, match="an edit cannot be placed at 'gate' of GatedViT, which is read-only"):
        GatedViT(DEIT, **SMALL_VIT)(torch.zeros(1, 3, 32, 32), edits={"gate": nn.Identity()})
    for backbone in ("tiny", "deit_t"):
        with pytest.raises(InputError, match=r"reads the point 'gate', which \w+ does not have.*deit_s_gated"):
            wsol.create_localizer(backbone, method="sat", num_classes=CLASSES)
