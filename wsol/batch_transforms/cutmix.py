r"""CutMix: a window of each training image is replaced by that of another one, and the target with it.

Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", section 3.1.
With images x_A, x_B, targets y_A, y_B and the window's mask M (0 inside)::

    x = M * x_A + (1 - M) * x_B
    y = lambda y_A + (1 - lambda) y_B        lambda = 1 - (window's area) / (image's area)

lambda is drawn from Beta(alpha, alpha) first, the window's sides are sqrt(1 - lambda) of the image's and its centre is
drawn evenly; what sticks out is cut off, and lambda in the target is the exact share of what is left. One window serves
the whole batch. All this is torchvision's; it pairs each image with the one before it in the (shuffled) batch, where
the authors' code draws a permutation.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2

from wsol.errors import InputError


class CutMix:
    """Mixes the images of a batch by windows.

    Args:
        alpha: of the Beta distribution, above 0; 1 (the paper's) is the uniform one.
        probability: of a batch to be mixed, in [0, 1]: 1 in the paper for ImageNet, 0.5 for CIFAR.

    Raises:
        InputError: alpha not above 0 or a probability outside [0, 1].

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(1)
        >>> values = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8)
        >>> images, targets = CutMix()(values, torch.eye(2))
        >>> bool(images[0, 0].mean() == targets[0, 1])
        True
    """

    def __init__(self, alpha: float = 1.0, probability: float = 1.0) -> None:
        if not alpha > 0:
            raise InputError(f"alpha of CutMix: expected more than 0, got {alpha}")
        if not 0 <= probability <= 1:
            raise InputError(f"probability of CutMix: expected a number in [0, 1], got {probability}")
        self._mix = v2.RandomApply([v2.CutMix(alpha=alpha)], p=probability)

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mix float images (N, 3, H, W) and targets (N, K), which may be soft; draws from torch's CPU generator.

        Raises:
            InputError: a batch of one image, which has none to be mixed with.
        """
        if len(images) < 2:
            raise InputError(
                "CutMix got a batch of one image and mixes two: raise loader.batch_size, or leave the last, "
                "incomplete batch out with loader.drop_last=true"
            )
        found: tuple[Tensor, Tensor] = self._mix(images, targets)
        return found
