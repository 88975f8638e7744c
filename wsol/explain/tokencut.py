r"""TokenCut: the object is one side of a normalized cut between the patches.

Wang et al. 2022, "Self-Supervised Transformers for Unsupervised Object Discovery using Normalized Cut" (CVPR), section
3.2. With k_p the unit keys of the last block::

    A_pq = 1 where k_p . k_q > tau, else eps
    v    = eigenvector of the second smallest eigenvalue of (D - A) v = l D v,    D = diag(sum_q A_pq)

The foreground is where v is above its mean. The seed is the patch with the largest |v|, and the sign of v is chosen so
that the seed is foreground. The map is v with that sign, so the seed is its maximum. The paper's box encloses the
4-connected component of the maximum among the cells above the map's mean (``protocol=tokencut2022``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.errors import InputError
from wsol.explain.base import ClassAgnosticExplainer
from wsol.explain.patches import read_patches
from wsol.functional.normalized_cut import second_eigenvector


class TokenCut(ClassAgnosticExplainer):
    """TokenCut, for vision transformers; it works best if they were trained without labels (DINO).

    Args:
        tau: cosine similarity above which two patches are similar.
        eps: weight between patches that are not similar.
        chunk_size: see `Explainer`.

    Raises:
        InputError: an option out of its range; when called, the network is no vision transformer.

    Example:
        >>> from timm import create_model
        >>> vit = create_model("vit_tiny_patch16_224", depth=2, num_classes=0)
        >>> TokenCut()(vit, torch.randn(2, 3, 224, 224)).shape
        torch.Size([2, 1, 14, 14])
    """

    def __init__(self, tau: float = 0.2, eps: float = 1e-5, chunk_size: int | None = None) -> None:
        super().__init__(chunk_size)
        if not -1 <= tau < 1:
            raise InputError(f"tau: expected a cosine in [-1, 1), got {tau!r}")
        if not 0 < eps < 1:
            raise InputError(f"eps: expected a weight in (0, 1), got {eps!r}")
        self.tau, self.eps = tau, eps

    def object_maps(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return (N, h, w); see `ClassAgnosticExplainer.object_maps`."""
        return tokencut(read_patches(model, images, "keys"), self.tau, self.eps)


def tokencut(keys: Tensor, tau: float = 0.2, eps: float = 1e-5) -> Tensor:
    """Divide the patches of each image into two by a normalized cut.

    Args:
        keys: float (N, C, h, w).
        tau: cosine similarity above which two patches are similar.
        eps: weight between patches that are not similar.

    Returns:
        float32 (N, h, w): the second eigenvector with length 1, positive at the cell of largest magnitude.

    Example:
        >>> keys = torch.tensor([[[[1.0, 1.0, 0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 1.0, 1.0]]]])
        >>> (tokencut(keys) > 0).int().tolist()
        [[[1, 1, 0, 0, 0]]]
    """
    units = F.normalize(keys.flatten(2).transpose(1, 2), dim=2)
    alike = units @ units.transpose(1, 2) > tau
    vectors = second_eigenvector(torch.where(alike, torch.tensor(1.0, dtype=torch.float64, device=alike.device), eps))
    vectors = F.normalize(vectors, dim=1)
    seed = vectors.abs().argmax(1, keepdim=True)
    is_foreground = vectors.gather(1, seed) > vectors.mean(1, keepdim=True)
    found: Tensor = (vectors * (2 * is_foreground.double() - 1)).float().unflatten(1, keys.shape[2:])
    return found
