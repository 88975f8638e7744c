"""What the thresholds of a protocol are parts of, and the levels that they cut a map into.

==============  ========================================================================================================
``maximum``     grey levels above ``int(t * maximum)`` of the map's 256
``percentile``  the same of a quantile of the map's grey levels, ``int(t * quantile)`` (Bae et al., ECCV 2020)
``mean``        values above t times the map's mean (TokenCut), compared without cutting them into 256 levels
``one``         values above t itself, compared so
==============  ========================================================================================================
"""

from __future__ import annotations

import numpy as np

from wsol.errors import InputError, unknown
from wsol.functional import boxes
from wsol.functional.box_engine.compiled import plain
from wsol.functional.box_engine.quantile import mean

KINDS = ("maximum", "percentile", "mean", "one")
OF_LEVELS = ("maximum", "percentile")
"""Those that are whole grey levels; the others are compared with the values."""

GRIDS = ("linear", "log")


def grid(low: float, high: float, step: float, spacing: str = "linear") -> np.ndarray:
    """Thresholds from ``low`` to below ``high``.

    Args:
        low: the first one.
        high: is left out.
        step: between two of them; for spacing ``log`` in powers of ten.
        spacing: one of `GRIDS`.

    Returns:
        float64 (G,) ascending.

    Example:
        >>> grid(0.0, 1.0, 0.25).tolist(), grid(0.001, 1.0, 1.0, "log").round(12).tolist()
        ([0.0, 0.25, 0.5, 0.75], [0.001, 0.01, 0.1])
    """
    if spacing not in GRIDS:
        raise unknown("spacing", spacing, GRIDS)
    if spacing == "linear":
        return np.arange(low, high, step)
    if not low > 0:
        raise InputError(f"a logarithmic grid has no threshold {low}; expected more than 0, such as 1e-7")
    found: np.ndarray = low * 10.0 ** np.arange(0.0, np.log10(high / low) - 1e-9, step)
    return found


def cut(placed: np.ndarray, thresholds: np.ndarray, of: str, share: float) -> tuple[np.ndarray, ...]:
    """Return the levels of a map, and where thresholds cut them.

    Args:
        placed: float64 (H, W) in [0, 1].
        thresholds: float64 (G,) ascending.
        of: one of `KINDS`.
        share: which quantile ``percentile`` means.

    Returns:
        Levels uint16 (H, W), the upper byte counting and the highest pixel marked by the lower one; the distinct cuts
        int64 (L,) ascending; and the position of each threshold's cut, int64 (G,).

    Example:
        >>> levels, cuts, position = cut(np.array([[0.0, 0.5, 1.0]]), np.array([0.4, 0.9]), "mean", 1.0)
        >>> (levels >> 8).tolist(), cuts.tolist(), position.tolist()
        ([[0, 2, 2]], [0, 1], [0, 1])
    """
    if of in OF_LEVELS:
        levels = boxes.fine_levels(placed)
        return levels, *boxes.cuts_of(levels, thresholds, share if of == "percentile" else 1.0)
    values = plain(placed, np.float64)
    edges = thresholds * mean(values, values.size) if of == "mean" else thresholds
    levels = np.searchsorted(edges, values, side="left").astype(np.uint16) << 8
    levels.flat[values.argmax()] += 1  # the peak, which need not be alone above the last threshold
    return levels, (at := np.arange(len(thresholds))), at
