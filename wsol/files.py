"""Files and folders that are written completely or not at all.

A file is written under a hidden name beside its target until it is complete and flushed to disk; then it is renamed, so
no reader or power loss ever leaves it half done. Hidden names contain the machine and the process, so the leftovers of
a killed process are recognised and removed by the next process that writes the same target. They keep the suffix of the
target, because many libraries choose the format by it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

UNWRITABLE = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EIO") if hasattr(errno, name)
)
"""Error numbers of a disk that cannot be written: full, over quota, read-only, file too large, broken."""
_HOST = re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())
_START = secrets.token_hex(4)
"""Distinguishes this process from an earlier one with the same number, as in a restarted container."""

MANY = 200
"""From this number of files on, one flush of all file systems is faster than a flush of each file."""


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; it replaces ``target`` when the block succeeds.

    Args:
        target: file to create or replace; its folder must exist.

    Raises:
        OSError: the file cannot be written; ``target`` is unchanged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a.txt"
        ...     with atomic_file(file) as temporary:
        ...         _ = temporary.write_text("whole")
        ...     file.read_text(), len(list(Path(folder).iterdir()))
        ('whole', 1)
    """
    remove_leftovers(target)
    temporary = hidden(target)
    try:
        with errors_naming(target, temporary):
            yield temporary
            flush(temporary)
            os.replace(temporary, target)
        flush_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` to fill; it is renamed to ``target`` when the block succeeds.

    Args:
        target: folder to create; it must not exist, or be empty. Missing parents are created.

    Raises:
        OSError: it cannot be written, or files have appeared in ``target`` meanwhile.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    temporary = hidden(target)
    try:
        with errors_naming(target, temporary):
            temporary.mkdir()
            yield temporary
            flush_all(temporary)
            os.replace(temporary, target)
        flush_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def flush(file: Path) -> None:
    """Flush the content of a file to disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all(folder: Path) -> None:
    """Flush the content of every file below a folder to disk."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    if len(files) >= MANY and hasattr(os, "sync"):
        os.sync()
    else:
        for file in files:
            flush(file)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, if the file system supports it."""
    with contextlib.suppress(OSError):
        flush(folder)


def hidden(target: Path) -> Path:
    """Return the path beside ``target`` under which this process prepares it."""
    return target.with_name(f".{target.name}.partial-{_HOST}-{os.getpid()}-{_START}{target.suffix}")


def is_hidden(path: Path) -> bool:
    """Return whether a path is, or is inside, an unfinished file or folder.

    Example:
        >>> is_hidden(hidden(Path("eval/now")) / "maps"), is_hidden(Path("eval/.now/maps"))
        (True, False)
    """
    return any(part.startswith(".") and ".partial-" in part for part in path.parts)


def remove_leftovers(target: Path) -> None:
    """Remove hidden files and folders beside ``target`` that ended processes of this machine left."""
    name, end = re.escape(f".{target.name}.partial-{_HOST}-"), re.escape(target.suffix)
    pattern = re.compile(rf"{name}(\d+)-([0-9a-f]+){end}")
    with contextlib.suppress(OSError):
        for path in list(target.parent.iterdir()):
            if (found := pattern.fullmatch(path.name)) and _is_gone(int(found[1]), found[2]):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextlib.contextmanager
def errors_naming(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """Make the error of a disk that cannot be written name the file; that of a failed write names none.

    Args:
        target: the file to write.
        temporary: the path written in its place; errors that name it will name ``target`` instead.
    """
    try:
        yield
    except OSError as error:
        named = error.filename
        if named is None and error.errno in UNWRITABLE:
            error.filename = str(target)
        elif temporary is not None and isinstance(named, str) and named.startswith(str(temporary)):
            error.filename = f"{target}{named.removeprefix(str(temporary))}"
        raise


def _is_gone(process: int, start: str) -> bool:
    if process == os.getpid():
        return start != _START
    return not is_alive(process)


def is_alive(process: int) -> bool:
    """Return whether a process of this machine exists; always true on Windows, where signal 0 would be Ctrl-C."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
