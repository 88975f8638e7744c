"""Checks of the inputs of metrics, and the single copy from the device.

Everything is checked before anything is stored, so a refused call changes no metric. Each fault raises one
`wsol.errors.InputError` that names the argument and the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsol.errors import InputError

Values = Tensor | np.ndarray | Sequence[Any]

UNKEYED = -1
"""Index of an image that was given without a position."""


def to_host(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Copy tensors to arrays, with one copy for all tensors of one device and dtype.

    Args:
        tensors: of any shapes. 8- and 16-bit floating point become float32.

    Returns:
        Arrays of the same shapes.

    Raises:
        InputError: a tensor has no values (device ``meta``) or is not dense.

    Example:
        >>> [array.tolist() for array in to_host([torch.tensor([1, 2]), torch.tensor([[3]])])]
        [[1, 2], [[3]]]
    """
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    dense = [_dense(tensor) for tensor in tensors]
    for place, tensor in enumerate(dense):
        groups.setdefault((tensor.device, tensor.dtype), []).append(place)
    found: dict[int, np.ndarray] = {}
    for (device, _), places in groups.items():
        if device.type == "cpu" or len(places) == 1:
            found |= {place: dense[place].cpu().numpy() for place in places}
            continue
        together = torch.cat([dense[place].reshape(-1) for place in places]).cpu().numpy()
        ends = np.cumsum([dense[place].numel() for place in places])[:-1]
        for place, part in zip(places, np.split(together, ends), strict=True):
            found[place] = part.reshape(dense[place].shape)
    return [found[place] for place in range(len(dense))]


def on_host(*values: Any) -> list[Any]:
    """Replace tensors by arrays: the values themselves and the items of lists, in one call of `to_host`.

    Example:
        >>> on_host(torch.tensor([1]), [torch.tensor([2.0]), 3], None)
        [array([1]), [array([2.], dtype=float32), 3], None]
    """
    tensors: list[Tensor] = []
    for value in values:
        items = value if isinstance(value, list | tuple) else [value]
        tensors += [item for item in items if isinstance(item, Tensor)]
    arrays = iter(to_host(tensors))

    def replaced(value: Any) -> Any:
        return next(arrays) if isinstance(value, Tensor) else value

    return [[replaced(item) for item in v] if isinstance(v, list | tuple) else replaced(v) for v in values]


def to_result(value: float, device: torch.device) -> Tensor:
    """Return the result of a metric: a 0-d tensor, float64; float32 on a device without float64 (``mps``)."""
    return torch.tensor(value, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)


def check_maps(score_maps: Any) -> list[np.ndarray]:
    """Check score maps.

    Args:
        score_maps: array (N, h, w), or a list of N arrays (h, w); real numbers, including integers and bool.

    Returns:
        N arrays (h, w), not copied.

    Raises:
        InputError: another shape, no pixels, or values that are not real numbers.
    """
    expected = "expected N maps, an array (N, h, w) or a list of arrays (h, w)"
    if isinstance(score_maps, np.ndarray) and score_maps.ndim != 3:
        hint = "; add the first axis: maps[None]" if score_maps.ndim == 2 else ""
        hint = "; drop the channel axis: maps.squeeze(1)" if score_maps.ndim == 4 else hint
        raise InputError(f"score_maps: {expected}, got shape {score_maps.shape}{hint}")
    maps = []
    for i, one in enumerate(_items(score_maps, "score_maps", expected)):
        values = _real(one, f"score_maps[{i}]")
        if values.ndim != 2 or not values.size:
            raise InputError(f"score_maps[{i}]: expected a map (h, w) of at least one pixel, got {values.shape}")
        maps.append(values)
    return maps


def check_sizes(sizes: Any, maps: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Check the sizes of images: N pairs (width, height) of whole numbers; None takes the sizes of the maps.

    Raises:
        InputError: not pairs, not whole numbers of at least 1, or not one per map.
    """
    if sizes is None:
        return [(one.shape[1], one.shape[0]) for one in maps]
    pairs = []
    for i, one in enumerate(_items(sizes, "sizes", "expected N pairs (width, height)")):
        pair = _real(one, f"sizes[{i}]")
        if pair.shape != (2,) or not np.isfinite(pair).all() or (pair < 1).any() or (pair != np.trunc(pair)).any():
            raise InputError(f"sizes[{i}]: expected (width, height), two whole numbers of at least 1, got {one}")
        pairs.append((int(pair[0]), int(pair[1])))
    check_count("sizes", len(pairs), len(maps))
    return pairs


def check_boxes(boxes: Any, sizes: Sequence[tuple[int, int]], *, inclusive: bool) -> list[np.ndarray]:
    """Check ground-truth boxes.

    Args:
        boxes: N arrays (M, 4), or (4,) for a single box: x0, y0, x1, y1 in the image's pixels.
        sizes: N pairs (width, height).
        inclusive: whether x1, y1 are the last pixel inside.

    Returns:
        N arrays float64 (M, 4).

    Raises:
        InputError: an image without a box, another shape, a value that is not finite, a box without area, a box
            outside its image, or not one entry per image.
    """
    found = []
    for i, one in enumerate(_items(boxes, "boxes", "expected N arrays (M, 4)")):
        values = _real(one, f"boxes[{i}]").astype(np.float64)
        values = values[None] if values.shape == (4,) else values
        if not values.size:
            raise InputError(f"boxes[{i}]: no ground-truth box to evaluate the image with; leave it out of the batch")
        if values.ndim != 2 or values.shape[1] != 4:
            raise InputError(f"boxes[{i}]: expected (M, 4), each row x0, y0, x1, y1, got {values.shape}")
        if not np.isfinite(values).all():
            raise InputError(f"boxes[{i}]: expected finite numbers, got {values.tolist()}")
        found.append(values)
    check_count("boxes", len(found), len(sizes))
    for i, (values, size) in enumerate(zip(found, sizes, strict=True)):
        low, high = values[:, :2], values[:, 2:] + inclusive
        if (high <= low).any():
            raise InputError(f"boxes[{i}]: expected x0, y0, x1, y1 with x1 > x0 and y1 > y0, got {values.tolist()}")
        if (high <= 0).any() or (low >= size).any():
            raise InputError(
                f"boxes[{i}]: {values.tolist()} lies outside its image of {size[0]} x {size[1]} pixels; boxes are in "
                "the stored image's pixels, and sizes are (width, height)"
            )
    return found


def check_index(index: Any, count: int) -> np.ndarray:
    """Check positions of images in their split: int64 (N,), all `UNKEYED` if None.

    Raises:
        InputError: not one whole number of at least 0 per image.
    """
    return np.full(count, UNKEYED) if index is None else check_integers(index, "index", count)


def check_integers(values: Any, name: str, count: int, limit: int = 2**63) -> np.ndarray:
    """Check one whole number in [0, limit) per image: int64 (N,).

    Raises:
        InputError: another type or shape, or out of range.
    """
    array = _real(values, name)
    if not array.size:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name}: expected whole numbers, got {array.dtype} values such as {array.flat[0]}")
    if array.shape != (count,):
        raise InputError(f"{name}: expected one for each of {count} images, shape ({count},), got {array.shape}")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < limit:
        raise InputError(f"{name}: expected whole numbers from 0 to {limit - 1}, got {array.min()} to {array.max()}")
    return array.astype(np.int64)


def check_count(name: str, given: int, images: int) -> None:
    """Refuse a number of entries that differs from the number of score maps."""
    if given != images:
        raise InputError(f"{name}: expected one entry for each of {images} score maps, got {given}")


def _items(values: Any, name: str, expected: str) -> Any:
    if isinstance(values, np.ndarray) and values.ndim:
        return values
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Sequence):
        raise InputError(f"{name}: {expected}, got {type(values).__name__}")
    return values


def _real(value: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: expected an array of real numbers ({error})") from error
    if array.dtype.kind not in "buif":
        raise InputError(f"{name}: expected real numbers, got {array.dtype}")
    return array


def _dense(tensor: Tensor) -> Tensor:
    if tensor.device.type == "meta" or tensor.layout is not torch.strided:
        raise InputError(f"expected a dense tensor with values, got one of {tensor.device}, {tensor.layout}")
    narrow = tensor.is_floating_point() and tensor.dtype.itemsize < 4
    return tensor.detach().float() if narrow else tensor.detach()
