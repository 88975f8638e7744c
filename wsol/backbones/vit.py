"""Vision transformers: DeiT, DINO, DINOv2 and other plain ViTs of timm, with attention, keys and tokens as points.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"; Touvron et al. 2021 (DeiT); Caron et al. 2021 (DINO); Oquab et
al. 2023 (DINOv2).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from timm.layers import Attention, resample_abs_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from wsol.backbones.base import Backbone, Stage, lower_strides
from wsol.backbones.weights import INTERPOLATIONS, choose_preprocessing
from wsol.errors import InputError, near_matches
from wsol.types import FeatureInfo, Preprocessing

ATTENTION = ("attention", "keys", "affinity")
"""Points computed from the queries and keys inside the blocks."""
TOKENS = ("cls_token", "dist_token", "reg_token")
"""Learned tokens before the patches, in their order."""


class Heads(NamedTuple):
    """Queries, keys and values of a block, each (N, H, T, D) for H heads and T tokens."""

    queries: Tensor
    keys: Tensor
    values: Tensor


class ViT(Backbone):
    """A ViT on timm's modules. Parameters keep timm's names, so files of its weights load strictly.

    Points: ``blocks.0`` ... are the patch tokens (N, C, h, w) after each block, ``norm`` or ``last`` those after the
    final norm. Class, distillation and register tokens are not part of a map. These points are read-only:

    * ``attention`` (N, L H, h, w): softmax attention of the class token to the patches, in float32, for each of the H
      heads of each of the L blocks, the first block's heads first; only this row of the attention is computed;
    * ``keys`` (N, C, h, w): keys of the last block, its heads one after the other;
    * ``affinity`` (N, h w, h, w): softmax attention between patches, averaged over heads and blocks, in float32;
      channel i is the attention of patch i (row by row);
    * ``class`` (N, C, 1, 1): the class token after the final norm.

    Images may have any size whose sides are multiples of the patch size: the position embedding is interpolated as timm
    does for ``dynamic_img_size``.

    Args:
        name: timm's name of the model (``deit_small_patch16_224``, ``vit_small_patch16_224.dino``).
        width: number of channels C of the tokens; None for the name's.
        depth: number of blocks L; None for the name's.
        heads: number of heads H; None for the name's.
        drop_path: probability of skipping the last block in training; it increases linearly from 0 at the first block.
        affinity_blocks: number of last blocks that ``affinity`` averages; None for all.
        output_stride: side of the patches in pixels, or None: a ViT cannot change it.
        weights: ``pretrained`` (timm's, downloaded and cached), path to a state dict, or None for random weights. A
            classifier in them is ignored.
        preprocessing: entries that replace those of the model's pretrained config.

    Raises:
        InputError: an unknown name, a model that is not a plain ViT, an option out of its range, or weights that do not
            fit.

    Example:
        >>> backbone = ViT("deit_tiny_patch16_224", width=24, depth=2, heads=2)
        >>> features = backbone(torch.zeros(1, 3, 64, 96), taps=["last", "attention"])
        >>> {name: tuple(value.shape) for name, value in features.items()}
        {'last': (1, 24, 4, 6), 'attention': (1, 4, 4, 6)}
    """

    pretrained = "pretrained"
    dropped = ("head.", "head_dist.")
    read_only: tuple[str, ...] = (*ATTENTION, "class")
    reruns = False
    suffix = 0
    """Number of tokens after the patches."""

    def __init__(
        self,
        name: str,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        drop_path: float = 0.0,
        affinity_blocks: int | None = None,
        output_stride: int | None = None,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise InputError(f"drop_path: expected a probability in [0, 1), got {drop_path}")
        sizes = {"embed_dim": width, "depth": depth, "num_heads": heads}
        network = _build(name, weights == "pretrained", sizes, drop_path)
        self.patch: int = network.patch_embed.patch_size[0]
        lower_strides([self.patch], output_stride, fixed=1, network=f"timm's {name}")
        self.cls_token = network.cls_token
        self.dist_token = getattr(network, "dist_token", None)
        self.reg_token = network.reg_token
        self.pos_embed = network.pos_embed
        self.patch_embed, self.norm_pre = network.patch_embed, network.norm_pre
        self.blocks, self.norm = network.blocks, network.norm
        self.prefix: int = network.num_prefix_tokens
        """Number of tokens before the patches; the first is the class token."""
        self.embeds_prefix = not network.no_embed_class
        """Whether the position embedding has entries for them."""
        blocks = len(self.blocks)
        if affinity_blocks is not None and not 1 <= affinity_blocks <= blocks:
            raise InputError(f"affinity_blocks: expected 1 to {blocks} or null for all, got {affinity_blocks}")
        self.affinity_blocks = blocks if affinity_blocks is None else affinity_blocks
        self.min_size = self.multiple = self.patch
        self._declare(network.embed_dim, blocks, blocks * network.blocks[0].attn.num_heads)
        self.preprocessing = _preprocessing(network)
        if weights == "pretrained":
            self.preprocessing = choose_preprocessing(self.preprocessing, preprocessing)
        else:
            self.load(weights, None, preprocessing)

    def _declare(self, channels: int, blocks: int, rows: int) -> None:
        """Declare the forward pass, and put the read-only points before ``last``."""
        names = [f"blocks.{index}" for index in range(blocks)]
        aliases = [names[-(-blocks * third // 3) - 1] for third in (1, 2, 3)]
        self.declare([Stage(name, (name,), channels, self.patch) for name in (*names, "norm")], aliases)
        last = {name: self.points.pop(name) for name in ("norm", "last")}
        self.points["attention"] = FeatureInfo(rows, self.patch, groups=blocks)
        self.points["keys"] = FeatureInfo(channels, self.patch)
        self.points["affinity"] = FeatureInfo(0, self.patch)
        self.points["class"] = FeatureInfo(channels, 0)
        self.points.update(last)

    def initialise(self) -> None:
        """Keep timm's random initialisation."""

    def no_weight_decay(self) -> set[str]:
        """Return the names of the tokens and of the position embedding."""
        return {name for name, _ in self.named_parameters(recurse=False)}

    def forward(
        self, images: Tensor, taps: Sequence[str] = (), edits: Mapping[str, nn.Module] | None = None
    ) -> dict[str, Tensor]:
        """Run the network as far as necessary; see `Backbone.forward`."""
        self._check(images)
        wanted = {name: self.resolve(name) for name in taps or ("last",)}
        replaced, asked = self.place(edits or {}), set(wanted.values())
        stop = self._stop(asked, replaced)
        x, (height, width) = self._embed(images)
        seen: dict[str, Tensor] = {}
        parts: dict[str, list[Tensor]] = {}
        for index, block in enumerate(self.blocks):
            name = f"blocks.{index}"
            read = self._read(index, asked)
            heads = self._look(_project(block, x), read, parts) if read else None
            if stop == "queries" and index == len(self.blocks) - 1:
                break
            x = _finish(block, x, heads) if heads else block(x)
            if name in replaced:
                x = self._edited(x, replaced[name], height, width)
            if name in asked:
                seen[name] = self._map(x, height, width)
            if name == stop:
                break
        seen.update({point: self._joined(point, made).unflatten(2, (height, width)) for point, made in parts.items()})
        if stop == "norm":
            x = self.norm(x)
            if "norm" in replaced:
                x = self._edited(x, replaced["norm"], height, width)
            seen["norm"], seen["class"] = self._map(x, height, width), x[:, 0, :, None, None]
        return {name: seen[point] for name, point in wanted.items()}

    def unused_parameters(self, taps: Sequence[str] = (), edits: Iterable[str] = ()) -> dict[str, nn.Parameter]:
        """Return the parameters that do not affect the features at ``taps``; see `Backbone.unused_parameters`."""
        stop = self._stop([self.resolve(name) for name in taps or ("last",)], [self.resolve(name) for name in edits])
        order = self._order()
        paths = [f"{name}." for name in order[order.index(stop) + 1 :] if name != "queries"]
        last = f"{order[-2]}."
        used = (f"{last}norm1.", f"{last}attn.qkv.") if stop == "queries" else ()
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if name.startswith(tuple(paths)) and not name.startswith(used)
        }

    def _order(self) -> list[str]:
        """Return where a forward pass can stop, in order; ``queries`` is inside the last block."""
        *blocks, last = (f"blocks.{index}" for index in range(len(self.blocks)))
        return [*blocks, "queries", last, "norm"]

    def _stop(self, taps: Iterable[str], edits: Iterable[str]) -> str:
        """Return where the forward pass can stop for the given points."""
        inside = {**dict.fromkeys(self.read_only, "queries"), "class": "norm"}
        return max((inside.get(name, name) for name in (*taps, *edits)), key=self._order().index)

    def _first(self, point: str) -> int:
        """Return the index of the first block that a point of `ATTENTION` uses."""
        return {"attention": 0, "keys": len(self.blocks) - 1, "affinity": len(self.blocks) - self.affinity_blocks}[
            point
        ]

    def _read(self, index: int, asked: Collection[str]) -> list[str]:
        """Return those of the points ``asked`` that need the queries and keys of block ``index``."""
        return [point for point in ATTENTION if point in asked and index >= self._first(point)]

    def _look(self, heads: Heads, read: Collection[str], parts: dict[str, list[Tensor]]) -> Heads:
        """Add a block's part (N, channels, patches) of each point in ``read``; return the heads for its attention."""
        patches = slice(self.prefix, heads.keys.shape[2] - self.suffix)
        if "attention" in read:
            parts.setdefault("attention", []).append(_softmax(heads.queries[:, :, :1], heads.keys)[:, :, 0, patches])
        if "affinity" in read:
            weights = _softmax(heads.queries[:, :, patches], heads.keys)
            parts.setdefault("affinity", []).append(weights[..., patches].mean(1))
        if "keys" in read:
            parts.setdefault("keys", []).append(heads.keys[:, :, patches].transpose(2, 3).flatten(1, 2))
        return heads

    def _joined(self, point: str, parts: list[Tensor]) -> Tensor:
        """Return a point (N, channels, patches) from its parts in the order of the blocks."""
        return torch.stack(parts).mean(0) if point == "affinity" else torch.cat(parts, 1)

    def _embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the input tokens (N, T, C) of the first block, and the numbers of rows and columns of patches."""
        patches = self.patch_embed(images)
        count, height, width, _ = patches.shape
        embedding = resample_abs_pos_embed(
            self.pos_embed,
            new_size=[height, width],
            old_size=self.patch_embed.grid_size,
            num_prefix_tokens=self.prefix if self.embeds_prefix else 0,
        )
        patches = patches.flatten(1, 2) if self.embeds_prefix else patches.flatten(1, 2) + embedding
        learned = [token for name in TOKENS if (token := getattr(self, name)) is not None]
        x = torch.cat([*(token.expand(count, -1, -1) for token in learned), patches], 1)
        return self.norm_pre(x + embedding if self.embeds_prefix else x), (height, width)

    def _map(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return the patches among tokens (N, T, C) as (N, C, h, w)."""
        patches = tokens[:, self.prefix : tokens.shape[1] - self.suffix]
        found: Tensor = patches.transpose(1, 2).unflatten(2, (height, width))
        return found

    def _edited(self, tokens: Tensor, edit: nn.Module, height: int, width: int) -> Tensor:
        """Return the tokens (N, T, C) with their patches replaced by the edit's output."""
        patches: Tensor = edit(self._map(tokens, height, width)).flatten(2).transpose(1, 2)
        behind = tokens[:, tokens.shape[1] - self.suffix :]
        return torch.cat([tokens[:, : self.prefix], patches.to(tokens.dtype), behind], 1)


def _project(block: Any, x: Tensor) -> Heads:
    """Return queries, keys and values of tokens (N, T, C)."""
    qkv = block.attn.qkv(block.norm1(x)).unflatten(2, (3, block.attn.num_heads, -1))
    return Heads(*qkv.permute(2, 0, 3, 1, 4).unbind(0))


def _finish(block: Any, x: Tensor, heads: Heads) -> Tensor:
    """Return a block's output for tokens (N, T, C), given its queries, keys and values."""
    attention = block.attn
    dropout = attention.attn_drop.p if block.training else 0.0
    mixed = F.scaled_dot_product_attention(*heads, dropout_p=dropout).transpose(1, 2).flatten(2)
    x = x + block.drop_path1(block.ls1(attention.proj_drop(attention.proj(mixed))))
    found: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
    return found


def _softmax(queries: Tensor, keys: Tensor) -> Tensor:
    """Return attention float32 (N, H, Q, T) of queries (N, H, Q, D) to keys (N, H, T, D), also under autocast."""
    with torch.autocast(queries.device.type, enabled=False):
        scores = (queries.float() * queries.shape[-1] ** -0.5) @ keys.float().transpose(-2, -1)
        found: Tensor = scores.softmax(-1)
        return found


def _build(name: str, pretrained: bool, sizes: Mapping[str, int | None], drop_path: float) -> Any:
    """Make the timm model.

    Raises:
        InputError: an unknown name, not a plain ViT, weights that cannot be loaded, or sizes that do not fit.
    """
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models("*vit*") + timm.list_models("deit*"), n=5, cutoff=0.4)
        raise InputError(f"timm has no model {name!r}: {near_matches(name, close)} (all: timm.list_models())")
    given = {key: value for key, value in sizes.items() if value is not None}
    arguments: dict[str, Any] = {**given, "drop_path_rate": drop_path, "dynamic_img_size": True}
    try:
        network = timm.create_model(name, pretrained=pretrained, **arguments)
    except OSError as error:
        raise InputError(
            f"weights of timm's {name}: download failed ({error}). Download them otherwise and set the path, or null"
        ) from error
    except (RuntimeError, AssertionError, TypeError, ValueError, KeyError) as error:
        raise InputError(f"timm cannot make {name} with width, depth and heads {given}: {error}") from error
    if not _is_plain(network):
        raise InputError(
            f"timm's {name} is not a plain ViT with a class token, learned positions and a final norm: choose a model "
            "such as deit_small_patch16_224, or backbone=timm"
        )
    return network


def _is_plain(network: Any) -> bool:
    """Return whether the forward pass of `ViT` equals that of timm's model."""
    if not isinstance(network, VisionTransformer) or network.cls_token is None or network.pos_embed is None:
        return False
    attentions = [getattr(block, "attn", None) for block in network.blocks]
    plain = all(type(block) is Block for block in network.blocks) and all(type(a) is Attention for a in attentions)
    extra = [getattr(a, part, None) for a in attentions for part in ("q_norm", "k_norm", "norm", "gate")]
    sides = set(network.patch_embed.patch_size)
    return (
        plain
        and all(part is None or isinstance(part, nn.Identity) for part in extra)
        and not isinstance(network.norm, nn.Identity)
        and len(sides) == 1
    )


def _preprocessing(network: nn.Module) -> Preprocessing:
    expected = resolve_model_data_config(network)
    return Preprocessing(
        mean=tuple(expected["mean"]),
        std=tuple(expected["std"]),
        size=expected["input_size"][1],
        interpolation=expected["interpolation"] if expected["interpolation"] in INTERPOLATIONS else "bicubic",
    )
