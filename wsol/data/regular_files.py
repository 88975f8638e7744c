"""Open regular files only, so that a pipe or device never blocks a program or fills its memory; check names."""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file to read its bytes; a named pipe, a socket, a device or a folder is refused without waiting.

    Raises:
        OSError: the file is not there, cannot be read or is no regular file; ``strerror`` says which.

    Example:
        >>> open_regular("/dev/null")
        Traceback (most recent call last):
        OSError: [Errno 22] a device, expected a regular file: '/dev/null'
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error), repr(path)) from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # the error of opening a socket
            raise OSError(errno.EINVAL, "a socket, expected a regular file", str(path)) from error
        raise
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind != stat.S_IFREG:
            raise OSError(errno.EINVAL, f"{_KINDS.get(kind, 'no file')}, expected a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path) -> bytes:
    """Return the bytes of a regular file; raises as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def name_fault(name: str) -> str | None:
    r"""Say why a name of a file, folder or class cannot be used; None if it can.

    Tables, JSON and pages are UTF-8 with a line for each name, so such names could not be written or read back.

    Example:
        >>> name_fault("cat/été.jpg"), name_fault("cat/\udcff.jpg")  # doctest: +ELLIPSIS
        (None, "the name b'cat/\\xff.jpg' is not UTF-8 text; rename it, ...")
    """
    if not _UNPRINTABLE.search(name):
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        written = repr(name.encode("utf-8", "surrogatepass"))
        if all("\udc80" <= c <= "\udcff" or not "\ud800" <= c <= "\udfff" for c in name):
            written = repr(name.encode("utf-8", "surrogateescape"))
        return f"the name {written} is not UTF-8 text; rename it, for example by convmv -f latin1 -t utf8"
    return f"the name {name!r} has control characters; rename it"


def printable(text: str) -> str:
    """Return a text that can be written as UTF-8: other characters are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def look_alikes(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    r"""Yield pairs of different names that look alike: the same letters, composed in one and decomposed in the other.

    Example:
        >>> [pair[0] == "caf\u00e9" for pair in look_alikes(["caf\u00e9", "cafe", "cafe\u0301"])]
        [True]
    """
    first: dict[str, str] = {}
    for name in names:
        if not name.isascii():
            other = first.setdefault(unicodedata.normalize("NFC", name), name)
            if other != name:
                yield other, name
