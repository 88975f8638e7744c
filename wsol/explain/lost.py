r"""LOST: a seed patch that is similar to few others, and the patches that are similar to the seed and its helpers.

Siméoni et al. 2021, "Localizing Objects with Self-Supervised Transformers and no Labels" (BMVC), section 3. With k_p
the key of patch p in the last block, and A = k k^T::

    d_p  = #{q != p : A_pq > 0}                               degree
    seed = argmin_p d_p
    S    = {the k patches of lowest degree with A[seed] > 0}  helpers, the seed among them
    m_p  = sum_{s in S} A_sp
    map  = m where m > 0 and p is in the seed's 4-connected component, else 0

The paper's box encloses all cells above 0. Patches of equal degree are ordered row by row.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from wsol.errors import InputError, unknown
from wsol.explain.base import ClassAgnosticExplainer
from wsol.explain.patches import read_patches
from wsol.functional.components import component_of

MAPS = ("component", "similarity")


class LOST(ClassAgnosticExplainer):
    """LOST, for vision transformers; it works best if they were trained without labels (DINO).

    Args:
        helpers: number of patches of lowest degree that may be helpers.
        map: ``component``, m in the seed's component and 0 elsewhere, so that the box at threshold 0 is the
            paper's; or ``similarity``, m of all patches, with its sign.
        chunk_size: see `Explainer`.

    Raises:
        InputError: fewer than one helper, or an unknown ``map``; when called, the network is no vision transformer.

    Example:
        >>> from timm import create_model
        >>> vit = create_model("vit_tiny_patch16_224", depth=2, num_classes=0)
        >>> LOST()(vit, torch.randn(2, 3, 224, 224)).shape
        torch.Size([2, 1, 14, 14])
    """

    def __init__(
        self,
        helpers: int = 100,
        map: Literal["component", "similarity"] = "component",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(chunk_size)
        if not isinstance(helpers, int) or helpers < 1:
            raise InputError(f"helpers: expected a number of patches from 1, got {helpers!r}")
        if map not in MAPS:
            raise unknown("map", map, MAPS)
        self.helpers, self.map = helpers, map

    def object_maps(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return (N, h, w); see `ClassAgnosticExplainer.object_maps`."""
        similarity, seed = lost(read_patches(model, images, "keys"), self.helpers)
        if self.map == "similarity":
            return similarity
        return torch.where(component_of(similarity > 0, seed), similarity, 0.0)


def lost(keys: Tensor, helpers: int = 100) -> tuple[Tensor, Tensor]:
    """Find the seed of each image, and the similarity of every patch to the seed and its helpers.

    Args:
        keys: float (N, C, h, w).
        helpers: number of patches of lowest degree that may be helpers.

    Returns:
        The similarity m, float (N, h, w), and the seeds, int64 (N,), indices of cells row by row.

    Example:
        >>> keys = torch.tensor([[[[1.0, 1.0, -1.0, -1.0, -1.0]]]])
        >>> similarity, seed = lost(keys, helpers=2)
        >>> seed.tolist(), similarity.tolist()
        ([0], [[[2.0, 2.0, -2.0, -2.0, -2.0]]])
    """
    patches = keys.flatten(2).transpose(1, 2)
    affinity = patches @ patches.transpose(1, 2)
    positive = affinity > 0
    degree = positive.sum(2) - positive.diagonal(dim1=1, dim2=2).long()
    order = degree.argsort(dim=1, stable=True)
    seed = order[:, 0]
    chosen = torch.zeros_like(degree, dtype=torch.bool).scatter_(1, order[:, :helpers], True)
    rows = torch.arange(len(seed), device=seed.device)
    chosen &= positive[rows, seed]
    similarity = torch.einsum("np,npq->nq", chosen.to(affinity.dtype), affinity)
    return similarity.unflatten(1, keys.shape[2:]), seed
