"""Images that are none, or of an unusual kind; and names of files and classes."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.robustness.base import SMALL, photos
from scripts.robustness.checkpoints import flip
from scripts.robustness.runner import Place, Try

KIND = "images"
NAMES = "names of classes and files"
VERIFY = "data verify data=folder data.root={inputs}/photos deep=true"
SHALLOW = "data verify data=folder data.root={inputs}/photos"
TRAIN = "train data=folder data.root={inputs}/photos run_dir={out}/run topk=[1] " + " ".join(
    word for word in SMALL.split() if not word.startswith(("data.", "experiment="))
)
PREDICT = "predict run={run} images={inputs}/photos/train/cat out={out}/p device=cpu"

Write = Callable[[Path], Any]


def _saved(mode: str, form: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    rng = np.random.default_rng(3)
    pixels = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    file = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(rng.integers(0, 65535, (size[1], size[0])).astype(np.uint16)).save(file, form)
    elif mode == "F":
        Image.fromarray(rng.random((size[1], size[0])).astype(np.float32)).save(file, form)
    else:
        pixels.convert(mode).save(file, form, **options)
    return file.getvalue()


def _png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG that says a size, with a handful of bytes behind it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def _gif() -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (40, 30), (k * 60, 0, 0)) for k in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def _middle(raw: bytes, share: float) -> bytes:
    """Zeros in the middle of a JPEG."""
    start = int(len(raw) * share)
    return raw[:start] + bytes(24) + raw[start + 24 :]


def _files() -> dict[str, tuple[str, str, bytes | Write]]:
    """What is written under which name, and what is right."""
    jpeg = _saved("RGB", "JPEG", (64, 48), quality=90)
    png = _saved("RGB", "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    good: dict[str, tuple[str, bytes]] = {
        "a JPEG": ("x.jpg", jpeg),
        "a grey JPEG": ("x.jpg", _saved("L", "JPEG")),
        "a CMYK JPEG": ("x.jpg", _saved("CMYK", "JPEG")),
        "a progressive JPEG": ("x.jpg", _saved("RGB", "JPEG", progressive=True)),
        "a JPEG turned by EXIF": ("x.jpg", _saved("RGB", "JPEG", exif=exif)),
        "a JPEG called .JPEG": ("x.JPEG", jpeg),
        "a JPEG of one pixel": ("x.jpg", _saved("RGB", "JPEG", (1, 1))),
        "a JPEG of 2000 x 1 pixels": ("x.jpg", _saved("RGB", "JPEG", (2000, 1))),
        "a PNG": ("x.png", png),
        "a PNG with transparency": ("x.png", _saved("RGBA", "PNG")),
        "a PNG with a palette": ("x.png", _saved("P", "PNG")),
        "a grey PNG with transparency": ("x.png", _saved("LA", "PNG")),
        "a PNG of one bit": ("x.png", _saved("1", "PNG")),
        "a BMP": ("x.bmp", _saved("RGB", "BMP")),
        "a PNG called .jpg": ("x.jpg", png),
    }
    refused: dict[str, tuple[str, bytes | Write]] = {
        "a float TIFF": ("x.tif", _saved("F", "TIFF")),
        "an empty file": ("x.jpg", b""),
        "text": ("x.jpg", b"not an image\n"),
        "HTML": ("x.jpg", b"<html>404</html>"),
        "an SVG": ("x.jpg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        "a JPEG cut in half": ("x.jpg", jpeg[: len(jpeg) // 2]),
        "a JPEG of its header": ("x.jpg", jpeg[:40]),
        "a JPEG cut and ended": ("x.jpg", jpeg[: len(jpeg) // 2] + b"\xff\xd9"),
        "a PNG cut in half": ("x.png", png[: len(png) // 2]),
        "a PNG with a flipped byte": ("x.png", flip(png, len(png) // 2)),
        "a PNG that says 60,000 x 60,000": ("x.png", _png_header(60_000, 60_000)),
        "a PNG that says 0 x 0": ("x.png", _png_header(0, 0)),
        "a PNG of 13,000 x 13,000 with nothing in it": ("x.png", _png_header(13_000, 13_000)),
        "a FIFO": ("x.jpg", lambda path: os.mkfifo(path)),
        "a link to /dev/zero": ("x.jpg", lambda path: path.symlink_to("/dev/zero")),
        "a dangling link": ("x.jpg", lambda path: path.symlink_to("nowhere.jpg")),
        "a link to itself": ("x.jpg", lambda path: path.symlink_to("x.jpg")),
        "a folder": ("x.jpg", lambda path: path.mkdir()),
    }
    either: dict[str, tuple[str, bytes]] = {
        "a PNG of 16 bits": ("x.png", _saved("I;16", "PNG")),
        "a GIF of three frames": ("x.gif", _gif()),
        "a TIFF": ("x.tif", _saved("RGB", "TIFF")),
        "a WebP": ("x.webp", _saved("RGB", "WEBP")),
    }
    damaged = {f"a JPEG with zeros at {share}": ("x.jpg", _middle(jpeg, share)) for share in (0.5, 0.7)}
    return {
        **{what: ("accepted", *rest) for what, rest in good.items()},
        **{what: ("refused", *rest) for what, rest in (refused | damaged).items()},
        **{what: ("either", *rest) for what, rest in either.items()},
    }


def tries() -> Iterator[Try]:
    """All of them."""
    for what, (right, name, raw) in _files().items():

        def make(place: Place, name: str = name, raw: bytes | Write = raw) -> None:
            photos(place.inputs / "photos")
            path = place.inputs / "photos/train/cat" / name
            path.write_bytes(raw) if isinstance(raw, bytes) else raw(path)

        for act in (VERIFY, TRAIN, PREDICT):
            held = right
            if act is TRAIN and what == "a folder":
                held = "either"
            if ("zeros at" in what or what == "a JPEG cut and ended") and act is not VERIFY:
                held = "either"  # libjpeg fills the gap with grey: the verb that looks for damage must find it
            yield Try(KIND, what, make, act, held, (name, "train/cat"))
    for what in ("a JPEG cut in half", "a float TIFF", "a FIFO"):
        right, name, raw = _files()[what]

        def again(place: Place, name: str = name, raw: bytes | Write = raw) -> None:
            photos(place.inputs / "photos")
            path = place.inputs / "photos/train/cat" / name
            path.write_bytes(raw) if isinstance(raw, bytes) else raw(path)

        yield Try(KIND, what, again, SHALLOW, "refused" if "FIFO" in what else "either", (name,))
    yield from _names()


def _names() -> Iterator[Try]:
    files: dict[str, tuple[str, bytes]] = {
        "no UTF-8": ("refused", b"\xff\xfe.png"),
        "Latin-1": ("refused", b"caf\xe9.png"),
        "a line break": ("refused", b"a\nb.png"),
        "a tab": ("refused", b"a\tb.png"),
        "an escape": ("refused", b"\x1b[31mred.png"),
        "a quote": ("accepted", b"a\"b'c.png"),
        "a comma": ("accepted", b"a,b.png"),
        "a backslash": ("accepted", b"a\\b.png"),
        "brackets and braces": ("accepted", b"[a]{b}(c)$.png"),
        "HTML": ("accepted", b"<img src=x onerror=alert(1)>.png".replace(b"/", b"")),
        "an interpolation": ("accepted", b"${oc.env:HOME}.png"),
        "a blank at the end": ("accepted", b"a .png"),
        "Arabic and Chinese": ("accepted", "صورة 图.png".encode()),
        "250 letters": ("accepted", b"a" * 250 + b".png"),
        "a leading dash": ("accepted", b"--help.png"),
        "a zero-width space": ("accepted", "a\u200bb.png".encode()),
    }
    for what, (right, name) in files.items():

        def make(place: Place, name: bytes = name) -> None:
            photos(place.inputs / "photos")
            folder = os.fsencode(place.inputs / "photos/train/cat")
            os.rename(os.path.join(folder, b"0.png"), os.path.join(folder, name))

        yield Try(NAMES, f"a file's with {what}", make, VERIFY, right, ("train/cat", "UTF-8"))
        if what != "250 letters":

            def make_class(place: Place, name: bytes = name[:-4]) -> None:
                photos(place.inputs / "photos")
                for split in ("train", "val", "test"):
                    folder = os.fsencode(place.inputs / "photos" / split)
                    os.rename(os.path.join(folder, b"cat"), os.path.join(folder, name))

            yield Try(NAMES, f"a class's with {what}", make_class, TRAIN, right, ("train/", "UTF-8"))
    for what, act in (("verify", VERIFY), ("train", TRAIN)):
        yield Try(NAMES, f"two classes that look alike, NFC and NFD ({what})", _alike, act, "noted", ("caf",))


def _alike(place: Place) -> None:
    photos(place.inputs / "photos")
    for split in ("train", "val", "test"):
        (place.inputs / "photos" / split / "cat").rename(place.inputs / "photos" / split / "caf\u00e9")
        (place.inputs / "photos" / split / "dog").rename(place.inputs / "photos" / split / "cafe\u0301")
