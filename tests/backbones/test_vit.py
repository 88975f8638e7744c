"""The ViT against timm's own forward pass and against attention written out, and what it refuses."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from tests.choices import SMALL_VIT, choices, load_choice
from wsol.backbones.vit import ViT
from wsol.config import build
from wsol.errors import InputError

SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 2}
DEIT = "deit_tiny_patch16_224"
REGISTERS = "vit_small_patch14_reg4_dinov2.lvd142m"
NAMES = [DEIT, "deit_tiny_distilled_patch16_224", "vit_small_patch16_224.dino", REGISTERS, "vit_small_patch14_dinov2"]


def lively(network: nn.Module) -> nn.Module:
    """The network with all its parameters moved, tokens, positions and layer scales among them."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


def pair(name: str, tmp_path, **options) -> tuple[ViT, nn.Module]:
    """The backbone with the weights of a file of timm's whole model, classifier and all, and that model."""
    whole = lively(timm.create_model(name, dynamic_img_size=True, num_classes=7, **SMALL))
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    return ViT(name, **SMALL_VIT, weights=str(tmp_path / "weights.pth"), **options).eval(), whole


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-5 * b.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cells", [(None, None), (3, 5)], ids=["native", "3x5"])
def test_tokens_and_scores_are_those_of_timm(name: str, cells, tmp_path) -> None:
    backbone, whole = pair(name, tmp_path)
    rows, columns = (backbone.patch_embed.grid_size[i] if cells[i] is None else cells[i] for i in (0, 1))
    images = torch.randn(1, 3, rows * backbone.patch, columns * backbone.patch)
    features = backbone(images, taps=["last", "class", "blocks.1"])
    tokens = whole.forward_features(images)
    patches = tokens[:, whole.num_prefix_tokens :].transpose(1, 2).unflatten(2, (rows, columns))
    assert close(features["last"], patches)
    assert close(features["class"][:, :, 0, 0], tokens[:, 0])
    assert close(features["blocks.1"], whole.forward_intermediates(images, indices=[1], intermediates_only=True)[0])
    if "distilled" not in name:
        assert close(whole.head(features["class"].flatten(1)), whole(images))


@torch.no_grad()
@pytest.mark.parametrize("name", [DEIT, "deit_tiny_distilled_patch16_224", REGISTERS])
def test_attention_keys_and_affinity_are_those_inside_the_blocks(name: str, tmp_path) -> None:
    backbone, whole = pair(name, tmp_path, affinity_blocks=2)
    rows, columns, prefix, inputs = 3, 4, whole.num_prefix_tokens, []
    images = torch.randn(2, 3, rows * backbone.patch, columns * backbone.patch)
    for block in whole.blocks:
        block.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    whole(images)
    attention, keys = [], []
    for x, block in zip(inputs, whole.blocks, strict=True):
        q, k, _ = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)
        for head in range(2):
            part = slice(head * 12, head * 12 + 12)
            attention.append((q[..., part] @ k[..., part].transpose(1, 2) / 12**0.5).softmax(-1))
        keys.append(k)
    features = backbone(images, taps=["affinity", "last", "attention", "keys"])
    assert list(features) == ["affinity", "last", "attention", "keys"]
    rows_of_class = torch.stack([one[:, 0, prefix:].unflatten(1, (rows, columns)) for one in attention], 1)
    assert close(features["attention"], rows_of_class)
    assert close(features["keys"], keys[-1][:, prefix:].transpose(1, 2).unflatten(2, (rows, columns)))
    between = torch.stack([one[:, prefix:, prefix:] for one in attention[2:]]).mean(0)
    assert close(features["affinity"], between.unflatten(2, (rows, columns)))
    assert close(features["last"], backbone(images)["last"])


def test_attention_is_computed_only_where_it_is_tapped(monkeypatch) -> None:
    backbone = ViT(DEIT, **SMALL_VIT).eval()
    calls = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, *args: calls.append(x.shape) or softmax(x, *args))
    images = torch.zeros(1, 3, 32, 32)
    backbone(images, taps=["last", "class", "keys"])
    assert calls == []
    backbone(images, taps=["last", "attention"])
    assert calls == [(1, 2, 1, 5)] * 3


@pytest.mark.parametrize(
    ("taps", "edits", "unused"),
    [
        (["attention"], [], ["blocks.2.attn.proj", "blocks.2.norm2", "blocks.2.mlp", "norm."]),
        (["keys", "blocks.0"], [], ["blocks.2.attn.proj", "blocks.2.norm2", "blocks.2.mlp", "norm."]),
        (["blocks.2", "affinity"], [], ["norm."]),
        (["blocks.0"], ["blocks.1"], ["blocks.2.", "norm."]),
        (["class"], [], []),
        (["last", "attention"], [], []),
    ],
)
def test_it_stops_behind_the_last_point_that_is_needed(taps, edits, unused) -> None:
    backbone = lively(ViT(DEIT, **SMALL_VIT))
    named = set(backbone.unused_parameters(taps, edits))
    assert named == {name for name, _ in backbone.named_parameters() if name.startswith(tuple(unused))}
    values = backbone(torch.randn(1, 3, 32, 32), taps=taps, edits={name: nn.Identity() for name in edits})
    sum(value.square().sum() for value in values.values()).backward()
    without = {name for name, parameter in backbone.named_parameters() if parameter.grad is None}
    assert without == named | {name for name in without if edits and name.startswith("blocks.1.")}


def test_drop_path_skips_blocks_in_training_only() -> None:
    backbone = lively(ViT(DEIT, **SMALL_VIT, drop_path=0.5))
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(backbone(images)["last"], backbone(images)["last"])
    backbone.train()
    for taps in (["last"], ["last", "attention"]):
        seen = [backbone(images, taps=taps)["last"] for _ in range(12)]
        assert any(not torch.equal(seen[0], other) for other in seen)


def test_tokens_and_positions_are_not_decayed() -> None:
    tokens = {"cls_token", "pos_embed"}
    assert ViT(DEIT, **SMALL_VIT).no_weight_decay() == tokens
    assert ViT(REGISTERS, **SMALL_VIT).no_weight_decay() == {*tokens, "reg_token"}
    assert ViT("deit_tiny_distilled_patch16_224", **SMALL_VIT).no_weight_decay() == {*tokens, "dist_token"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "deit_tinny"}, "timm has no model 'deit_tinny': did you mean"),
        ({"name": "eva02_tiny_patch14_224"}, "not a plain ViT.*backbone=timm"),
        ({"name": DEIT, "width": 25, "heads": 2}, "width, depth and heads.*divisible"),
        ({"name": DEIT, "drop_path": 1.0}, "drop_path: expected a probability"),
        ({"name": DEIT, **SMALL_VIT, "affinity_blocks": 4}, "affinity_blocks: expected 1 to 3 or null"),
        ({"name": DEIT, **SMALL_VIT, "output_stride": 8}, "output_stride 8 is not possible.*expected one of 16"),
        ({"name": DEIT, **SMALL_VIT, "weights": "nowhere.pth"}, "no such file"),
    ],
)
def test_bad_arguments_are_refused(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        ViT(**arguments)


def test_weights_of_another_model_are_refused(tmp_path) -> None:
    torch.save(timm.create_model(DEIT, **{**SMALL, "depth": 2}).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"do not fit ViT: 12 missing keys \(blocks.2"):
        ViT(DEIT, **SMALL_VIT, weights=str(tmp_path / "weights.pth"))


def test_failed_download_says_what_to_do(monkeypatch) -> None:
    def fail(*_, **__):
        raise FileNotFoundError("no network")

    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(InputError, match=r"download failed.*path"):
        ViT(DEIT, weights="pretrained")


@pytest.mark.parametrize(
    ("choice", "channels", "stride", "rows", "size"),
    [
        ("deit_t", 192, 16, 36, 224),
        ("deit_s", 384, 16, 72, 224),
        ("deit_b", 768, 16, 144, 224),
        ("vit_s16_dino", 384, 16, 72, 224),
        ("dinov2_s14", 384, 14, 72, 518),
    ],
)
def test_shipped_files_are_the_published_networks(choice, channels, stride, rows, size) -> None:
    with torch.device("meta"):
        backbone = build.instantiate(load_choice("backbone", choice), "backbone")
    assert backbone.points["last"] == (channels, stride, 1)
    assert backbone.points["attention"] == (rows, stride, 12)
    assert backbone.preprocessing.size == size
    assert list(backbone.aliases.values()) == ["blocks.3", "blocks.7", "blocks.11"]
    assert choice in choices("backbone")
