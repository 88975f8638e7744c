"""Unpack published archives: safely, member by member, and again from where it stopped.

A file appears under its own name only once it is whole (it is written beside it and renamed), so an unpack that was cut
off goes on by passing over the files that are there with the right size. A finished archive is noted, by name, size and
sha256, in a marker file of the root.
"""

from __future__ import annotations

import errno
import hashlib
import json
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
from wsol.files import errors_naming

MARKER = ".unpacked.json"
"""Name of the file that notes finished archives, in the root they went into."""

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError)

Progress = Callable[[int, int | None], None]
"""Told of bytes so far, and of all of them where that is known."""


@dataclass(frozen=True)
class Archive:
    """One published archive and where its members belong."""

    name: str
    """File name it is published under."""
    md5: str
    """Published checksum."""
    url: str | None = None
    """Public address, None where one must register."""
    into: str = "."
    """Folder under the root that members go to."""
    prefix: str = ""
    """Leading folder dropped from the members' names."""
    nested: bool = False
    """Whether members are themselves tars, each unpacked into a folder of its name."""


class Member(NamedTuple):
    """A file in an archive."""

    target: Path
    """Where it goes."""
    size: int
    stream: IO[bytes] | None
    """Its bytes; None if it is there already."""


def unpack(path: Path, archive: Archive, root: Path, progress: Progress | None = None) -> int:
    """Unpack an archive under ``root``, passing over what is there already.

    Args:
        path: the archive.
        archive: what it is.
        root: the dataset's folder; made if need be.
        progress: told of the bytes of its members after each.

    Returns:
        Number of files written by this call; 0 if the archive was finished before.

    Raises:
        InputError: if the archive is damaged, names a file outside ``root``, holds links or devices, or if the disk
            cannot take it.
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
    with _readable(path):
        for member in _members(path, archive, folder):
            if member.stream is not None:
                _write(member, member.stream)
                written += 1
            done += member.size
            if progress:
                progress(done, None)
    _note(path, archive, root)
    return written


def marks(root: Path) -> dict[str, dict]:
    """Return what is noted of the archives that went into ``root``: size, mtime_ns, sha256 and md5 by name."""
    try:
        noted = json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return {name: mark for name, mark in noted.items() if isinstance(mark, dict)} if isinstance(noted, dict) else {}


def file_digests(path: Path, algorithms: Sequence[str]) -> dict[str, str]:
    """Return a file's checksums, hex, by algorithm as hashlib names it; one pass."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in digests.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in digests.items()}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what a damaged archive or a full disk raises into `InputError`."""
    try:
        yield
    except DAMAGE as error:
        reason = str(error).split("\n")[0].rstrip(":")
        raise InputError(f"{path}: damaged or incomplete archive ({reason}); download it again") from error
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be unpacked ({error})") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(f"{path}: the disk filled up; free some space and run again, it goes on there") from error
        raise InputError(f"{path}: {error}; mend this and run again, it goes on there") from error


def _members(path: Path, archive: Archive, folder: Path) -> Iterator[Member]:
    if path.suffix == ".zip":
        yield from _zip_members(path, archive, folder)
    else:
        with tarfile.open(path) as tar:
            yield from _tar_members(tar, path, archive, folder)


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
            yield Member(target, info.size, None if _there(target, info.size) else stream)


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
            if _there(target, info.file_size):
                yield Member(target, info.file_size, None)
            else:
                with bundle.open(info) as stream:
                    yield Member(target, info.file_size, stream)


def _target(name: str, path: Path, archive: Archive, folder: Path) -> Path | None:
    """Return where a member goes; None for the droppings of macOS."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or not parts or any(c in name for c in "\\\0:"):
        raise InputError(f"{path}: member {name!r} would land outside {folder}; refused; use the published archive")
    if parts[-1].startswith("._") or parts[-1] == ".DS_Store" or parts[0] == "__MACOSX":
        return None
    inner = PurePosixPath(*parts)
    if archive.prefix and inner.is_relative_to(archive.prefix):
        inner = inner.relative_to(archive.prefix)
    target = folder / inner
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path}: member {name!r} would follow a link out of {folder}; remove that link")
    return target


def _there(target: Path, size: int) -> bool:
    return target.is_file() and target.stat().st_size == size


def _write(member: Member, stream: IO[bytes]) -> None:
    member.target.parent.mkdir(parents=True, exist_ok=True)
    beside = member.target.with_name(member.target.name + ".part")
    try:
        with errors_naming(member.target), beside.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        if beside.stat().st_size != member.size:
            raise EOFError(f"{member.target.name} is cut off")
        beside.replace(member.target)
    finally:
        beside.unlink(missing_ok=True)


def _check_space(path: Path, root: Path) -> None:
    """Refuse to start what the disk cannot hold; images barely compress, so a tar's own size will do."""
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
    beside = root / (MARKER + ".part")
    beside.write_text(json.dumps(marks(root) | {archive.name: mark}, indent=2))
    beside.replace(root / MARKER)
