"""Archives for `wsol data prepare`: members that lead outside, links, devices, damage, lies about sizes, bombs."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator

from scripts.robustness.checkpoints import flip
from scripts.robustness.runner import Place, Try

KIND = "archives for `data prepare`"
TGZ = "CUB_200_2011.tgz"
ZIP = "tiny-imagenet-200.zip"
PREPARE = {
    TGZ: f"data prepare data=cub archive={{inputs}}/{TGZ} data.root={{out}}/root",
    ZIP: f"data prepare data=tiny_imagenet archive={{inputs}}/{ZIP} data.root={{out}}/root",
}

NAMES = {
    "..": "../CANARY",
    ".. after a folder": "images/../../CANARY",
    "many ..": "../" * 12 + "tmp/CANARY-wsol",
    ".. at the end": "images/..",
    "an absolute path": "/tmp/CANARY-wsol",
    "two slashes before": "//tmp/CANARY-wsol",
    "a backslash": "..\\CANARY",
    "a drive": "C:/CANARY",
    "a NUL": "images/a\0b.jpg",
    "a colon": "images/a.jpg:stream",
    "no name": "",
    "a dot": ".",
    "300 letters": "images/" + "a" * 300 + ".jpg",
    "3,000 folders": "a/" * 3000 + "b.jpg",
    "a file where a folder is": "images",
}
TYPES = {
    "a symbolic link": tarfile.SYMTYPE,
    "a hard link": tarfile.LNKTYPE,
    "a character device": tarfile.CHRTYPE,
    "a block device": tarfile.BLKTYPE,
    "a FIFO": tarfile.FIFOTYPE,
}


def good() -> dict[str, bytes]:
    """The files of a CUB of two images."""
    image = _jpeg()
    return {
        "images.txt": b"1 001.a/a.jpg\n2 001.a/b.jpg\n",
        "image_class_labels.txt": b"1 1\n2 1\n",
        "bounding_boxes.txt": b"1 2 2 20 20\n2 2 2 20 20\n",
        "train_test_split.txt": b"1 1\n2 0\n",
        "classes.txt": b"1 001.a\n",
        "images/001.a/a.jpg": image,
        "images/001.a/b.jpg": image,
    }


def _jpeg() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (32, 32), (90, 90, 90)).save(file, "JPEG")
    return file.getvalue()


def tar(extra: Callable[[tarfile.TarFile], None] = lambda made: None) -> bytes:
    """A good archive with more in it, not compressed."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, data in good().items():
            info = tarfile.TarInfo(f"CUB_200_2011/{name}")
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        extra(made)
    return file.getvalue()


def _zip(extra: Callable[[zipfile.ZipFile], None] = lambda made: None, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name in ("wnids.txt", "words.txt"):
            made.writestr(f"tiny-imagenet-200/{name}", "n01443537\tgoldfish\n" * 40)
        for k in range(4):
            made.writestr(f"tiny-imagenet-200/train/n01443537/images/n01443537_{k}.JPEG", _jpeg())
        extra(made)
    return file.getvalue()


def _try(what: str, archive: str, raw: Callable[[], bytes], right: str = "refused") -> Try:
    def make(place: Place) -> None:
        (place.inputs / archive).write_bytes(raw())

    return Try(KIND, f"{archive[-3:]} with {what}", make, PREPARE[archive], right, (archive, "root"))


def tries() -> Iterator[Try]:
    """All of them."""
    yield _try("nothing wrong", TGZ, lambda: gzip.compress(tar()), "accepted")
    for what, name in NAMES.items():
        if what in ("no name", "a dot"):
            continue
        right = "either" if what == "a NUL" else "refused"  # the names of a tar end there
        yield _try(f"{what} in a name", TGZ, lambda name=name: gzip.compress(tar(lambda t: _add(t, name))), right)
        if what not in ("a NUL", "a file where a folder is"):
            yield _try(f"{what} in a name", ZIP, lambda name=name: _zip(lambda z: z.writestr(name, b"x")))
    for what, kind in TYPES.items():
        for target in ("../../CANARY", "/etc/passwd"):
            made = lambda kind=kind, target=target: gzip.compress(tar(lambda t: _link(t, kind, target)))  # noqa: E731
            yield _try(f"{what} to {target}", TGZ, made)
    yield _try("a file behind a link of its folder", TGZ, lambda: gzip.compress(tar(_through_link)))
    yield _try("a symbolic link", ZIP, lambda: _zip(_zip_link))
    for share in (0, 0.02, 0.2, 0.4, 0.6, 0.8, 0.95):
        yield _try(f"its end cut at {share}", TGZ, lambda share=share: _cut(gzip.compress(tar()), share))
        yield _try(f"its end cut at {share}", ZIP, lambda share=share: _cut(_zip(), share))
    for k in range(6):
        share = (k + 0.5) / 6
        yield _try(f"a byte at {share:.2f} flipped", TGZ, lambda share=share: _flipped(gzip.compress(tar()), share))
        stored = lambda share=share: _flipped(_zip(method=zipfile.ZIP_STORED), share)  # noqa: E731
        yield _try(f"a byte at {share:.2f} flipped", ZIP, stored)
    for what, raw in {"text": b"hello", "zeros": bytes(2048), "HTML": b"<html>Not found</html>"}.items():
        for archive in (TGZ, ZIP):
            yield _try(f"{what} inside", archive, lambda raw=raw: raw)
    yield _try("a member that says 500 GB", TGZ, lambda: gzip.compress(tar(_lying)))
    yield _try("a member that says -1 byte", ZIP, lambda: _lying_zip(0xFFFFFFFE))
    yield _try("a member that says one byte less", ZIP, lambda: _lying_zip(None))
    yield _try("an encrypted member", ZIP, _encrypted)
    yield _try("an unknown compression", ZIP, _unknown_method)
    yield _try("600 MB of zeros", TGZ, lambda: _bomb(600))
    yield _try("600 MB of zeros", ZIP, _zip_bomb)
    yield _try("a PAX header of another path", TGZ, lambda: gzip.compress(tar(_pax)))
    yield _try(
        "a name that is no UTF-8", TGZ, lambda: gzip.compress(tar(lambda t: _add(t, "images/\udcff.jpg"))), "either"
    )


def _add(made: tarfile.TarFile, name: str, data: bytes = b"x") -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    made.addfile(info, io.BytesIO(data))


def _link(made: tarfile.TarFile, kind: bytes, target: str) -> None:
    info = tarfile.TarInfo("CUB_200_2011/images/link.jpg")
    info.type, info.linkname, info.devmajor, info.devminor = kind, target, 1, 5
    made.addfile(info)


def _through_link(made: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("CUB_200_2011/sub")
    info.type, info.linkname = tarfile.SYMTYPE, "../../.."
    made.addfile(info)
    _add(made, "CUB_200_2011/sub/CANARY")


def _zip_link(made: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("tiny-imagenet-200/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    made.writestr(info, "/etc/passwd")


def _cut(raw: bytes, share: float) -> bytes:
    return raw[: int(len(raw) * share)]


def _flipped(raw: bytes, share: float) -> bytes:
    return flip(raw, int(len(raw) * share))


def _lying(made: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("CUB_200_2011/images/001.a/c.jpg")
    info.size = 500 << 30
    made.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]


def _lying_zip(size: int | None) -> bytes:
    """The size of the first member, in both of its headers."""
    raw = bytearray(_zip())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = raw.index(signature) + at
        old = struct.unpack_from("<I", raw, start)[0]
        struct.pack_into("<I", raw, start, old - 1 if size is None else size)
    return bytes(raw)


def _encrypted() -> bytes:
    raw = bytearray(_zip())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + at] |= 1
    return bytes(raw)


def _unknown_method() -> bytes:
    raw = bytearray(_zip())
    for signature, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", raw, raw.index(signature) + at, 77)
    return bytes(raw)


def _bomb(megabytes: int) -> bytes:
    """Larger than the file that a try may write: a full disk, to the command."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        info = tarfile.TarInfo("CUB_200_2011/images/001.a/c.jpg")
        info.size = megabytes << 20
        packed.write(info.tobuf())
        for _ in range(megabytes):
            packed.write(bytes(1 << 20))
    return file.getvalue()


def _zip_bomb() -> bytes:
    return _zip(lambda z: z.writestr("tiny-imagenet-200/train/n01443537/images/big.JPEG", bytes(600 << 20)))


def _pax(made: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("CUB_200_2011/images/001.a/c.jpg")
    info.pax_headers = {"path": "../../CANARY"}
    info.size = 1
    made.fileobj.write(info.tobuf(tarfile.PAX_FORMAT))  # type: ignore[union-attr]
    made.fileobj.write(b"x" + bytes(511))  # type: ignore[union-attr]
