"""Unpack published archives safely, member by member; an interrupted unpack can be resumed.

Names must pass `tarfile.data_filter` and stricter rules: no link, no device, no ``..``, no name of another drive.

A file appears under its own name only once it is whole (it is written beside it and renamed). To resume, existing
files are compared with the archive, byte by byte, and only those that differ are written, because a power loss can
leave a file of the right size that is full of zeros. When everything is on the disk, a marker file in the root records
the archive's name, size and sha256.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from wsol.errors import InputError
from wsol.files import atomic_file, errors_naming

MARKER = ".unpacked.json"
"""Name of the file in the root that records finished archives."""

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError)

MOST_TIMES = 100
"""Largest ratio of unpacked to packed size; images compress little, XML files about fifteen times."""
CHUNK = 1 << 20
"""Bytes read at a time."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes so far, and with their total if it is known."""


@dataclass(frozen=True)
class Archive:
    """One published archive, and the place of its members."""

    name: str
    """Published file name."""
    md5: str | None
    """Published checksum; None if there is none."""
    url: str | None = None
    """Public address; None if users must register."""
    into: str = "."
    """Folder under the root that members go to."""
    prefix: str = ""
    """Leading folder dropped from the members' names."""
    nested: bool = False
    """Whether members are tar archives, each unpacked into a folder of its name."""


class Member(NamedTuple):
    """A file in an archive."""

    target: Path
    """The path that it is written to."""
    size: int
    stream: IO[bytes]
    """A stream of its bytes."""


def unpack(path: Path, archive: Archive, root: Path, progress: Progress | None = None) -> int:
    """Unpack an archive under ``root``; existing files with the same bytes are not written again.

    Args:
        path: the archive.
        archive: its description.
        root: the dataset's folder; created if it does not exist.
        progress: called after each member.

    Returns:
        Number of files written by this call; 0 if it was unpacked before.

    Raises:
        InputError: if the archive is damaged, names a file outside ``root``, holds links or devices, or if the disk
            is too small.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such archive; expected {archive.name}")
    root.mkdir(parents=True, exist_ok=True)
    if _finished(path, archive, root):
        return 0
    folder = root / archive.into
    if not folder.is_dir() or not any(folder.iterdir()):
        _check_space(path, root)
    written = done = 0
    most = max(MOST_TIMES * path.stat().st_size, 10_000_000)
    with _readable(path):
        for member in _members(path, archive, folder):
            if done + member.size > most:
                raise InputError(
                    f"{path}: unpacks to more than {MOST_TIMES} times its own size, which no published archive does; "
                    "refused; download it again"
                )
            written += _write(member)
            done += member.size
            if progress:
                progress(done, None)
    _note(path, archive, root)
    return written


def marks(root: Path) -> dict[str, dict]:
    """Return the records of the archives unpacked into ``root``: size, mtime_ns, sha256 and md5 by name."""
    try:
        noted = json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return {name: mark for name, mark in noted.items() if isinstance(mark, dict)} if isinstance(noted, dict) else {}


def file_digests(path: Path, algorithms: Sequence[str]) -> dict[str, str]:
    """Return a file's checksums in hexadecimal, by hashlib's names of the algorithms, in one pass."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in digests.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in digests.items()}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged archive or a full disk into `InputError`."""
    try:
        yield
    except DAMAGE as error:
        reason = str(error).split("\n")[0].rstrip(":")
        raise InputError(f"{path}: damaged or incomplete archive ({reason}); download it again") from error
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be unpacked ({error})") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(f"{path}: the disk filled up; free some space and run again to resume") from error
        raise InputError(f"{path}: {error}; correct this and run again to resume") from error


def _members(path: Path, archive: Archive, folder: Path) -> Iterator[Member]:
    if path.suffix == ".zip":
        yield from _zip_members(path, archive, folder)
    else:
        with tarfile.open(path) as tar:
            yield from _tar_members(tar, path, archive, folder)
            while tar.fileobj is not None and tar.fileobj.read(CHUNK):  # the compression has its checksum at the end
                pass


def _tar_members(tar: tarfile.TarFile, path: Path, archive: Archive, folder: Path) -> Iterator[Member]:
    for info in tar:
        if info.isdir():
            continue
        target = _target(info.name, path, archive, folder)
        if not info.isreg():
            raise InputError(f"{path}: member {info.name!r} is a link or device; refused; use the published archive")
        if target is None:
            continue
        stream = tar.extractfile(info)
        if archive.nested and target.suffix == ".tar":
            inner = Archive(archive.name, archive.md5)
            with tarfile.open(fileobj=stream) as nested:
                yield from _tar_members(nested, path, inner, target.with_suffix(""))
        else:
            assert stream is not None  # of a regular file
            yield Member(target, info.size, stream)


def _zip_members(path: Path, archive: Archive, folder: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as bundle:
        for info in bundle.infolist():
            if info.is_dir():
                continue
            target = _target(info.filename, path, archive, folder)
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{path}: member {info.filename!r} is a link; refused; use the published archive")
            if target is None:
                continue
            with bundle.open(info) as stream:
                yield Member(target, info.file_size, stream)


def _target(name: str, path: Path, archive: Archive, folder: Path) -> Path | None:
    """Return the path to write a member to; None for metadata files of macOS."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or not parts or any(c in name for c in "\\\0:"):
        raise InputError(f"{path}: member {name!r} would land outside {folder}; refused; use the published archive")
    if parts[-1].startswith("._") or parts[-1] == ".DS_Store" or parts[0] == "__MACOSX":
        return None
    inner = PurePosixPath(*parts)
    if archive.prefix and inner.is_relative_to(archive.prefix):
        inner = inner.relative_to(archive.prefix)
    try:
        tarfile.data_filter(tarfile.TarInfo(inner.as_posix()), os.fspath(folder))  # looks at the links on the disk
    except tarfile.FilterError as error:
        raise InputError(f"{path}: member {name!r} would follow a link out of {folder}; remove that link") from error
    return folder / inner


def _write(member: Member) -> bool:
    """Write a member unless the same bytes are there already; return whether it was written."""
    target = member.target
    same, following = 0, b""
    if target.is_file() and target.stat().st_size == member.size:
        same, following = _compare(target, member.stream)
        if same == member.size:
            return False
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(target.name + ".part")
    try:
        with errors_naming(target), beside.open("wb") as file:
            if same:
                _copy_start(target, file, same)
            file.write(following)
            shutil.copyfileobj(member.stream, file, CHUNK)
        if beside.stat().st_size != member.size:
            raise EOFError(f"{target.name} is cut off")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return True


def _compare(target: Path, stream: IO[bytes]) -> tuple[int, bytes]:
    """Return how many bytes at the start of a file equal the stream's, and the chunk of the stream that differs."""
    same = 0
    with target.open("rb") as there:
        while chunk := stream.read(CHUNK):
            if there.read(len(chunk)) != chunk:
                return same, chunk
            same += len(chunk)
    return same, b""


def _copy_start(source: Path, file: IO[bytes], size: int) -> None:
    with source.open("rb") as there:
        while size and (chunk := there.read(min(CHUNK, size))):
            file.write(chunk)
            size -= len(chunk)


def _check_space(path: Path, root: Path) -> None:
    """Refuse an archive that the disk cannot hold; images barely compress, so a tar's own size is a good estimate."""
    needed = path.stat().st_size
    if path.suffix == ".zip":
        with _readable(path), zipfile.ZipFile(path) as bundle:
            needed = sum(info.file_size for info in bundle.infolist())
    free = shutil.disk_usage(root).free
    if needed > free:
        raise InputError(f"{root}: {path.name} needs {needed:,} bytes, {free:,} bytes are free")


def _finished(path: Path, archive: Archive, root: Path) -> bool:
    mark = marks(root).get(archive.name, {})
    status = path.stat()
    if mark.get("size") != status.st_size:
        return False
    return mark.get("mtime_ns") == status.st_mtime_ns or mark.get("sha256") == file_digests(path, ["sha256"])["sha256"]


def _note(path: Path, archive: Archive, root: Path) -> None:
    status = path.stat()
    mark = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, **file_digests(path, ["sha256", "md5"])}
    if hasattr(os, "sync"):
        os.sync()  # the unpacked files must be on the disk before the note that they are
    with atomic_file(root / MARKER) as file:
        file.write_text(json.dumps(marks(root) | {archive.name: mark}, indent=2), encoding="utf-8")
