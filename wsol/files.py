"""Files and folders that are written whole or not at all.

What is written lies under a hidden name beside its target until it is complete and flushed to the disk; then it is
renamed, which no reader and no power loss ever sees half done. Hidden names carry the machine and the process, so that
what a killed process left behind is recognised and removed by the next one that writes the same target.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

_HOST = re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; when the block ends well, it replaces ``target``.

    Args:
        target: file to create or replace; its folder must exist.

    Raises:
        OSError: the file cannot be written; ``target`` is as it was.

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
    temporary = _hidden(target)
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, target)
        _flush_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` to fill; when the block ends well, it is renamed to ``target``.

    Args:
        target: folder to create; it must not exist, or be empty. Missing parents are made.

    Raises:
        OSError: it cannot be written, or ``target`` has come to hold files meanwhile.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    temporary = _hidden(target)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                flush(file)
        os.replace(temporary, target)
        _flush_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def flush(file: Path) -> None:
    """Have the content of a file on the disk before anything else happens."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(target: Path) -> None:
    """Remove the hidden files and folders that processes of this machine, now gone, left beside ``target``."""
    mark = f".{target.name}.partial-{_HOST}-"
    with contextlib.suppress(OSError):
        for found in [path for path in target.parent.iterdir() if path.name.startswith(mark)]:
            process = found.name.removeprefix(mark)
            if process.isdigit() and not is_alive(int(process)):
                shutil.rmtree(found) if found.is_dir() and not found.is_symlink() else found.unlink()


def _hidden(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial-{_HOST}-{os.getpid()}")


def is_alive(process: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems have no folders to flush
        flush(folder)
