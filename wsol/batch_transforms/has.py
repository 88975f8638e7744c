r"""Hide-and-Seek: hide random patches of the training images, so that the network must look for other parts.

Singh and Lee 2017, "Hide-and-Seek: Forcing a Network to be Meticulous for Weakly-supervised Object and Action
Localization", section 3.1. A grid of S x S patches is laid over an image from its top left corner. Each patch is hidden
independently with probability p: its pixels become the mean colour of the dataset, which is 0 after normalisation::

    I'(x, y) = fill  if u(floor(x / S), floor(y / S)) < p,  else I(x, y)      u uniform in [0, 1), one sample per patch

The authors' code samples S for each image from a list in which 0 means that nothing is hidden, and clips patches at the
right and bottom edges. The reference code of Choe et al. 2020 swaps rows and columns, which is equivalent only for
square images; here rectangular images are handled correctly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsol.errors import InputError


class HaS:
    """Hides random patches of each image.

    Args:
        sizes: patch sides S in pixels; one is sampled per image. 0 hides nothing. The authors' networks for 224 pixels
            use only 32 (GoogLeNet) or a sample from [0, 16, 32, 44, 56] (AlexNet-HaS-Mixed).
        probability: probability p that a patch is hidden, in [0, 1].
        fill: value of hidden pixels after normalisation: one number, or three for red, green and blue. 0 is the
            ``preprocessing.mean`` of the backbone; any other mean m of a dataset, in [0, 1], is
            ``(m - preprocessing.mean) / preprocessing.std``.

    Raises:
        InputError: no sizes, a negative size, a probability outside [0, 1], or a fill of two numbers.

    Example:
        >>> hide = HaS(sizes=[2], probability=0.5, fill=9.0)
        >>> _ = torch.manual_seed(2)
        >>> images, targets = hide(torch.zeros(1, 3, 4, 6), torch.eye(5)[:1])
        >>> images[0, 0].int().tolist()
        [[9, 9, 0, 0, 9, 9], [9, 9, 0, 0, 9, 9], [0, 0, 0, 0, 9, 9], [0, 0, 0, 0, 9, 9]]
    """

    def __init__(
        self, sizes: Sequence[int] = (32,), probability: float = 0.5, fill: float | Sequence[float] = 0.0
    ) -> None:
        if not sizes or min(sizes) < 0 or any(not isinstance(size, int) for size in sizes):
            raise InputError(f"sizes of HaS: expected one or more whole numbers of pixels from 0, got {list(sizes)}")
        if not 0 <= probability <= 1:
            raise InputError(f"probability of HaS: expected a number in [0, 1], got {probability}")
        colour = [fill] * 3 if isinstance(fill, int | float) else list(fill)
        if len(colour) != 3:
            raise InputError(f"fill of HaS: expected one number, or three (red, green, blue), got {colour}")
        self.sizes, self.probability = tuple(sizes), probability
        self.fill = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1)

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Hide patches; uses torch's generator.

        Args:
            images: float (N, 3, H, W), normalised.
            targets: float (N, K), returned unchanged.

        Raises:
            InputError: a patch can be larger than the image.
        """
        hidden = self._hidden(len(images), images.shape[2], images.shape[3], images.device)
        fill = self.fill.to(images, non_blocking=True)
        return torch.where(hidden, fill, images), targets

    def _hidden(self, count: int, height: int, width: int, device: torch.device) -> Tensor:
        """Sample which pixels are hidden: bool (N, 1, H, W)."""
        if max(self.sizes) > min(height, width):
            raise InputError(
                f"HaS: patches of {max(self.sizes)} pixels are larger than the images of {width}x{height}; lower "
                "method.batch_transforms[...].sizes or train on larger images"
            )
        choices = torch.tensor(self.sizes).to(device, non_blocking=True)
        size = choices[torch.randint(len(self.sizes), (count, 1), device=device)]
        smallest = min((size for size in self.sizes if size), default=height + width)
        # One sample for each patch of the finest grid; a coarser grid uses the first of them.
        draws = torch.rand(count, -(-height // smallest), -(-width // smallest), device=device)
        step = torch.where(size > 0, size, height + width)
        row = torch.arange(height, device=device) // step
        column = torch.arange(width, device=device) // step
        image = torch.arange(count, device=device)[:, None, None]
        hidden = draws[image, row[:, :, None], column[:, None, :]] < self.probability
        return (hidden & (size > 0)[:, :, None])[:, None]
