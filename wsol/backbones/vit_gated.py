r"""A vision transformer with a spatial-aware token, whose attention gates that of the other tokens (SAT).

Wu et al., "Spatial-Aware Token for Weakly Supervised Object Localization", ICCV 2023. A learned token t with a learned
position follows the patches. In each of the last blocks, with its queries, keys and values Q, K, V (of H heads with D
channels each)::

    m_j = sigmoid(1/H sum_h q_t^h . k_j^h / sqrt(D))        for every token j
    attention of i to j: softmax_j(q_i . k_j / sqrt(D)) m_j     not normalised to a sum of 1

Multiplying the attention to j by m_j is the same as multiplying the value of j by it, so fused attention can be used.
As in the released code, m gates all tokens, including the class token and t itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wsol.backbones.vit import Heads, ViT
from wsol.errors import InputError
from wsol.types import FeatureInfo


class GatedViT(ViT):
    """A ViT with one more token after the patches, which gates the last blocks.

    Its points are those of `ViT` and ``gate`` (N, G, h, w): m at the patches, in (0, 1), float32, of each of the G
    gated blocks; it is read-only. ``attention`` and ``affinity`` are softmax attention before the gate. A file of
    the plain ViT's weights fits; the token and its position are then initialised randomly.

    Args:
        name: timm's name of the model.
        gated_blocks: number G of last blocks that are gated.
        width: number of channels C of the tokens; see `ViT` for this and the following arguments.
        depth: number of blocks L.
        heads: number of heads H.
        drop_path: rate of stochastic depth.
        affinity_blocks: number of last blocks that ``affinity`` averages.
        output_stride: None, or the patch size.
        weights: weights of the plain ViT or of this network.
        preprocessing: entries that replace those of the model's pretrained config.

    Raises:
        InputError: see `ViT`; or ``gated_blocks`` is out of its range.

    Example:
        >>> backbone = GatedViT("deit_tiny_patch16_224", gated_blocks=2, width=24, depth=3, heads=2)
        >>> features = backbone(torch.zeros(1, 3, 64, 96), taps=["last", "gate"])
        >>> {name: tuple(value.shape) for name, value in features.items()}
        {'last': (1, 24, 4, 6), 'gate': (1, 2, 4, 6)}
    """

    read_only = (*ViT.read_only, "gate")
    suffix = 1
    optional = ("loc_token", "loc_embed")

    def __init__(
        self,
        name: str,
        gated_blocks: int = 3,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        drop_path: float = 0.0,
        affinity_blocks: int | None = None,
        output_stride: int | None = None,
        weights: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        of_timm = weights if weights == self.pretrained else None
        super().__init__(name, width, depth, heads, drop_path, affinity_blocks, output_stride, of_timm, preprocessing)
        if not 1 <= gated_blocks <= len(self.blocks):
            raise InputError(f"gated_blocks: expected 1 to {len(self.blocks)}, got {gated_blocks}")
        self.gated_blocks = gated_blocks
        channels = self.points["last"].channels
        self.loc_token, self.loc_embed = (
            nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, channels), std=0.02)) for _ in range(2)
        )
        last = {point: self.points.pop(point) for point in ("norm", "last")}
        self.points["gate"] = FeatureInfo(gated_blocks, self.patch, groups=gated_blocks)
        self.points.update(last)
        if weights not in (None, self.pretrained):
            self.load(weights, None, preprocessing)

    def _read(self, index: int, asked: Collection[str]) -> list[str]:
        gated = index >= len(self.blocks) - self.gated_blocks
        return [*super()._read(index, asked), *["gate"] * gated]

    def _look(self, heads: Heads, read: Collection[str], parts: dict[str, list[Tensor]]) -> Heads:
        heads = super()._look(heads, read, parts)
        if "gate" not in read:
            return heads
        gate = _gate(heads)
        parts.setdefault("gate", []).append(gate[:, None, self.prefix : gate.shape[1] - self.suffix])
        return heads._replace(values=heads.values * gate[:, None, :, None].to(heads.values.dtype))

    def _embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        tokens, size = super()._embed(images)
        own = (self.loc_token + self.loc_embed).expand(tokens.shape[0], -1, -1)
        return torch.cat([tokens, own.to(tokens.dtype)], 1), size


def _gate(heads: Heads) -> Tensor:
    """Return the gate m float32 (N, T) of the last token, also under autocast."""
    with torch.autocast(heads.keys.device.type, enabled=False):
        query, keys = heads.queries[:, :, -1].float(), heads.keys.float()
        scores = torch.einsum("nhd,nhtd->nht", query * query.shape[-1] ** -0.5, keys)
        found: Tensor = scores.mean(1).sigmoid()
        return found
