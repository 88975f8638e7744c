"""PxAP, the pixel-wise average precision of score maps against masks.

Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, section 4.2
(https://arxiv.org/abs/2001.07437). With the scores of all pixels of all images pooled and thresholds ``t_l = 0, .001,
..., .999``::

    precision(t) = |foreground with s >= t| / |pixels with s >= t|
    recall(t)    = |foreground with s >= t| / |foreground|
    PxAP         = sum over l of precision(t_l) (recall(t_l) - recall(t_(l+1)))
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.errors import InputError
from wsol.functional.box_engine.compiled import compiled, plain
from wsol.functional.metric_inputs import check_count, check_maps, on_host, to_result

BACKGROUND, OBJECT, IGNORE = 0, 1, 255
"""Allowed values of a mask."""


def score_edges(num_thresholds: int = 1000) -> np.ndarray:
    """Return the left edges of the score bins: float64 (num_thresholds + 1,), ``0, 1 / num_thresholds, ..., 1``."""
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
        InputError: shapes differ, scores are outside [0, 1] or NaN, or the mask has other values.

    Example:
        >>> score_histograms(np.array([[0.0, 0.5, 0.9, 1.0]]), np.array([[0, 1, 255, 1]], np.uint8), 2).tolist()
        [[1, 0, 0], [0, 1, 1]]
    """
    check_thresholds(num_thresholds)
    if mask.dtype != np.uint8:
        raise _fault(score_map, mask)
    scores, truth = plain(score_map, np.float64), plain(mask, np.uint8)
    if scores.shape != truth.shape or not scores.size:
        raise InputError(
            f"expected a mask of the map's shape {scores.shape}, got {mask.shape}; resize the mask (nearest)"
        )
    out = np.zeros((3, num_thresholds + 1), dtype=np.int64)
    edges = np.concatenate([[-np.inf], score_edges(num_thresholds), [np.inf]])
    if not _count(scores.ravel(), truth.ravel(), num_thresholds, edges, out):
        raise _fault(scores, mask)
    return out[1:]


@compiled
def _count(scores, truth, num_thresholds, edges, out):
    """Fill in the histograms of ignored, background and object pixels. Returns whether all values are allowed."""
    one, two = np.uint64(1), np.uint64(2)
    for i in range(len(scores)):
        score, row = scores[i], np.uint64(np.uint8(truth[i] + np.uint8(1)))
        if not ((score >= 0.0) & (score <= 1.0) & (row <= two)):
            return False
        column = np.uint64(score * num_thresholds)  # rounding may cross an edge, by one bin at most
        column += np.uint64(score >= edges[column + two]) - np.uint64(score < edges[column + one])
        out[row, column] += 1
    return True


def check_thresholds(number: int) -> int:
    """Check and return a number of thresholds.

    Raises:
        InputError: not a whole number of at least 1.
    """
    if not isinstance(number, Integral) or isinstance(number, bool) or number < 1:
        raise InputError(f"num_thresholds: expected a whole number of at least 1, such as 1000, got {number!r}")
    return int(number)


def _fault(scores: np.ndarray, mask: np.ndarray) -> InputError:
    if mask.dtype == np.uint8 and not (scores.min() >= 0 and scores.max() <= 1):
        return InputError(
            f"a score map must lie in [0, 1], got {scores.min():.4g} to {scores.max():.4g}; normalize() it"
        )
    return InputError(
        f"mask: expected uint8 of 0 background, 1 object, 255 ignore, got {mask.dtype} of "
        f"{np.unique(mask)[:5].tolist()}"
    )


def average_precision(histograms: np.ndarray) -> float:
    """Return PxAP from the summed histograms of all images.

    Args:
        histograms: int64 (2, bins) background and object pixels, in order of ascending score; see `score_histograms`.

    Returns:
        Percent.

    Raises:
        InputError: there are no object pixels.

    Example:
        Half of the object scores above all background; the other half ties with it:

        >>> average_precision(np.array([[2, 0], [2, 2]]))
        83.33333333333333
    """
    above = histograms[:, ::-1].cumsum(axis=1).astype(np.float64)
    if not above[1, -1]:
        raise InputError("the masks have no object pixels, so PxAP is not defined; check the masks of this split")
    pixels = above.sum(axis=0)
    some = pixels > 0
    precision = above[1][some] / pixels[some]
    gained = np.diff(above[1] / above[1, -1], prepend=0.0)[some]
    return float((precision * gained).sum() * 100)


def check_masks(score_maps: Any, masks: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Check the types and shapes of maps and masks, not their values: N arrays (H, W) of each; see `pxap`."""
    maps = check_maps(score_maps)
    expected = "expected N masks uint8 (H, W), 0 background, 1 object, 255 ignore"
    if not isinstance(masks, np.ndarray | list | tuple) or (isinstance(masks, np.ndarray) and masks.ndim != 3):
        raise InputError(f"masks: {expected}, got {getattr(masks, 'shape', type(masks).__name__)}")
    check_count("masks", len(masks), len(maps))
    for i, mask in enumerate(masks):
        if not isinstance(mask, np.ndarray):
            raise InputError(f"masks[{i}]: {expected}, got {type(mask).__name__}")
    return maps, list(masks)


def pxap(score_maps: Any, masks: Any, num_thresholds: int = 1000) -> Tensor:
    """Return PxAP of a set; the function of `wsol.metrics.PxAP`.

    Args:
        score_maps: N maps, real (H, W) in [0, 1], tensors or arrays.
        masks: N masks, uint8 (H, W), 0 background, 1 object, 255 ignore, each of its map's shape.
        num_thresholds: thresholds are ``0, 1 / num_thresholds, ...``.

    Returns:
        0-d float64, percent in [0, 100].

    Raises:
        InputError: see `score_histograms` and `average_precision`; or the numbers of maps and masks differ.

    Example:
        >>> pxap([np.array([[0.9, 0.4, 0.2]])], [np.array([[1, 0, 255]], np.uint8)]).item()
        100.0
    """
    check_thresholds(num_thresholds)
    pairs = zip(*check_masks(*on_host(score_maps, masks)), strict=True)
    total = np.zeros((2, num_thresholds + 1), dtype=np.int64)
    for score_map, mask in pairs:
        total += score_histograms(score_map, mask, num_thresholds)
    return to_result(average_precision(total), torch.device("cpu"))


def precision_and_coverage(histograms: np.ndarray, threshold: float) -> tuple[float, float]:
    """Return the precision and the recall (coverage of the object) of pixels that reach a threshold, percent.

    Args:
        histograms: as in `average_precision`.
        threshold: in [0, 1]; rounded to the nearest edge of a bin.

    Example:
        >>> precision_and_coverage(np.array([[2, 1, 0], [1, 1, 2]]), 0.5)
        (75.0, 75.0)
    """
    first = round(threshold * (histograms.shape[1] - 1))
    background, objects = histograms[:, first:].sum(axis=1)
    shares = (objects / max(background + objects, 1), objects / max(histograms[1].sum(), 1))
    return float(shares[0] * 100), float(shares[1] * 100)


def pixel_results(histograms: np.ndarray, threshold: float) -> dict[str, float]:
    """Return ``PxAP``, ``precision@<threshold>`` and ``coverage@<threshold>`` of min-max scaled maps, percent.

    Args:
        histograms: see `precision_and_coverage`.
        threshold: in [0, 1].
    """
    precision, coverage = precision_and_coverage(histograms, threshold)
    at = f"{threshold:g}"
    return {"PxAP": average_precision(histograms), f"precision@{at}": precision, f"coverage@{at}": coverage}
