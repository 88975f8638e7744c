"""TS-CAM against its network written out token by token, its maps and scores, and what it refuses."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import wsol
from tests.choices import SMALL_VIT
from wsol.backbones.tiny import Tiny
from wsol.backbones.vit import ViT
from wsol.errors import InputError
from wsol.heads.tscam import TscamHead
from wsol.models.localizer import Localizer

CLASSES = 5
POINTS = ViT("deit_tiny_patch16_224", **SMALL_VIT).named_points


def network(**options) -> Localizer:
    torch.manual_seed(0)
    model = Localizer(ViT("deit_tiny_patch16_224", **SMALL_VIT), partial(TscamHead, **options), CLASSES).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def written_out(model: Localizer, images: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (N, K) and maps (N, K, 14, 14) of 224-pixel images, as Gao et al. compute them."""
    net, state = model.backbone, model.state_dict()
    x = F.conv2d(images, state["backbone.patch_embed.proj.weight"], state["backbone.patch_embed.proj.bias"], stride=16)
    x = torch.cat([net.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1) + net.pos_embed
    attention = torch.zeros(len(x), 197, 197)
    for block in net.blocks:
        qkv = block.attn.qkv(block.norm1(x)).reshape(len(x), 197, 3, 2, 12).permute(2, 0, 3, 1, 4)
        weights = (qkv[0] @ qkv[1].transpose(-2, -1) * 12**-0.5).softmax(-1)
        x = x + block.attn.proj((weights @ qkv[2]).transpose(1, 2).reshape(len(x), 197, 24))
        x = x + block.mlp(block.norm2(x))
        attention = attention + weights.mean(1)
    patches = net.norm(x)[:, 1:].reshape(len(x), 14, 14, 24).permute(0, 3, 1, 2)
    semantic = F.conv2d(patches, state["head.classifier.weight"], state["head.classifier.bias"], padding=1)
    return semantic.mean((2, 3)), attention[:, 0, 1:].reshape(len(x), 1, 14, 14) * semantic


@torch.no_grad()
def test_it_is_the_network_of_the_paper() -> None:
    model, images = network(), torch.randn(2, 3, 224, 224)
    scores, maps = written_out(model, images)
    output = model(images)
    classes = torch.tensor([[4, 0, 2], [1, 1, 3]])
    found = model.maps(output, classes)
    expected = torch.stack([maps[image, asked] for image, asked in enumerate(classes)])
    assert (output.logits - scores).abs().max() < 1e-5 * scores.abs().max()
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert found.dtype == output.logits.dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_map_is_the_product_of_its_factors_and_a_score_the_mean_of_a_semantic_map(kernel: int) -> None:
    images, classes = torch.randn(2, 3, 64, 96), torch.arange(CLASSES).expand(2, -1)
    found = {}
    for which in ("product", "attention", "semantic"):
        model = network(map=which, kernel=kernel)
        output = model(images)
        found[which] = model.maps(output, classes)
        assert found[which].shape == (2, CLASSES, 4, 6)
    assert torch.allclose(found["product"], found["attention"] * found["semantic"], atol=1e-6)
    assert torch.allclose(found["semantic"].mean((2, 3)), output.logits, atol=1e-5)
    assert torch.equal(found["attention"][:, :1].expand_as(found["attention"]), found["attention"])
    blocks = model.backbone(images, taps=["attention"])["attention"].unflatten(1, (3, 2))
    assert torch.allclose(found["attention"][:, 0], blocks.mean(2).sum(1), atol=1e-6)


def test_attention_has_no_part_in_the_scores_and_every_parameter_learns() -> None:
    model = network().train()
    output = model(torch.randn(2, 3, 32, 32))
    assert output.state["attention"].shape == (2, 2, 2)
    (gradient,) = torch.autograd.grad(
        output.logits.sum(), output.state["attention"], allow_unused=True, retain_graph=True
    )
    assert gradient is None
    losses = model.loss(output, torch.eye(CLASSES)[:2])
    assert list(losses) == ["classification"]
    losses["classification"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.freeze_unused() == []


@torch.no_grad()
def test_under_autocast_maps_stay_float32() -> None:
    model, images = network(), torch.randn(1, 3, 64, 64)
    classes = torch.tensor([[0, 1]])
    single = model.maps(model(images), classes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(images)
        half = model.maps(output, classes)
    assert half.dtype == output.logits.dtype == torch.float32
    assert (half - single).abs().mean() < 0.1 * single.std()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map": "produkt"}, "unknown map 'produkt': did you mean 'product'"),
        ({"kernel": 2}, "kernel: expected an odd number of cells, got 2"),
        ({"point": "layer4"}, "unknown point 'layer4'"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TscamHead(POINTS, CLASSES, **options)


def test_a_network_without_attention_is_refused() -> None:
    with pytest.raises(InputError, match="unknown point 'attention'"):
        Localizer(Tiny(), partial(TscamHead), CLASSES)
    with pytest.raises(InputError, match=r"method.head reads the point 'attention', which Tiny does not have.*deit_s"):
        wsol.create_localizer("tiny", method="tscam", num_classes=CLASSES)
