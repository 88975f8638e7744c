r"""CutMix: replace a window of each training image by that of another image, and mix their targets.

Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", section 3.1.
With images x_A, x_B, targets y_A, y_B and the window's mask M (0 inside)::

    x = M * x_A + (1 - M) * x_B
    y = lambda y_A + (1 - lambda) y_B        lambda = 1 - (window's area) / (image's area)

lambda is sampled from Beta(alpha, alpha); the window's sides are sqrt(1 - lambda) of the image's, and its centre is
uniform. The window is clipped to the image, and lambda in the target is the exact share that remains. One window is
used for the whole batch. torchvision implements all this; it pairs each image with the one before it in the (shuffled)
batch, while the authors' code samples a permutation.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2

from wsol.errors import InputError


class CutMix:
    """Mixes windows of the images of a batch.

    Args:
        alpha: parameter of the Beta distribution, above 0; 1 (the paper's) makes it uniform.
        probability: probability that a batch is mixed, in [0, 1]: 1 in the paper for ImageNet, 0.5 for CIFAR.

    Raises:
        InputError: alpha is not above 0, or probability is outside [0, 1].

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(1)
        >>> values = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8)
        >>> images, targets = CutMix()(values, torch.eye(2))
        >>> bool(images[0, 0].mean() == targets[0, 1])
        True
    """

    mixes = True
    """Whether an image of its result shows parts of several images, so that no pseudo box or mask fits it."""

    def __init__(self, alpha: float = 1.0, probability: float = 1.0) -> None:
        if not alpha > 0:
            raise InputError(f"alpha of CutMix: expected more than 0, got {alpha}")
        if not 0 <= probability <= 1:
            raise InputError(f"probability of CutMix: expected a number in [0, 1], got {probability}")
        self._mix = v2.RandomApply([v2.CutMix(alpha=alpha)], p=probability)

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mix float images (N, 3, H, W) and targets (N, K), which may be soft; uses torch's CPU generator.

        Raises:
            InputError: the batch has a single image.
        """
        if len(images) < 2:
            raise InputError(
                "CutMix mixes pairs of images and got a batch of one: raise loader.batch_size, or drop the last, "
                "incomplete batch with loader.drop_last=true"
            )
        found: tuple[Tensor, Tensor] = self._mix(images, targets)
        return found
