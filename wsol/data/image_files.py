"""The image files that a command line means: a file, a folder, a glob, a list of these, or paths on standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from wsol.data.file_source import image_files
from wsol.errors import InputError


def find_images(given: str | Iterable[str] | None) -> list[Path]:
    """List the files, each once, in the order given; those of folders and globs sorted.

    Args:
        given: ``-`` for a path a line on standard input. A path there need not exist: its image is bad, then.

    Raises:
        InputError: nothing given, or nothing there.
    """
    if given is None:
        raise InputError("which images? images=<file, folder, glob, or - for paths on standard input>")
    if given == "-":
        files = [Path(line.strip()) for line in sys.stdin if line.strip()]
        if not files:
            raise InputError("images=-: standard input has no paths; expected one a line")
        return list(dict.fromkeys(files))
    words = [given] if isinstance(given, str) else [str(word) for word in given]
    files = [file for word in words for file in _meant(word)]
    if not files:
        raise InputError(f"images={given}: an empty list")
    return list(dict.fromkeys(files))


def _meant(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.is_dir():
        found = image_files(path)
        if not found:
            raise InputError(f"images={word}: no image files in this folder")
        return found
    if path.exists():
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not matches:
        raise InputError(f"images={word}: no such file or folder, and as a glob it matches nothing")
    return [match for match in matches if match.is_file()]


def names_of(files: list[Path]) -> list[str]:
    """Names for what is written of each file: its path below the deepest folder that holds them all, unique.

    Example:
        >>> names_of([Path("photos/a/1.jpg"), Path("photos/b/1.jpg")])
        ['a/1.jpg', 'b/1.jpg']
    """
    absolute = [os.path.abspath(file) for file in files]
    root = os.path.commonpath([os.path.dirname(file) for file in absolute])
    return [Path(os.path.relpath(file, root)).as_posix() for file in absolute]
