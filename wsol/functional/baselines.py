"""Predictions that need no network and do not look at the image: what any localizer has to beat.

Objects tend to be in the middle of photographs and to fill them, so a blind guess is often correct (Choe et al. 2020
compare with the centre Gaussian; the best centre box is the stronger baseline).
"""

from __future__ import annotations

import numpy as np

FRACTIONS = np.arange(1, 101) / 100
"""float64 (100,) sizes of the centre boxes, as fractions of the image's width and height."""

GAUSSIAN_STD = 0.25
"""Standard deviation of the centre Gaussian, as a fraction of the input's width and height; our choice, not a paper's.
With min-max scaling and a swept threshold it hardly matters, because every Gaussian passes through the same centred
discs; at a fixed threshold it determines the size of the box."""


def whole_image(size: tuple[int, int]) -> np.ndarray:
    """Return the box of the whole image: float64 (1, 4), half-open, image frame.

    Example:
        >>> whole_image((500, 375)).tolist()
        [[0.0, 0.0, 500.0, 375.0]]
    """
    return np.array([[0.0, 0.0, *size]])


def centre_boxes(size: tuple[int, int], fractions: np.ndarray = FRACTIONS) -> np.ndarray:
    """Return boxes at the image's centre, with the image's proportions.

    Args:
        size: width and height of the image, pixels.
        fractions: float64 (F,), box sizes as fractions of the image's width and height.

    Returns:
        float64 (F, 4), half-open, image frame.

    Example:
        >>> centre_boxes((100, 40), np.array([0.5])).tolist()
        [[25.0, 10.0, 75.0, 30.0]]
    """
    half = np.asarray(size, dtype=np.float64) / 2
    reach = half * np.asarray(fractions, dtype=np.float64)[:, None]
    return np.concatenate([half - reach, half + reach], axis=1)


def centre_gaussian(size: tuple[int, int], std: float = GAUSSIAN_STD) -> np.ndarray:
    """Return a score map with a Gaussian at its centre: ``exp(-(x² / (std W)² + y² / (std H)²) / 2)`` at pixel centres.

    Args:
        size: width W and height H of the input frame; on a square input the Gaussian is isotropic.
        std: standard deviation, as a fraction of the width and of the height.

    Returns:
        float32 (H, W) in (0, 1].

    Example:
        >>> centre_gaussian((3, 1)).round(3).tolist()
        [[0.41100001335144043, 1.0, 0.41100001335144043]]
    """
    x, y = (((np.arange(side) + 0.5) / side - 0.5) / std for side in size)
    return np.exp(-(np.square(x)[None, :] + np.square(y)[:, None]) / 2).astype(np.float32)
