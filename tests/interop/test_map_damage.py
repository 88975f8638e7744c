"""Damaged stores of maps: every one is told by file and entry."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import told

from tests.interop.test_map_store import SIZE, some_maps, write
from wsol.data.source import FileSplit
from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.interop.map_folder import open_maps
from wsol.interop.map_store import MapStore, MapWriter


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


def reindexed(folder: Path, **changes: object) -> None:
    """Change the index and its checksum with it."""
    file = folder / "maps-0.json"
    text = json.dumps({**json.loads(file.read_text().split("\n")[1]), **changes})
    file.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")


def test_damage_is_refused_by_name(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", some_maps(3))

    def damaged(name: str) -> Path:
        return Path(shutil.copytree(whole, tmp_path / name))

    folder = damaged("no index")
    (folder / "maps-0.json").unlink()
    with pytest.raises(InputError, match=r"maps-0\.json: no such file: the store's index"):
        open_maps(folder)
    folder = damaged("no records")
    (folder / "maps-0.bin").unlink()
    with pytest.raises(InputError, match=r"maps-0\.bin: no such file, but maps-0\.json refers to it"):
        open_maps(folder)
    folder = damaged("cut off")
    (folder / "maps-0.bin").write_bytes((whole / "maps-0.bin").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"maps-0\.bin: has \d+ bytes, expected \d+: cut off"):
        open_maps(folder)
    folder = damaged("version")
    reindexed(folder, version=2)
    with pytest.raises(InputError, match=r"maps-0\.json: version 2 of the format, expected 1"):
        open_maps(folder)
    folder = damaged("keys")
    reindexed(folder, more=1)
    with pytest.raises(InputError, match=r"maps-0\.json: expected the keys bytes, header"):
        open_maps(folder)
    folder = damaged("other run")
    write(folder, some_maps(1), shard="1", split="val")
    with pytest.raises(InputError, match=r"maps-1\.bin: header differs from .*maps-0\.bin's"):
        open_maps(folder)
    with pytest.raises(InputError, match="not a store of maps"):
        MapStore(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": [0, 10**9]}, r"offsets\[1\]: expected a place in the .* bytes of maps, got '1000000000'"),
        ({"offsets": [0, -1]}, r"offsets\[1\]: expected a place"),
        ({"offsets": [0.0, 1]}, r"offsets\[0\]: .* got '0.0'"),
        ({"offsets": ["0", 1]}, r"offsets\[0\]: expected a place"),
        ({"offsets": [True, 1]}, r"offsets\[0\]: expected a place"),
        ({"offsets": [0]}, r"2 ids but 1 offsets"),
        ({"offsets": None}, r"offsets: expected a list, got 'null'"),
        ({"ids": [1, 2]}, r"ids\[0\]: expected the id of an image, got '1'"),
        ({"ids": ["a", None]}, r"ids\[1\]: expected the id of an image, got 'null'"),
        ({"ids": ["a", "\udcff"]}, r"ids\[1\]: expected the id of an image"),
        ({"ids": ["a", "a"]}, r"ids\[1\]: 'a' is listed twice"),
        ({"ids": {"a": 1}}, r"ids: expected a list"),
        ({"bytes": "374"}, r"bytes: expected a whole number"),
        ({"bytes": True}, r"bytes: expected a whole number"),
        ({"header": None}, r"header: expected an object, got 'null'"),
        ({"version": True}, r"version True of the format, expected 1"),
    ],
)
def test_an_index_that_says_what_cannot_be(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write(tmp_path, some_maps(2))
    reindexed(tmp_path, **changes)
    with pytest.raises(InputError, match=rf"maps-0\.json: {message}"):
        MapStore(tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(["version", "header", "bytes", "ids", "offsets", "more"]), value=VALUES)
def test_any_value_in_an_index_is_told_or_read(scratch: Path, key: str, value: object) -> None:
    folder = scratch / "any"
    shutil.rmtree(folder, ignore_errors=True)
    write(folder, some_maps(2))
    reindexed(folder, **{key: value})
    message = told(lambda: MapStore(folder).verify())
    assert str(folder) in message if message else len(MapStore(folder)) == 2


def test_an_index_with_a_key_twice(tmp_path: Path) -> None:
    file = write(tmp_path, some_maps(1)) / "maps-0.json"
    text = file.read_text().split("\n")[1].replace('"ids":', '"ids": [], "ids":')
    file.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")
    with pytest.raises(InputError, match=r"maps-0\.json"):
        MapStore(tmp_path)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, 0, "image size 0 x 40"),
        (2, 0, "resized size 0 x 28"),
        (6, 0, "input size 0 x 28"),
        (7, -28, "input size 28 x -28"),
        (6, 2**30, "input size 1073741824 x 28"),
        (8, 7, "a mirrored flag"),
    ],
)
def test_a_record_whose_sizes_cannot_be(tmp_path: Path, at: int, value: int, message: str) -> None:
    file = write(tmp_path, {"a.jpg": np.zeros((1, 2, 2), np.float32)}) / "maps-0.bin"
    record = bytearray(file.read_bytes())
    struct.pack_into("<i", record, 24 + 4 * at, value)
    struct.pack_into("<I", record, 4, zlib.crc32(record[8:], zlib.crc32(b"a.jpg")))
    file.write_bytes(record)
    store = MapStore(tmp_path)
    for act in (lambda: store.read("a.jpg"), store.verify):
        with pytest.raises(InputError, match=rf"maps-0\.bin: the record of 'a\.jpg' has {message}"):
            act()


def test_a_writer_refuses_sizes_that_cannot_be(tmp_path: Path) -> None:
    view = Geometry(SIZE, (0, 28), (0, 0), (28, 28))
    refused = pytest.raises(InputError, match=r"a: maps with resized size 0 x 28")
    with MapWriter(tmp_path, header={}) as writer, refused:
        writer.add("a", np.zeros((1, 2, 2)), [view])
    assert len(MapStore(tmp_path)) == 0


def test_damage_to_a_size_is_told_as_damage(tmp_path: Path) -> None:
    file = write(tmp_path, {"a.jpg": np.zeros((1, 2, 2), np.float32)}) / "maps-0.bin"
    record = bytearray(file.read_bytes())
    record[24] ^= 1  # width of the image
    file.write_bytes(record)
    split = FileSplit("test", ["a.jpg"], [0], None, ["a.jpg"], sizes=[SIZE])
    with pytest.raises(InputError, match=r"maps-0\.bin: the maps of 'a\.jpg' differ from their checksum"):
        MapStore(tmp_path).check(split)


def test_a_store_that_is_longer_than_written(tmp_path: Path) -> None:
    file = write(tmp_path, some_maps(1)) / "maps-0.bin"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"maps-0\.bin: has \d+ bytes, expected \d+: longer than written"):
        MapStore(tmp_path)


def test_maps_of_another_split_are_refused(tmp_path: Path) -> None:
    store = MapStore(write(tmp_path, {"a.jpg": np.zeros((1, 2, 2), np.float32)}, split="val"))
    split = FileSplit("test", ["a.jpg"], [0], None, ["a.jpg"], sizes=[SIZE])
    with pytest.raises(InputError, match=r"maps of the split 'val', expected 'test'"):
        store.check(split)


@pytest.mark.parametrize("name", ["maps-0.json", "maps-0.bin"])
def test_a_pipe_in_a_store_does_not_hang(tmp_path: Path, name: str) -> None:
    write(tmp_path, some_maps(1))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=name):
        open_maps(tmp_path)


def test_every_changed_byte_of_the_index_is_found(tmp_path: Path) -> None:
    file = write(tmp_path, some_maps(2)) / "maps-0.json"
    content = file.read_bytes()
    for at in range(len(content) - 1):  # the last is the end of the line
        file.write_bytes(content[:at] + bytes([content[at] ^ 0x21]) + content[at + 1 :])
        with pytest.raises(InputError, match=r"maps-0\.json"):
            MapStore(tmp_path)


def test_every_changed_byte_of_a_record_is_found(tmp_path: Path) -> None:
    file = write(tmp_path, some_maps(2, side=2)) / "maps-0.bin"
    content = bytearray(file.read_bytes())
    store = MapStore(tmp_path)
    for at in range(len(content)):
        for flip in (1, 0x80):
            damaged = bytearray(content)
            damaged[at] ^= flip
            file.write_bytes(damaged)
            with pytest.raises(InputError, match=r"maps-0\.bin: the maps of '\d/\d\.jpg' differ from their checksum"):
                MapStore(tmp_path).verify()
    file.write_bytes(content)
    store.verify()
