"""The package's own store of maps: compact, exact on request, readable in any order; incomplete stores are refused.

A folder contains ``maps-<shard>.bin`` and ``maps-<shard>.json`` for each process of a run, see `wsol.interop.shards`;
`wsol.interop.map_record` describes the records. A safetensors file would be written at once, from memory and without
checksums; zarr would need a file, and milliseconds, for each image, because maps differ in shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsol.data.source import Split
from wsol.errors import InputError, unknown
from wsol.functional.geometry import Geometry
from wsol.interop.map_record import (
    DTYPES,
    MOST_PIXELS,
    SMALLEST,
    image_size_at,
    pack,
    record_fault,
    sound_record,
    unpack,
)
from wsol.interop.maps import Maps
from wsol.interop.shards import Shard, ShardWriter, index_files

KIND = "maps"
"""The content of the shards, see `wsol.interop.shards`."""


class MapWriter(ShardWriter):
    """Writes one shard of a store.

    Leaving the ``with`` block normally, or `close`, completes the shard; leaving it by an exception does not.

    Args:
        folder: created if necessary.
        dtype: ``float32``, ``float16``, ``uint8`` or ``auto``, see `wsol.interop.map_record`.
        header: description of the maps: any JSON values, the same for all shards.
        shard: name of the shard, different for each process that writes to the folder.

    Raises:
        InputError: unknown dtype, or the shard exists already, complete or not.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with MapWriter(folder, header={"split": "test"}) as writer:
        ...     writer.add("a.jpg", np.array([[[0.0, 0.5]]]), [Geometry.whole((20, 10))])
        >>> store = MapStore(folder)
        >>> store.read("a.jpg")[0].tolist(), store.header
        ([[[0.0, 0.5]]], {'split': 'test'})
    """

    def __init__(self, folder: str | Path, *, dtype: str = "auto", header: Mapping[str, Any], shard: str = "0") -> None:
        if dtype not in DTYPES:
            raise unknown("dtype of maps", dtype, DTYPES)
        super().__init__(folder, KIND, header=header, shard=shard)
        self._dtype = dtype

    def add(self, image_id: str, maps: np.ndarray, geometries: Sequence[Geometry]) -> None:
        """Append the maps of an image.

        Args:
            image_id: id of the image.
            maps: real (V, h, w), not scaled.
            geometries: geometries of the V views.

        Raises:
            InputError: the number, shape or a size of the maps is wrong, or the disk is full.
        """
        if maps.ndim != 3 or not maps.size or len(maps) != len(geometries):
            raise InputError(f"{image_id}: expected maps (V, h, w) of {len(geometries)} views, got shape {maps.shape}")
        record = pack(image_id, np.asarray(maps, dtype=np.float32), geometries, self._dtype)
        if fault := record_fault(record):
            raise InputError(f"{image_id}: maps with {fault}; expected sizes from 1 x 1 to {MOST_PIXELS:,} pixels")
        self.append(image_id, record)


class MapStore(Maps):
    """Reads a store: all its shards as one. Records stay on disk, mapped into memory.

    Args:
        folder: folder written by `MapWriter`.

    Raises:
        InputError: no store, one that is incomplete, damaged or of another version, shards of different runs, or
            different maps of one image.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        shards = [Shard.open(file, SMALLEST) for file in index_files(self.folder, KIND)]
        self.header: dict[str, Any] = shards[0].header
        self._at: dict[str, tuple[Shard, int]] = {}
        for shard in shards:
            if shard.header != self.header:
                raise InputError(f"{shard.file}: header differs from {shards[0].file}'s; keep each run's maps apart")
            for image_id, offset in zip(shard.ids, shard.offsets, strict=True):
                first = self._at.setdefault(image_id, (shard, offset))
                if first != (shard, offset) and _record(first[0], image_id, first[1]) != _record(
                    shard, image_id, offset
                ):
                    raise InputError(f"{shard.file}: maps of {image_id!r} occur twice and differ; write them again")
        self.ids = tuple(self._at)

    def read(self, image_id: str, image_size: tuple[int, int] | None = None) -> tuple[np.ndarray, tuple[Geometry, ...]]:
        """See `wsol.interop.maps.Maps.read`; the maps are float32."""
        if image_id not in self._at:
            raise InputError(f"{self.folder}: no map of image {image_id!r}")
        shard, offset = self._at[image_id]
        maps, geometries = unpack(_record(shard, image_id, offset))
        _check_size(self.folder, image_id, geometries[0].image_size, image_size)
        return maps, geometries

    def check(self, split: Split) -> tuple[list[str], list[str]]:
        """See `wsol.interop.maps.Maps.check`."""
        made_on = self.header.get("split")
        if isinstance(made_on, str) and made_on != split.name:
            raise InputError(f"{self.folder}: maps of the split {made_on!r}, expected {split.name!r}; name that split")
        for i, image_id in enumerate(split.ids):
            if image_id in self._at:
                shard, offset = self._at[image_id]
                size = image_size_at(shard.data, offset)
                if size != split.size(i):
                    _record(shard, image_id, offset)  # reports a damaged record
                    _check_size(self.folder, image_id, size, split.size(i))
        return super().check(split)

    def verify(self) -> None:
        """Verify the checksum of every record.

        Raises:
            InputError: at the first mismatch.
        """
        for image_id, (shard, offset) in self._at.items():
            _record(shard, image_id, offset)

    def about(self) -> dict[str, Any]:
        """Return the header, as ``made_of``."""
        return {"kind": "store", "made_of": self.header}


def is_store(folder: Path) -> bool:
    """Return whether a folder contains a store, complete or not."""
    return any(folder.glob("maps-*.json*")) or any(folder.glob("maps-*.bin*"))


def _record(shard: Shard, image_id: str, offset: int) -> bytes:
    """Return a record's bytes after verifying its checksum."""
    record = sound_record(image_id, shard.data, offset)
    if record is None:
        raise InputError(f"{shard.file}: the maps of {image_id!r} differ from their checksum; write the maps again")
    if fault := record_fault(record):
        raise InputError(f"{shard.file}: the record of {image_id!r} has {fault}; write the maps again")
    return record


def _check_size(folder: Path, image_id: str, stored: tuple[int, int], asked: tuple[int, int] | None) -> None:
    if asked is not None and tuple(asked) != tuple(stored):
        raise InputError(
            f"{folder}: the map of {image_id!r} is of an image of {stored[0]} x {stored[1]}, but the dataset's is of "
            f"{asked[0]} x {asked[1]}; are they maps of another dataset?"
        )
