"""Read keys, attention and tokens of a vision transformer's patches, as maps, for explainers.

In a localizer they are points of its backbone (`wsol.backbones.vit.ViT`). In a plain ViT of timm or torchvision, they
are computed from the input of the last block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import VisionTransformer as TorchvisionTransformer

from wsol.backbones.base import Backbone
from wsol.backbones.vit import ViT
from wsol.errors import InputError

Point = Literal["keys", "attention", "last"]


def read_patches(model: nn.Module, images: Tensor, point: Point) -> Tensor:
    """Read one point of a vision transformer.

    Args:
        model: a localizer, or a classifier of timm or torchvision.
        images: float (N, 3, H, W), normalised.
        point: ``keys`` of the last block, its heads one after the other, before any norm of queries and keys;
            ``attention``, softmax attention of the class token in the last block, a channel for each head; or ``last``,
            the patch tokens after the final norm.

    Returns:
        float (N, C, h, w); class, distillation and register tokens are left out.

    Raises:
        InputError: the network is no vision transformer.

    Example:
        >>> import timm, torch
        >>> vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=0).eval()
        >>> images = torch.zeros(1, 3, 224, 224)
        >>> read_patches(vit, images, "keys").shape, read_patches(vit, images, "attention").shape
        (torch.Size([1, 192, 14, 14]), torch.Size([1, 3, 14, 14]))
    """
    backbone = getattr(model, "backbone", None)
    if isinstance(backbone, ViT):
        edits = {name.replace("/", "."): edit for name, edit in getattr(model, "edits", nn.ModuleDict()).items()}
        found = backbone(images, taps=(point,), edits=edits)[point]
        of_last_block: Tensor = found[:, -backbone.points[point].channels // backbone.points[point].groups :]
        return of_last_block
    network = getattr(backbone, "network", None) if isinstance(backbone, Backbone) else model
    if isinstance(network, VisionTransformer):
        return _of_timm(network, images, point)
    if isinstance(network, TorchvisionTransformer):
        return _of_torchvision(network, images, point)
    what = type(backbone if isinstance(backbone, Backbone) else model).__name__
    raise InputError(
        f"{what} has no attention: this explainer reads the {point} of a vision transformer. Choose a run with such a "
        "backbone (deit_t, deit_s, deit_b, vit_s16_dino, dinov2_s14), or a ViT of timm or torchvision "
        "(model=timm name=vit_small_patch16_224.dino)"
    )


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the inputs of a module."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _of_timm(network: Any, images: Tensor, point: Point) -> Tensor:
    attention = network.blocks[-1].attn
    if point != "last" and not isinstance(attention, Attention):
        raise InputError(f"timm's {type(network).__name__} has blocks without queries and keys: choose a plain ViT")
    with _inputs_of(attention) as seen:
        tokens = network.forward_features(images)
    prefix, side = network.num_prefix_tokens, network.patch_embed.patch_size
    size = images.shape[2] // side[0], images.shape[3] // side[1]
    if point == "last":
        return _as_map(tokens[:, prefix:], size)
    qkv = attention.qkv(seen[0]).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    queries, keys = qkv[0], qkv[1]
    if point == "keys":
        return _as_map(keys.transpose(1, 2).flatten(2)[:, prefix:], size)
    if not prefix:
        raise InputError(f"timm's {type(network).__name__} has no class token, so it has no attention map")
    return _class_attention(attention.q_norm(queries[:, :, :1]), attention.k_norm(keys), prefix, size)


def _of_torchvision(network: TorchvisionTransformer, images: Tensor, point: Point) -> Tensor:
    attention = network.encoder.layers[-1].self_attention
    last: list[Tensor] = []
    handle = network.encoder.ln.register_forward_hook(lambda _module, _inputs, out: last.append(out))
    try:
        with _inputs_of(attention) as seen:
            network(images)
    finally:
        handle.remove()
    size = images.shape[2] // network.patch_size, images.shape[3] // network.patch_size
    if point == "last":
        return _as_map(last[0][:, 1:], size)
    projected = nn.functional.linear(seen[0], attention.in_proj_weight, attention.in_proj_bias)
    qkv = projected.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    if point == "keys":
        return _as_map(qkv[1].transpose(1, 2).flatten(2)[:, 1:], size)
    return _class_attention(qkv[0][:, :, :1], qkv[1], 1, size)


def _as_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Return tokens (N, h w, C) as (N, C, h, w)."""
    found: Tensor = tokens.transpose(1, 2).unflatten(2, size)
    return found


def _class_attention(queries: Tensor, keys: Tensor, prefix: int, size: tuple[int, int]) -> Tensor:
    """Return softmax attention (N, H, h, w) of queries (N, H, 1, D) to keys (N, H, T, D)."""
    weights = ((queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)).softmax(-1)
    found: Tensor = weights[:, :, 0, prefix:].unflatten(2, size)
    return found
