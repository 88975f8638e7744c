"""Score maps between a network and a box: resized, scaled to [0, 1] and placed in the frame where boxes are evaluated.

A class map (h, w) covers the whole input frame of its view. The protocol chooses how it is processed, in this order:

1. resize to the frame's size (the reference code of Choe et al. 2020 resizes first and scales afterwards, in float64);
2. scale to [0, 1], by one of `SCALINGS`, see `normalize`;
3. cut into 256 grey levels.

All arithmetic is float64, so that levels equal those of the reference code to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from wsol.errors import InputError, unknown
from wsol.functional.box_engine.compiled import plain
from wsol.functional.box_engine.quantile import quantile
from wsol.functional.geometry import Geometry

INTERPOLATIONS = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST_EXACT}
SCALINGS = ("minmax", "max", "quantiles", "clip", "none")
WHOLE_RANGE = (0.0, 1.0)
"""The quantiles of ``minmax``."""
MERGINGS = ("mean", "absolute_sum")


def normalize(
    score_map: np.ndarray, scaling: str = "minmax", quantiles: tuple[float, float] = WHOLE_RANGE
) -> np.ndarray:
    """Scale a map to [0, 1].

    Args:
        score_map: real (H, W).
        scaling: ``minmax``; ``max`` (negative values become 0, then division by the maximum); ``quantiles``
            (``clip((m - low) / (high - low), 0, 1)`` with two quantiles of the map's own values, which is IVR of Kim et
            al., ICCV 2021, for (p, 1), and the percentile as a standard of Bae et al., ECCV 2020, for (0, 0.9));
            ``clip`` (what lies outside [0, 1] is cut off); or ``none`` (the map must lie in [0, 1] and stays as it is).
        quantiles: low and high in [0, 1] for ``quantiles``; values between two pixels' are interpolated linearly.

    Returns:
        float64 (H, W). Its maximum is 1 under ``minmax``, ``max`` and ``quantiles``. It is all zeros for a map
        without information: a value that is not finite, a constant map under ``minmax``, a map without positive
        values under ``max``, two equal quantiles.

    Raises:
        InputError: unknown scaling, a map without pixels, or values outside [0, 1] under ``none``.

    Example:
        >>> normalize(np.array([[-1.0, 0.0, 3.0]])).tolist()
        [[0.0, 0.25, 1.0]]
        >>> normalize(np.array([[-1.0, 0.0, 3.0]]), "max").tolist()
        [[0.0, 0.0, 1.0]]
        >>> normalize(np.array([[-1.0, 0.0, 1.0, 3.0, 4.0]]), "quantiles", (0.25, 0.75)).tolist()
        [[0.0, 0.0, 0.3333333333333333, 1.0, 1.0]]
    """
    if scaling not in SCALINGS:
        raise unknown("scaling", scaling, SCALINGS)
    values = _as_map(score_map)
    least, greatest = values.min(), values.max()
    if scaling == "none" and np.isfinite([least, greatest]).all():
        if least < 0 or greatest > 1:
            raise InputError(
                f"scaling 'none' expects maps in [0, 1], got {least:.4g} to {greatest:.4g}; scale the maps, or set "
                "scaling to minmax or max"
            )
        return values.copy()
    if not np.isfinite([least, greatest]).all():
        return np.zeros_like(values)
    low, high = {"minmax": (least, greatest), "max": (0.0, greatest)}.get(scaling, WHOLE_RANGE)
    if scaling == "quantiles":
        low, high = (quantile(plain(values, np.float64).ravel(), float(share)) for share in quantiles)
    with np.errstate(over="ignore", invalid="ignore"):
        peak = high - low
    if not np.isfinite(peak) or peak <= 0:
        return np.zeros_like(values)
    out = values - low
    np.maximum(out, 0.0, out=out)
    out /= peak
    np.minimum(out, 1.0, out=out)
    return out


def resize(score_map: np.ndarray, size: tuple[int, int], interpolation: str = "cubic") -> np.ndarray:
    """Resize a map with OpenCV; the edges of the map stay the edges (half-pixel centres, no antialiasing).

    Args:
        score_map: real (h, w).
        size: width and height wanted.
        interpolation: ``cubic`` (overshoots a little, as in the reference code), ``linear`` or ``nearest``.

    Returns:
        float64 (height, width), a new array.

    Example:
        >>> resize(np.array([[0.0, 1.0]]), (4, 1), "linear").tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """
    if interpolation not in INTERPOLATIONS:
        raise unknown("interpolation", interpolation, INTERPOLATIONS)
    values = _as_map(score_map)
    if (values.shape[1], values.shape[0]) == tuple(size):
        return values.copy()
    return cv2.resize(values, (int(size[0]), int(size[1])), interpolation=INTERPOLATIONS[interpolation])


def to_levels(score_map: np.ndarray) -> np.ndarray:
    """Convert a map in [0, 1] to grey levels: ``map * 255`` in float64, truncated.

    Returns:
        uint8 (H, W).

    Raises:
        InputError: values outside [0, 1], or NaN.

    Example:
        >>> to_levels(np.array([[0.0, 0.5, 1.0]])).tolist()
        [[0, 127, 255]]
    """
    values = _as_map(score_map)
    if not (values.min() >= 0 and values.max() <= 1):
        raise InputError(
            f"a map of scores must lie in [0, 1], got {values.min():.4g} to {values.max():.4g}; normalize() it first"
        )
    return (values * 255).astype(np.uint8)


def upright(geometry: Geometry) -> Geometry:
    """Return the same view without mirroring: the geometry of its map after `place` or `merge` has mirrored it back."""
    return replace(geometry, mirrored=False)


def window(view: Geometry, frame: Geometry) -> tuple[int, int, int, int]:
    """Return the part of a frame that a view of the same image shows, rounded to whole pixels (at least one).

    Returns:
        x0, y0, x1, y1 half-open in the frame; it may reach beyond the frame.

    Example:
        >>> crop = Geometry(image_size=(500, 375), resized=(341, 256), offset=(58, 16), input_size=(224, 224))
        >>> window(crop, Geometry.whole((500, 375))), window(crop, crop)
        ((85, 23, 413, 352), (0, 0, 224, 224))
    """
    (left, right), (top, bottom) = (_side(view, frame, axis) for axis in (0, 1))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _side(view: Geometry, frame: Geometry, axis: int) -> tuple[int, int]:
    """Return where a view begins and ends along one side of a frame: `Geometry.to_image`, then `Geometry.to_input`."""
    image, there, seen = view.image_size[axis], view.resized[axis], view.input_size[axis]
    begin, end = ((float(at) + view.offset[axis]) * image / there for at in (0, seen))
    image, there, offset = frame.image_size[axis], frame.resized[axis], frame.offset[axis]
    return round(begin * there / image - offset), round(end * there / image - offset)


def place(
    score_map: np.ndarray,
    view: Geometry,
    frame: Geometry,
    *,
    interpolation: str = "cubic",
    scaling: str = "minmax",
    quantiles: tuple[float, float] = WHOLE_RANGE,
    scale_first: bool = False,
) -> np.ndarray:
    """Scale a class map to [0, 1] and place it in the frame where boxes are evaluated, mirrored back if necessary.

    A view may show only part of the frame (a crop that is evaluated in the whole image). Scaling then uses the visible
    part; the pixels outside it are unknown and get 0, the lowest score.

    Under ``scaling="none"`` the map must lie in [0, 1]; values that a cubic resize overshoots are clipped.

    Otherwise scaling follows resizing, so ``minmax`` of a map that is constant but not 0 may amplify the rounding
    errors of a cubic resize instead of returning zeros. The reference code does the same.

    Args:
        score_map: real (h, w) over the whole input frame of its view.
        view: the part of the image that the map covers.
        frame: frame of the same image; its ``input_size`` is the size of the result.
        interpolation: see `resize`.
        scaling: see `normalize`.
        quantiles: see `normalize`.
        scale_first: whether to scale the map as it comes and resize afterwards; its maximum may then end below 1, and
            what a cubic resize overshoots is cut off.

    Returns:
        float64 (H, W) in [0, 1], of size ``frame.input_size``.

    Raises:
        InputError: the view shows no part of the frame, or they belong to images of different sizes.
    """
    if view.image_size != frame.image_size:
        raise InputError(f"a view of an image of {view.image_size} can't be placed in one of {frame.image_size}")
    ahead = score_map[:, ::-1] if view.mirrored else score_map
    part = window(view, frame)
    size = part[2] - part[0], part[3] - part[1]
    scale_first = scale_first or scaling == "none"
    if scale_first:
        seen = resize(normalize(ahead, scaling, quantiles), size, interpolation).clip(0, 1)
    else:
        seen = resize(ahead, size, interpolation)
    inside, cut = _overlap(part, frame.input_size)
    seen = seen[cut] if scale_first else normalize(seen[cut], scaling, quantiles)
    if part == (0, 0, *frame.input_size):
        return seen
    out = np.zeros(frame.input_size[::-1])
    out[inside] = seen
    return out


def merge(
    score_maps: np.ndarray, geometries: Sequence[Geometry], interpolation: str = "cubic", merging: str = "mean"
) -> tuple[np.ndarray, Geometry]:
    """Merge the maps of several views (ten-crop) of an image, aligned in the image frame.

    Under ``mean`` each pixel is the mean over the views that show it, so that pixels shown often are not brighter;
    pixels that no view shows get the minimum of the others. Under ``absolute_sum``, as in the released code of CAM
    2016, each pixel is the sum of the magnitudes in the views that show it; pixels that no view shows get 0.

    Args:
        score_maps: real (V, h, w), before any scaling.
        geometries: V of the same image.
        interpolation: see `resize`.
        merging: ``mean`` or ``absolute_sum``.

    Returns:
        The merged map, float32 (image height, image width), and its geometry: the input frame of a merged map is the
        image. A single view keeps its frame and its size, in float32 or a wider type: unchanged under ``mean``, as
        magnitudes under ``absolute_sum``.

    Raises:
        InputError: the numbers of maps and geometries differ, the geometries belong to images of different sizes, or
            ``merging`` is unknown.

    Example:
        >>> views = [Geometry.whole((2, 1)), Geometry.whole((2, 1))]
        >>> maps = np.array([[[1.0, -2.0]], [[1.0, 1.0]]])
        >>> merge(maps, views)[0].tolist(), merge(maps, views, merging="absolute_sum")[0].tolist()
        ([[1.0, -0.5]], [[2.0, 3.0]])
    """
    if merging not in MERGINGS:
        raise unknown("merging", merging, MERGINGS)
    is_mean = merging == "mean"
    if len(score_maps) != len(geometries) or not geometries:
        raise InputError(f"expected one map per view, got {len(score_maps)} maps and {len(geometries)} views")
    size = geometries[0].image_size
    if any(geometry.image_size != size for geometry in geometries):
        raise InputError(f"the views belong to images of different sizes: {sorted({g.image_size for g in geometries})}")
    if len(geometries) == 1:
        alone = np.array(score_maps[0], dtype=np.result_type(score_maps[0], np.float32))
        return alone if is_mean else np.abs(alone), geometries[0]
    whole = Geometry.whole(size)
    total, views = np.zeros(size[::-1]), np.zeros(size[::-1], dtype=np.int64)
    for score_map, geometry in zip(score_maps, geometries, strict=True):
        part = window(geometry, whole)
        ahead = score_map[:, ::-1] if geometry.mirrored else score_map
        inside, cut = _overlap(part, size)
        aligned = resize(ahead, (part[2] - part[0], part[3] - part[1]), interpolation)[cut]
        total[inside] += aligned if is_mean else np.abs(aligned)
        views[inside] += 1
    if not is_mean:
        return total.astype(np.float32), whole
    mean = total / np.maximum(views, 1)
    mean[views == 0] = mean[views > 0].min()
    return mean.astype(np.float32), whole


def _as_map(score_map: np.ndarray) -> np.ndarray:
    values = np.ascontiguousarray(score_map, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise InputError(f"expected a map (H, W) with at least one pixel, got shape {values.shape}")
    return values


Slices = tuple[slice, slice]


def _overlap(part: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[Slices, Slices]:
    """Return the pixels common to ``part`` and an image of ``size``, as slices of the image and slices of the part."""
    x0, y0, x1, y1 = max(part[0], 0), max(part[1], 0), min(part[2], size[0]), min(part[3], size[1])
    if x0 >= x1 or y0 >= y1:
        raise InputError(f"the view shows {part} (x0, y0, x1, y1), which is outside its image of {size[0]} x {size[1]}")
    left, top = part[:2]
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
