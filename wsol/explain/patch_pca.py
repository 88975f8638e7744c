r"""Patch PCA: the first principal component of a vision transformer's patch tokens.

Oquab et al. 2023, "DINOv2: Learning Robust Visual Features without Supervision", section 7.5: with t_p the patch tokens
after the final norm, m their mean and w the first principal component::

    M(p) = w . (t_p - m)

The paper separates the object from the background by a threshold on M. The sign of w is arbitrary, and differs between
checkpoints; see `wsol.functional.principal` for the rules that choose it. The results of a run say how often the rule
changed the sign.
"""

from __future__ import annotations

from torch import Tensor, nn

from wsol.explain.patches import read_patches
from wsol.explain.principal import PrincipalExplainer


class PatchPCA(PrincipalExplainer):
    """Patch PCA, for vision transformers; the arguments are those of `PrincipalExplainer`.

    Raises:
        InputError: when called, the network is no vision transformer, or `fit` was not called.

    Example:
        >>> import torch
        >>> from timm import create_model
        >>> vit = create_model("vit_tiny_patch16_224", depth=2, num_classes=0)
        >>> images = torch.randn(2, 3, 224, 224)
        >>> PatchPCA()(vit, images).shape
        torch.Size([2, 1, 14, 14])
        >>> explainer = PatchPCA(fit_on="dataset")
        >>> explainer.fit(vit, [(images, torch.tensor([0, 1]))])
        >>> explainer(vit, images).shape
        torch.Size([2, 1, 14, 14])
    """

    def read_features(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the patch tokens; see `PrincipalExplainer.read_features`."""
        return read_patches(model, images, "last")
