"""The package's own store of maps: compact, exact on request, readable in any order, and never read incomplete.

A folder contains two files for each *shard* (one shard for each process of a run)::

    maps-<shard>.bin     records, one after another, see `wsol.interop.map_record`
    maps-<shard>.json    sha256 of the next line; then {"version", "header", "bytes", "ids", "offsets"}

Records are appended while maps are made, each with a checksum. A safetensors file is written at once, from memory, and
without checksums; zarr takes a file and milliseconds for each of the images, whose maps differ in shape.

Both files are written under another name and renamed when the shard is complete, so what an interrupted process left
behind is told from what is whole.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsol.data.annotations.json_file import strict_json
from wsol.data.annotations.text_tables import quoted
from wsol.data.regular_files import name_fault, open_regular, read_regular
from wsol.data.source import Split
from wsol.errors import InputError, unknown
from wsol.files import errors_naming, flush
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

VERSION = 1
"""Version of the format; stores of other versions are refused."""

_INDEX_KEYS = {"version", "header", "bytes", "ids", "offsets"}
_JSON_NAMES = {dict: "an object", int: "a whole number", list: "a list"}


class MapWriter(AbstractContextManager["MapWriter"]):
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
        if not re.fullmatch(r"[A-Za-z0-9_]+", shard):
            raise InputError(f"shard {shard!r}: expected letters and digits, such as '0'")
        self._dtype, self._header = dtype, json.loads(json.dumps(dict(header)))
        self._bin, self._json = (Path(folder) / f"maps-{shard}.{suffix}" for suffix in ("bin", "json"))
        self._ids: list[str] = []
        self._offsets: list[int] = []
        self._size = 0
        try:
            self._bin.parent.mkdir(parents=True, exist_ok=True)
            if any(file.exists() for file in (self._bin, self._json, _part(self._bin))):
                raise InputError(f"{folder}: shard {shard!r} of maps exists already; delete it or write elsewhere")
            self._file = _part(self._bin).open("xb")
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error

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
        try:
            self._file.write(record)
        except OSError as error:
            raise InputError(f"{self._bin}: cannot be written ({error.strerror}); free some disk space") from error
        self._ids.append(image_id)
        self._offsets.append(self._size)
        self._size += len(record)

    def close(self) -> None:
        """Complete the shard; a second call does nothing."""
        if self._file.closed:
            return
        index = {"version": VERSION, "header": self._header, "bytes": self._size}
        text = json.dumps({**index, "ids": self._ids, "offsets": self._offsets})
        try:
            self._file.close()
            _part(self._json).write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n", encoding="utf-8")
            flush(_part(self._bin))
            flush(_part(self._json))
            _part(self._bin).replace(self._bin)
            _part(self._json).replace(self._json)
        except OSError as error:
            raise InputError(f"{self._bin}: cannot be written ({error.strerror}); free some disk space") from error

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None:
            self.close()
        else:
            with errors_naming(self._bin):
                self._file.close()


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
        shards = [_Shard.open(file) for file in _index_files(self.folder)]
        self.header: dict[str, Any] = shards[0].header
        self._at: dict[str, tuple[_Shard, int]] = {}
        for shard in shards:
            if shard.header != self.header:
                raise InputError(f"{shard.file}: header differs from {shards[0].file}'s; keep each run's maps apart")
            for image_id, offset in zip(shard.ids, shard.offsets, strict=True):
                first = self._at.setdefault(image_id, (shard, offset))
                if first != (shard, offset) and first[0].record(image_id, first[1]) != shard.record(image_id, offset):
                    raise InputError(f"{shard.file}: maps of {image_id!r} occur twice and differ; write them again")
        self.ids = tuple(self._at)

    def read(self, image_id: str, image_size: tuple[int, int] | None = None) -> tuple[np.ndarray, tuple[Geometry, ...]]:
        """See `wsol.interop.maps.Maps.read`; the maps are float32."""
        if image_id not in self._at:
            raise InputError(f"{self.folder}: no map of image {image_id!r}")
        shard, offset = self._at[image_id]
        maps, geometries = unpack(shard.record(image_id, offset))
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
                    shard.record(image_id, offset)  # reports a damaged record
                    _check_size(self.folder, image_id, size, split.size(i))
        return super().check(split)

    def verify(self) -> None:
        """Verify the checksum of every record.

        Raises:
            InputError: at the first mismatch.
        """
        for image_id, (shard, offset) in self._at.items():
            shard.record(image_id, offset)

    def about(self) -> dict[str, Any]:
        """Return the header, as ``made_of``."""
        return {"kind": "store", "made_of": self.header}


def is_store(folder: Path) -> bool:
    """Return whether a folder contains a store, complete or not."""
    return any(folder.glob("maps-*.json*")) or any(folder.glob("maps-*.bin*"))


class _Shard(NamedTuple):
    """A complete shard."""

    file: Path
    """Size of the records in bytes."""
    header: dict[str, Any]
    ids: list[str]
    offsets: list[int]
    data: mmap.mmap | bytes

    @classmethod
    def open(cls, index_file: Path) -> _Shard:
        """Check the index and the size of the records, and map them into memory."""
        index = _read_index(index_file)
        file = index_file.with_suffix(".bin")
        if not file.is_file():
            raise InputError(f"{file}: no such file, but {index_file.name} refers to it; write the maps again")
        size = file.stat().st_size
        if size != index["bytes"]:
            how = "cut off" if size < index["bytes"] else "longer than written"
            raise InputError(f"{file}: has {size:,} bytes, expected {index['bytes']:,}: {how}; write the maps again")
        with open_regular(file) as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        return cls(file, index["header"], index["ids"], index["offsets"], data)

    def record(self, image_id: str, offset: int) -> bytes:
        """Return a record's bytes after verifying its checksum."""
        record = sound_record(image_id, self.data, offset)
        if record is None:
            raise InputError(f"{self.file}: the maps of {image_id!r} differ from their checksum; write the maps again")
        if fault := record_fault(record):
            raise InputError(f"{self.file}: the record of {image_id!r} has {fault}; write the maps again")
        return record


def _index_files(folder: Path) -> list[Path]:
    """Return the index files of a store's shards."""
    left = sorted(folder.glob("maps-*.part"))
    if left:
        raise InputError(f"{left[0]}: writing was interrupted or continues; delete the folder and write the maps again")
    files = sorted(folder.glob("maps-*.json"))
    for file in sorted(folder.glob("maps-*.bin")):
        if file.with_suffix(".json") not in files:
            raise InputError(f"{file.with_suffix('.json')}: no such file: the store's index; write the maps again")
    if not files:
        raise InputError(f"{folder}: not a store of maps; expected maps-*.json and maps-*.bin")
    return files


def _read_index(file: Path) -> dict[str, Any]:
    try:
        digest, _, text = read_regular(file).decode().partition("\n")
        sound = digest == hashlib.sha256(text.rstrip("\n").encode()).hexdigest()
        index = strict_json(text) if sound else None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError:
        index = None
    if not isinstance(index, dict):
        raise InputError(f"{file}: differs from its checksum; write the maps again")
    if type(index.get("version")) is not int or index["version"] != VERSION:
        raise InputError(f"{file}: version {index.get('version')!r} of the format, expected {VERSION}; update wsol")
    if fault := _index_fault(index):
        raise InputError(f"{file}: {fault}; write the maps again")
    return index


def _index_fault(index: dict[str, Any]) -> str | None:
    """Return what is wrong with the content of an index with a valid checksum."""
    if set(index) != _INDEX_KEYS:
        return f"expected the keys {', '.join(sorted(_INDEX_KEYS))}, got {', '.join(sorted(index))}"
    kinds = {"header": dict, "bytes": int, "ids": list, "offsets": list}
    for key, kind in kinds.items():
        if type(index[key]) is not kind:
            return f"{key}: expected {_JSON_NAMES[kind]}, got {quoted(json.dumps(index[key]))}"
    ids, offsets, size = index["ids"], index["offsets"], index["bytes"]
    if len(ids) != len(offsets):
        return f"{len(ids):,} ids but {len(offsets):,} offsets"
    known: set[str] = set()
    for i, (image_id, offset) in enumerate(zip(ids, offsets, strict=True)):
        if not isinstance(image_id, str) or not image_id or name_fault(image_id):
            return f"ids[{i}]: expected the id of an image, got {quoted(json.dumps(image_id))}"
        if image_id in known:
            return f"ids[{i}]: {image_id!r} is listed twice"
        known.add(image_id)
        if type(offset) is not int or not 0 <= offset <= size - SMALLEST:
            return f"offsets[{i}]: expected a place in the {size:,} bytes of maps, got {quoted(json.dumps(offset))}"
    return None


def _check_size(folder: Path, image_id: str, stored: tuple[int, int], asked: tuple[int, int] | None) -> None:
    if asked is not None and tuple(asked) != tuple(stored):
        raise InputError(
            f"{folder}: the map of {image_id!r} is of an image of {stored[0]} x {stored[1]}, but the dataset's is of "
            f"{asked[0]} x {asked[1]}; are they maps of another dataset?"
        )


def _part(file: Path) -> Path:
    return file.with_name(file.name + ".part")
