r"""DINO attention: the attention of the last block's class token to the patches.

Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", section 4.2: with a_h the softmax
attention of the class token to the patches in head h of the last block, the map is a_h of one head or the mean over all
heads. The paper's masks keep the cells that together hold 60 % of the attention (``mass: 0.6``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.explain.base import ClassAgnosticExplainer
from wsol.explain.patches import read_patches


class DINOAttention(ClassAgnosticExplainer):
    """Attention of the class token of vision transformers; it works best if they were trained without labels (DINO).

    Args:
        heads: ``mean``, or the number of one head, from 0.
        mass: cells outside the smallest set with this share of the attention become 0; None keeps all.
        chunk_size: see `Explainer`.

    Raises:
        InputError: an option out of its range; when called, the network lacks the head or is no vision transformer with
            a class token.

    Example:
        >>> from timm import create_model
        >>> vit = create_model("vit_tiny_patch16_224", depth=2, num_classes=0)
        >>> DINOAttention(heads=1)(vit, torch.randn(2, 3, 224, 224)).shape
        torch.Size([2, 1, 14, 14])
    """

    def __init__(self, heads: str | int = "mean", mass: float | None = None, chunk_size: int | None = None) -> None:
        super().__init__(chunk_size)
        if heads != "mean" and (not isinstance(heads, int) or isinstance(heads, bool) or heads < 0):
            raise InputError(f"heads: expected mean or the number of a head, from 0, got {heads!r}")
        if mass is not None and not 0 < mass <= 1:
            raise InputError(f"mass: expected a share in (0, 1], or null, got {mass!r}")
        self.heads, self.mass = heads, mass

    def object_maps(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return (N, h, w); see `ClassAgnosticExplainer.object_maps`."""
        attention = read_patches(model, images, "attention")
        if isinstance(self.heads, int):
            if self.heads >= attention.shape[1]:
                raise InputError(f"heads={self.heads}: the last block has the heads 0..{attention.shape[1] - 1}")
            found = attention[:, self.heads]
        else:
            found = attention.mean(1)
        return found if self.mass is None else keep_mass(found, self.mass)


def keep_mass(maps: Tensor, mass: float) -> Tensor:
    """Keep the smallest set of the highest cells that has a given share of a map's sum; set the other cells to 0.

    Args:
        maps: float (N, h, w), not negative.
        mass: the share, in (0, 1].

    Example:
        >>> keep_mass(torch.tensor([[[0.5, 0.125, 0.25, 0.125]]]), 0.6).tolist()
        [[[0.5, 0.0, 0.25, 0.0]]]
    """
    values, order = maps.flatten(1).sort(dim=1, descending=True, stable=True)
    before = values.cumsum(1) - values
    kept = before < mass * values.sum(1, keepdim=True)
    found: Tensor = torch.zeros_like(values).scatter_(1, order, values * kept).unflatten(1, maps.shape[1:])
    return found
