"""One image's maps as bytes: in full, half or quarter size, with their geometry and a checksum.

The records are little-endian::

    "WMAP", crc32 of the rest and the id, kind, V, h, w          uint32 each
    V x (image w, h; resized w, h; offset x, y; input w, h; mirrored)    int32 each, see `wsol.functional.geometry`
    V x (low, high)                                                      float32 each
    V x h x w values                                                     row by row

``kind`` is the type of the values, and determines the map:

* 0, float32: the map itself;
* 1, float16: the map in units of ``high``, the power of two that scales its largest magnitude to between 0.5 and 1;
  the error is at most ``2**-11`` of that magnitude;
* 2, uint8: the map in 255 equal steps from ``low``, its minimum, to ``high``, its maximum; the error is at most half
  a step, 1/510 of the map's range, and zero at both ends.

A map with a value that is not finite is always saved as float32, so NaN and infinity survive. 50,000 maps of 224 x 224
take 2.5 GB as uint8.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from wsol.functional.geometry import Geometry

DTYPES = ("auto", "float32", "float16", "uint8")
MOST_PIXELS = 2**28
"""Maximum side of an image or a network's input; larger records are refused."""

EXACT_PIXELS = 64 * 64
"""Maximum number of pixels of a map that ``auto`` saves as float32; larger maps become uint8."""

_MAGIC = b"WMAP"
_HEAD = struct.Struct("<4s5I")
_KINDS = ("<f4", "<f2", "u1")
SMALLEST = _HEAD.size + 44 + 1
"""Bytes of the smallest record: one map of one pixel."""
_LARGEST = float(np.finfo(np.float32).max)


def pack(image_id: str, maps: np.ndarray, geometries: Sequence[Geometry], dtype: str) -> bytes:
    """Make the record of an image.

    Args:
        image_id: covered by the checksum.
        maps: float32 (V, h, w).
        geometries: geometries of the V views.
        dtype: one of `DTYPES`.
    """
    if dtype == "auto":
        dtype = "float32" if maps[0].size <= EXACT_PIXELS else "uint8"
    kind = 0 if not np.isfinite(maps).all() else DTYPES.index(dtype) - 1
    low, high = np.zeros(len(maps), np.float32), np.ones(len(maps), np.float32)
    if kind == 1:
        # The largest power of two of float32 is 2**127.
        exponents = np.minimum(np.frexp(np.abs(maps).max(axis=(1, 2)))[1], 127)
        high = np.ldexp(np.float32(1), np.maximum(exponents, -126)).astype(np.float32)
        values = (maps / high[:, None, None]).astype("<f2")
    elif kind == 2:
        low, high = maps.min(axis=(1, 2)), maps.max(axis=(1, 2))
        span = np.subtract(high, low, dtype=np.float64)
        steps = np.subtract(maps, low[:, None, None], dtype=np.float64) / np.where(span > 0, span, 1.0)[:, None, None]
        values = np.rint(steps * 255).astype("u1")
    else:
        values = maps.astype("<f4")
    numbers = [geometry_numbers(geometry) for geometry in geometries]
    ends = np.stack([low, high], axis=1).astype("<f4")
    body = np.array(numbers, "<i4").tobytes() + ends.tobytes() + values.tobytes()
    record = _HEAD.pack(_MAGIC, 0, kind, *maps.shape) + body
    return _HEAD.pack(_MAGIC, _crc(image_id, record), kind, *maps.shape) + body


def sound_record(image_id: str, data: mmap.mmap | bytes, offset: int) -> bytes | None:
    """Return the record of an image that begins at ``offset``; None if there is none, or it is damaged."""
    if offset + _HEAD.size > len(data):
        return None
    magic, crc, kind, *shape = _HEAD.unpack_from(data, offset)
    end = offset + _length(kind, *shape) if magic == _MAGIC and kind < len(_KINDS) else 0
    record = data[offset:end]
    return record if record and len(record) == end - offset and _crc(image_id, record) == crc else None


def image_size_at(data: mmap.mmap | bytes, offset: int) -> tuple[int, int]:
    """Return the image's width and height from the record at ``offset``, without verifying its checksum."""
    width, height = struct.unpack_from("<2i", data, offset + _HEAD.size)
    return width, height


def record_fault(record: bytes) -> str | None:
    """Return why a record with a valid checksum cannot contain maps; None if it can."""
    views, height, width = _HEAD.unpack_from(record)[3:]
    if not views or not height or not width:
        return f"{views} maps of {width} x {height}"
    return geometry_fault(np.frombuffer(record, "<i4", 9 * views, _HEAD.size).reshape(views, 9))


def geometry_fault(numbers: np.ndarray) -> str | None:
    """Return why integers (V, 9) cannot be the numbers of V views, see `geometry_numbers`; None if they can."""
    numbers = numbers.astype(np.int64)
    for name, (x, y) in {"image": (0, 1), "resized": (2, 3), "input": (6, 7)}.items():
        for w, h in numbers[:, [x, y]].tolist():
            if w < 1 or h < 1 or w * h > MOST_PIXELS:
                return f"{name} size {w} x {h}"
    begin, end = numbers[:, 4:6], numbers[:, 4:6] + numbers[:, 6:8]
    if (begin >= numbers[:, 2:4]).any() or (end <= 0).any():
        return "a view outside its image"
    return None if (np.isin(numbers[:, 8], (0, 1))).all() else "a mirrored flag that is neither 0 nor 1"


def unpack(record: bytes) -> tuple[np.ndarray, tuple[Geometry, ...]]:
    """Return the maps float32 (V, h, w) and geometries of a record."""
    _, _, kind, views, height, width = _HEAD.unpack_from(record)
    numbers = np.frombuffer(record, "<i4", 9 * views, _HEAD.size).reshape(views, 9)
    ends = np.frombuffer(record, "<f4", 2 * views, _HEAD.size + 36 * views).astype(np.float64)
    values = np.frombuffer(record, _KINDS[kind], offset=_HEAD.size + 44 * views).reshape(views, height, width)
    low, high = ends[0::2, None, None], ends[1::2, None, None]
    if kind == 1:
        values = np.clip(values * high, -_LARGEST, _LARGEST)
    elif kind == 2:
        values = low * (1 - values / 255) + high * (values / 255)
    return values.astype(np.float32), tuple(geometry_of(tuple(row)) for row in numbers.tolist())


def geometry_numbers(geometry: Geometry) -> tuple[int, ...]:
    """Return a view as 9 numbers: image w, h; resized w, h; offset x, y; input w, h; mirrored."""
    pairs = geometry.image_size, geometry.resized, geometry.offset, geometry.input_size
    return *(number for pair in pairs for number in pair), int(geometry.mirrored)


def geometry_of(numbers: tuple[int, ...]) -> Geometry:
    """Return the view of 9 numbers, see `geometry_numbers`.

    Example:
        >>> view = Geometry(image_size=(512, 256), resized=(256, 256), offset=(16, 16), input_size=(224, 224))
        >>> geometry_of(geometry_numbers(view)) == view
        True
    """
    image_size, resized, offset, input_size = zip(numbers[0:8:2], numbers[1:8:2], strict=True)
    return Geometry(image_size, resized, offset, input_size, bool(numbers[8]))


def _length(kind: int, views: int, height: int, width: int) -> int:
    return _HEAD.size + 44 * views + views * height * width * np.dtype(_KINDS[kind]).itemsize


def _crc(image_id: str, record: bytes) -> int:
    """Return the checksum of a record, without its magic and checksum, and of its id."""
    return zlib.crc32(memoryview(record)[8:], zlib.crc32(image_id.encode()))
