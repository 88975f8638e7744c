"""Saved maps: the package's own store, and folders of .npy and .png files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.robustness.checkpoints import flip
from scripts.robustness.runner import Place, Try
from scripts.robustness.sandbox import Outcome

STORE, FOLDER = "map stores", "map folders"
SCORE = "score maps={inputs}/e/maps out={out}/s data_dir={data}"
FILES = "score maps={inputs}/maps data=folder data.root={photos} data.boxes=boxes.csv out={out}/s protocol=[cam2016]"

ODD: dict[str, Any] = {"null": None, "a number": 5, "text": "x", "a list": [1], "a mapping": {"a": 1}, "a float": 0.5}


def tries() -> Iterator[Try]:
    """All of them."""
    yield from _store()
    yield from _folder()


def _copied(change: Callable[[Path], Any]) -> Callable[[Place], None]:
    def make(place: Place) -> None:
        shutil.copytree(place.base.path("evaluation"), place.inputs / "e")
        change(place.inputs / "e/maps/test")

    return make


def _same_errors(place: Place, outcome: Outcome) -> bool:
    """Whether the localization errors are those of the undamaged maps."""
    new = json.loads((place.out / "s/results.json").read_text())["localization"]
    old = json.loads((place.base.path("evaluation") / "results.json").read_text())["localization"]

    def of(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return [
            (r["protocol"], r["threshold_origin"], r["gt_known_error"])
            for r in rows
            if r["split"] == "test" and r["maps"] == "localizer"
        ]

    return of(new) == of(old)


def _index(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the index, with a checksum that is right again."""

    def apply(folder: Path) -> None:
        file = folder / "maps-0.json"
        tree = json.loads(file.read_text().partition("\n")[2])
        text = json.dumps(change(tree) or tree)
        file.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")

    return apply


def _record(offset: int, kind: str, *values: float) -> Callable[[Path], None]:
    """Change the first record behind its head, with a checksum that is right again."""

    def apply(folder: Path) -> None:
        tree = json.loads((folder / "maps-0.json").read_text().partition("\n")[2])
        file = folder / "maps-0.bin"
        raw, end = bytearray(file.read_bytes()), tree["offsets"][1]
        struct.pack_into(f"<{len(values)}{kind}", raw, offset, *values)
        crc = zlib.crc32(memoryview(raw)[8:end], zlib.crc32(tree["ids"][0].encode()))
        struct.pack_into("<I", raw, 4, crc)
        file.write_bytes(raw)

    return apply


def _on(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def _store() -> Iterator[Try]:
    def store(what: str, change: Callable[[Path], Any], right: str = "refused") -> Try:
        return Try(STORE, what, _copied(change), SCORE, right, ("maps-0", "maps/test", "classes-0"), _same_errors)

    yield store("nothing wrong", lambda folder: None, "accepted")
    for k in range(16):
        share = (k + 0.4) / 16
        yield store(f"a byte of the records at {share:.2f} flipped", _on("maps-0.bin", _flipped(share)))
    for k in range(8):
        share = (k + 0.4) / 8
        yield store(f"a byte of the index at {share:.2f} flipped", _on("maps-0.json", _flipped(share)))
    for k in (0, 4, 8, 12, 16, 20, 24, 28):
        yield store(f"byte {k} of the first record flipped", _on("maps-0.bin", lambda raw, k=k: flip(raw, k)))
    for name in ("maps-0.bin", "maps-0.json"):
        for what, change in (
            ("empty", lambda raw: b""),
            ("cut by one byte", lambda raw: raw[:-1]),
            ("cut in half", lambda raw: raw[: len(raw) // 2]),
            ("one byte longer", lambda raw: raw + b"x"),
            ("text", lambda raw: b"hello"),
        ):
            right = "either" if (name, what) == ("maps-0.json", "cut by one byte") else "refused"
            yield store(f"{name} {what}", _on(name, change), right)
        yield store(f"{name} missing", lambda folder, name=name: (folder / name).unlink())
        yield store(f"{name} not finished", lambda f, n=name: (f / n).rename(f / f"{n}.part"))
        yield store(f"{name} a FIFO", lambda f, n=name: ((f / n).unlink(), os.mkfifo(f / n)))
        yield store(f"{name} a folder", lambda f, n=name: ((f / n).unlink(), (f / n).mkdir()))
    for key in ("version", "header", "bytes", "ids", "offsets"):
        for what, value in ODD.items():
            if (key, what) != ("header", "a mapping"):
                yield store(f"{key} is {what}", _index(lambda tree, k=key, v=value: tree.update({k: v})))
        yield store(f"without {key}", _index(lambda tree, k=key: tree.pop(k) and None))
    lists: dict[str, Callable[[dict[str, Any]], Any]] = {
        "offsets beyond the end": lambda t: t.update(offsets=[1 << 40] * len(t["offsets"])),
        "negative offsets": lambda t: t.update(offsets=[-8] * len(t["offsets"])),
        "offsets of text": lambda t: t.update(offsets=["a"] * len(t["offsets"])),
        "offsets that are fractions": lambda t: t.update(offsets=[o + 0.5 for o in t["offsets"]]),
        "all offsets 0": lambda t: t.update(offsets=[0] * len(t["offsets"])),
        "ids that are numbers": lambda t: t.update(ids=list(range(len(t["ids"])))),
        "ids that are null": lambda t: t.update(ids=[None] * len(t["ids"])),
        "the same id for all": lambda t: t.update(ids=[t["ids"][0]] * len(t["ids"])),
        "an id too few": lambda t: t.update(ids=t["ids"][1:]),
        "an image too few": lambda t: t.update(ids=t["ids"][1:], offsets=t["offsets"][1:]),
        "a further key": lambda t: t.update(more=1),
        "an index that is a list": lambda t: [1],
    }
    for what, change in lists.items():
        yield store(what, _index(change))
    records: dict[str, Callable[[Path], None]] = {
        "an image of 0 x 0": _record(24, "i", 0, 0),
        "another image size": _record(24, "i", 640, 480),
        "resized to 0 x 0": _record(32, "i", 0, 0),
        "a negative resized": _record(32, "i", -5, -5),
        "an input of 0 x 0": _record(48, "i", 0, 0),
        "an input of 2**30": _record(48, "i", 1 << 30, 1 << 30),
        "offset 2**30": _record(40, "i", 1 << 30, 1 << 30),
        "mirrored 7": _record(56, "i", 7),
        "of 2**31 views": _record(12, "I", 1 << 31),
        "height 2**31": _record(16, "I", 1 << 31),
    }
    for what, apply in records.items():
        yield store(f"a record with a right checksum: {what}", apply, "either" if what == "mirrored 7" else "refused")


def _flipped(share: float) -> Callable[[bytes], bytes]:
    return lambda raw: flip(raw, int(share * len(raw)))


def npy(values: Any, **options: Any) -> bytes:
    """As `numpy.save` writes it."""
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def _npy_header(text: str, version: bytes = b"\x01\x00") -> bytes:
    head = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(head)) + head + bytes(64 * 8)


class _Pickled:
    """Makes a canary file where an array of objects is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def _png(mode: str, dtype: type, size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    high = 65535 if dtype is np.uint16 else 255
    image = Image.fromarray((good(size) * high).astype(dtype))
    (image if mode in ("L", "I;16") else image.convert(mode)).save(file, "PNG")
    return file.getvalue()


def good(size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """A map with a peak."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    return np.exp(-((x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2) / 8)


def _folder() -> Iterator[Try]:
    values = good()
    nan = values.copy()
    nan[0, 0] = np.nan
    header = "{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}".format
    files: dict[str, tuple[str, str, bytes | Callable[[Path], Any]]] = {
        "float64": ("accepted", "npy", npy(values)),
        "float32": ("accepted", "npy", npy(values.astype(np.float32))),
        "float16": ("accepted", "npy", npy(values.astype(np.float16))),
        "uint8": ("accepted", "npy", npy((values * 255).astype(np.uint8))),
        "Fortran's order": ("accepted", "npy", npy(np.asfortranarray(values))),
        "big-endian": ("accepted", "npy", npy(values.astype(">f8"))),
        "all equal": ("either", "npy", npy(np.ones((8, 8)))),
        "NaN": ("noted", "npy", npy(nan)),
        "all infinite": ("noted", "npy", npy(np.full((8, 8), np.inf))),
        "1e308": ("either", "npy", npy(values * 1e308)),
        "grey of 8 bits": ("accepted", "png", _png("L", np.uint8)),
        "grey of 16 bits": ("accepted", "png", _png("I;16", np.uint16)),
        "of colours": ("refused", "png", _png("RGB", np.uint8)),
        "with transparency": ("refused", "png", _png("LA", np.uint8)),
        "cut in half": ("refused", "png", _png("L", np.uint8)[:60]),
        "with a flipped byte": ("refused", "png", flip(_png("L", np.uint8), 45)),
        "empty": ("refused", "png", b""),
        "of text": ("refused", "png", b"hello"),
        "pickled objects": ("refused", "npy", lambda path: path.write_bytes(_objects(path))),
        "a pickle": ("refused", "npy", b"\x80\x02cposix\nsystem\nU\x04truetR."),
        "three dimensions": ("refused", "npy", npy(np.zeros((1, 8, 8)))),
        "one dimension": ("refused", "npy", npy(np.zeros(8))),
        "no dimensions": ("refused", "npy", npy(np.float64(3))),
        "no pixels": ("refused", "npy", npy(np.zeros((0, 8)))),
        "complex numbers": ("refused", "npy", npy(values.astype(complex))),
        "texts": ("refused", "npy", npy(np.full((8, 8), "a"))),
        "truth values": ("refused", "npy", npy(values > 0.5)),
        "dates": ("refused", "npy", npy(np.zeros((8, 8), "datetime64[s]"))),
        "a record": ("refused", "npy", npy(np.zeros((8, 8), [("a", "f4")]))),
        "cut off": ("refused", "npy", npy(values)[:-8]),
        "empty .npy": ("refused", "npy", b""),
        "text": ("refused", "npy", b"hello"),
        "an npz": ("refused", "npy", b"PK\x03\x04" + bytes(40)),
        "a shape of 10**15": ("refused", "npy", _npy_header(header("<f8", False, (10**15, 10**15)))),
        "a negative shape": ("refused", "npy", _npy_header(header("<f8", False, (-8, 8)))),
        "a header that calls": ("refused", "npy", _npy_header("__import__('os').system('true')")),
        "a header of brackets": ("refused", "npy", _npy_header("(" * 100)),
        "version 9": ("refused", "npy", _npy_header(header("<f8", False, (8, 8)), b"\x09\x00")),
        "a FIFO": ("refused", "npy", lambda path: os.mkfifo(path)),
        "a link to /dev/zero": ("refused", "npy", lambda path: path.symlink_to("/dev/zero")),
        "a dangling link": ("refused", "npy", lambda path: path.symlink_to("nowhere")),
        "missing": ("refused", "npy", lambda path: None),
    }
    for what, (right, suffix, raw) in files.items():

        def make(place: Place, suffix: str = suffix, raw: bytes | Callable[[Path], Any] = raw) -> None:
            for k in range(2):
                for name in ("cat", "dog"):
                    path = place.inputs / f"maps/test/test/{name}/{k}.png.{suffix}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if (k, name) != (0, "cat"):
                        path.write_bytes(npy(good()) if suffix == "npy" else _png("L", np.uint8))
                    elif isinstance(raw, bytes):
                        path.write_bytes(raw)
                    else:
                        raw(path)

        yield Try(FOLDER, f"{suffix}: {what}", make, f"{FILES} missing=refuse", right, ("test/cat/0.png",))


def _objects(path: Path) -> bytes:
    canary = path
    while canary.name != "in":
        canary = canary.parent
    return npy(np.array([_Pickled(str(canary.parent / "CANARY"))], dtype=object), allow_pickle=True)
