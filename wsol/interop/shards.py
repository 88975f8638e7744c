"""Records of images, appended as they are made, in two files for each process; incomplete files are never read.

A folder contains two files for each *shard* (one shard for each process of a run)::

    <kind>-<shard>.bin     records, one after another
    <kind>-<shard>.json    sha256 of the next line; then {"version", "header", "bytes", "ids", "offsets"}

Both files are written under another name and renamed when the shard is complete, so that the unfinished files of an
interrupted process are recognized.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from wsol.data.annotations.json_file import strict_json
from wsol.data.annotations.text_tables import quoted
from wsol.data.regular_files import name_fault, open_regular, read_regular
from wsol.errors import InputError
from wsol.files import errors_naming, flush

VERSION = 1
"""Version of the format; shards of other versions are refused."""

_INDEX_KEYS = {"version", "header", "bytes", "ids", "offsets"}
_JSON_NAMES = {dict: "an object", int: "a whole number", list: "a list"}


class ShardWriter:
    """Writes one shard.

    Leaving the ``with`` block normally, or `close`, completes the shard; leaving it by an exception does not.

    Args:
        folder: created if necessary.
        kind: what the records are, such as ``maps``.
        header: description of the records: any JSON values, the same for all shards.
        shard: name of the shard, different for each process that writes to the folder.

    Raises:
        InputError: the shard exists already, complete or not.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with ShardWriter(folder, "words", header={}) as writer:
        ...     writer.append("b.jpg", b"second")
        ...     writer.append("a.jpg", b"first")
        >>> list(records_in_order(folder, "words", ["a.jpg", "b.jpg", "c.jpg"]))
        [('a.jpg', b'first'), ('b.jpg', b'second')]
    """

    def __init__(self, folder: str | Path, kind: str, *, header: Mapping[str, Any], shard: str = "0") -> None:
        if not re.fullmatch(r"[A-Za-z0-9_]+", shard):
            raise InputError(f"shard {shard!r}: expected letters and digits, such as '0'")
        self._header = json.loads(json.dumps(dict(header)))
        self._bin, self._json = (Path(folder) / f"{kind}-{shard}.{suffix}" for suffix in ("bin", "json"))
        self._ids: list[str] = []
        self._offsets: list[int] = []
        self._size = 0
        try:
            self._bin.parent.mkdir(parents=True, exist_ok=True)
            if any(file.exists() for file in (self._bin, self._json, _part(self._bin))):
                raise InputError(f"{folder}: shard {shard!r} of {kind} exists already; delete it or write elsewhere")
            self._file = _part(self._bin).open("xb")
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error

    def __enter__(self) -> Self:
        return self

    def append(self, image_id: str, record: bytes) -> None:
        """Append the record of an image.

        Raises:
            InputError: the disk is full.
        """
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


class Shard(NamedTuple):
    """A complete shard, mapped into memory."""

    file: Path
    header: dict[str, Any]
    ids: list[str]
    offsets: list[int]
    """Where each record begins, in bytes."""
    data: mmap.mmap | bytes

    @classmethod
    def open(cls, index_file: Path, smallest: int = 0) -> Shard:
        """Check the index and the size of the records, and map them into memory.

        Args:
            index_file: one of `index_files`.
            smallest: number of bytes of the smallest record.

        Raises:
            InputError: the shard is incomplete, damaged or of another version.
        """
        index = _read_index(index_file, smallest)
        file = index_file.with_suffix(".bin")
        kind = _kind(file)
        if not file.is_file():
            raise InputError(f"{file}: no such file, but {index_file.name} refers to it; write the {kind} again")
        size = file.stat().st_size
        if size != index["bytes"]:
            how = "cut off" if size < index["bytes"] else "longer than written"
            raise InputError(f"{file}: has {size:,} bytes, expected {index['bytes']:,}: {how}; write the {kind} again")
        with open_regular(file) as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        return cls(file, index["header"], index["ids"], index["offsets"], data)

    def record(self, row: int) -> bytes:
        """Return the record of ``ids[row]``."""
        end = self.offsets[row + 1] if row + 1 < len(self.offsets) else len(self.data)
        return self.data[self.offsets[row] : end]


def index_files(folder: Path, kind: str) -> list[Path]:
    """Return the index files of the shards of a folder.

    Raises:
        InputError: no shard, or one that is incomplete.
    """
    left = sorted(folder.glob(f"{kind}-*.part"))
    if left:
        raise InputError(
            f"{left[0]}: writing was interrupted or continues; delete the folder and write the {kind} again"
        )
    files = sorted(folder.glob(f"{kind}-*.json"))
    for file in sorted(folder.glob(f"{kind}-*.bin")):
        if file.with_suffix(".json") not in files:
            raise InputError(f"{file.with_suffix('.json')}: no such file: the store's index; write the {kind} again")
    if not files:
        raise InputError(f"{folder}: not a store of {kind}; expected {kind}-*.json and {kind}-*.bin")
    return files


def records_in_order(folder: str | Path, kind: str, ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield id and record of the images that have one, in the order of ``ids``; only one record is in memory.

    Raises:
        InputError: see `Shard.open` and `index_files`.
    """
    shards = [Shard.open(file) for file in index_files(Path(folder), kind)]
    position = {name: i for i, name in enumerate(ids)}
    places = np.full((len(ids), 2), -1)
    for number, shard in enumerate(shards):
        for row, name in enumerate(shard.ids):
            places[position[name]] = number, row
    for at in np.flatnonzero(places[:, 0] >= 0).tolist():
        number, row = places[at].tolist()
        yield ids[at], shards[number].record(row)


def _read_index(file: Path, smallest: int) -> dict[str, Any]:
    try:
        digest, _, text = read_regular(file).decode().partition("\n")
        sound = digest == hashlib.sha256(text.rstrip("\n").encode()).hexdigest()
        index = strict_json(text) if sound else None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError:
        index = None
    if not isinstance(index, dict):
        raise InputError(f"{file}: differs from its checksum; write the {_kind(file)} again")
    if type(index.get("version")) is not int or index["version"] != VERSION:
        raise InputError(f"{file}: version {index.get('version')!r} of the format, expected {VERSION}; update wsol")
    if fault := _index_fault(index, smallest, _kind(file)):
        raise InputError(f"{file}: {fault}; write the {_kind(file)} again")
    return index


def _index_fault(index: dict[str, Any], smallest: int, kind: str) -> str | None:
    """Return what is wrong with the content of an index with a valid checksum."""
    if set(index) != _INDEX_KEYS:
        return f"expected the keys {', '.join(sorted(_INDEX_KEYS))}, got {', '.join(sorted(index))}"
    kinds = {"header": dict, "bytes": int, "ids": list, "offsets": list}
    for key, wanted in kinds.items():
        if type(index[key]) is not wanted:
            return f"{key}: expected {_JSON_NAMES[wanted]}, got {quoted(json.dumps(index[key]))}"
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
        if type(offset) is not int or not 0 <= offset <= size - smallest:
            return f"offsets[{i}]: expected a place in the {size:,} bytes of {kind}, got {quoted(json.dumps(offset))}"
    return None


def _kind(file: Path) -> str:
    return file.name.partition("-")[0]


def _part(file: Path) -> Path:
    return file.with_name(file.name + ".part")
