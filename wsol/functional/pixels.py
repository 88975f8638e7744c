"""PxAP, the pixel-wise average precision of score maps against masks.

Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, section 4.2
(https://arxiv.org/abs/2001.07437). With the scores of all pixels of all images thrown together and thresholds
``t_l = 0, .001, ..., .999``::

    precision(t) = |foreground with s >= t| / |pixels with s >= t|
    recall(t)    = |foreground with s >= t| / |foreground|
    PxAP         = sum over l of precision(t_l) (recall(t_l) - recall(t_(l+1)))
"""

from __future__ import annotations

import numpy as np

from wsol.errors import InputError

BACKGROUND, OBJECT, IGNORE = 0, 1, 255
"""Values of a mask."""


def score_edges(num_thresholds: int = 1000) -> np.ndarray:
    """Left edges of the score bins: float64 (num_thresholds + 1,), ``0, 1 / num_thresholds, ..., 1``."""
    return np.append(np.arange(0, 1, 1 / num_thresholds)[:num_thresholds], 1.0)


def score_histograms(score_map: np.ndarray, mask: np.ndarray, num_thresholds: int = 1000) -> np.ndarray:
    """Count an image's background and object pixels by score.

    Args:
        score_map: real (H, W) in [0, 1].
        mask: uint8 (H, W), 0 background, 1 object, 255 ignore, in the map's frame.
        num_thresholds: number of bins below 1; the score 1 has a bin of its own.

    Returns:
        int64 (2, num_thresholds + 1): background, object.

    Raises:
        InputError: shapes differ, scores outside [0, 1] or NaN, or other values in the mask.

    Example:
        >>> score_histograms(np.array([[0.0, 0.5, 0.9, 1.0]]), np.array([[0, 1, 255, 1]], np.uint8), 2).tolist()
        [[1, 0, 0], [0, 1, 1]]
    """
    scores = np.asarray(score_map, dtype=np.float64)
    if scores.shape != mask.shape or not scores.size:
        raise InputError(
            f"expected a mask of the map's shape {scores.shape}, got {mask.shape}; resize the mask (nearest)"
        )
    if not (scores.min() >= 0 and scores.max() <= 1):
        raise InputError(
            f"a map of scores must lie in [0, 1], got {scores.min():.4g} to {scores.max():.4g}; normalize() it"
        )
    if not np.isin(mask, (BACKGROUND, OBJECT, IGNORE)).all():
        raise InputError(f"a mask may hold 0 background, 1 object, 255 ignore; got {np.unique(mask)[:5].tolist()}")
    edges = score_edges(num_thresholds)
    # A quotient may round across an edge, by one bin at most.
    bins = (scores * num_thresholds).astype(np.int64)
    bins -= scores < edges[bins]
    bins += scores >= np.append(edges, np.inf)[bins + 1]
    width = num_thresholds + 1
    return np.stack([np.bincount(bins[mask == value], minlength=width) for value in (BACKGROUND, OBJECT)])


def average_precision(histograms: np.ndarray) -> float:
    """PxAP from the histograms of all images, summed.

    Args:
        histograms: int64 (2, bins) background and object pixels, by ascending score; see `score_histograms`.

    Returns:
        Percent.

    Raises:
        InputError: there is no object pixel at all.

    Example:
        Half of the object scores above all background, the other half ties with it:

        >>> average_precision(np.array([[2, 0], [2, 2]]))
        83.33333333333333
    """
    above = histograms[:, ::-1].cumsum(axis=1).astype(np.float64)
    if not above[1, -1]:
        raise InputError("the masks have no object pixel: PxAP is not defined; check the masks of this split")
    pixels = above.sum(axis=0)
    some = pixels > 0
    precision = above[1][some] / pixels[some]
    gained = np.diff(above[1] / above[1, -1], prepend=0.0)[some]
    return float((precision * gained).sum() * 100)
