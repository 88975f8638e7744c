"""Which files are images: those of a folder, and those that a command line means."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from wsol.data.regular_files import name_fault
from wsol.errors import InputError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
"""What counts as an image file, in small letters."""


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image (and not a hidden file)."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def image_files(folder: Path) -> list[Path]:
    """Return everything named like an image under a folder, at any depth, sorted; hidden names are skipped.

    Links are followed. What is named like an image but is none (a folder, a named pipe, a link to nothing) is in the
    list: reading it says so at once, so nothing is left out silently.

    Raises:
        InputError: a folder cannot be listed, or a link leads back to a folder that it lies in.
    """
    return sorted(files_under(folder, is_image))


def files_under(folder: Path, named: Callable[[str], bool]) -> Iterator[Path]:
    """Yield every path under a folder whose name is wanted; see `image_files`."""
    yield from _walk(str(folder), named, (os.path.realpath(folder),))


def _walk(folder: str, named: Callable[[str], bool], above: tuple[str, ...]) -> Iterator[Path]:
    """Like `files_under`; ``above`` are the real paths of this folder and of those that links were followed from."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from error
    for entry in found:
        if named(entry.name):
            yield Path(entry.path)
        elif not entry.name.startswith(".") and _is_folder(entry):
            inside = above
            if entry.is_symlink():
                real = os.path.realpath(entry.path)
                if any(os.path.commonpath((real, other)) == real for other in (*above, os.path.realpath(folder))):
                    raise InputError(f"{entry.path}: a link to a folder that it lies in; remove it")
                inside = (*above, real)
            yield from _walk(entry.path, named, inside)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def find_images(given: str | Iterable[str] | None) -> list[Path]:
    """List the files, each once, in the order given; those of folders and globs sorted.

    Args:
        given: ``-`` for a path a line on standard input. A path there need not exist: its image is bad, then.

    Raises:
        InputError: nothing given, nothing there, or a name that is not UTF-8 text or has control characters.
    """
    if given is None:
        raise InputError("which images? images=<file, folder, glob, or - for paths on standard input>")
    if given == "-":
        files = _from_standard_input()
    else:
        words = [given] if isinstance(given, str) else [str(word) for word in given]
        files = [file for word in words for file in _meant(word)]
    if not files:
        raise InputError(f"images={given}: an empty list")
    for fault in filter(None, (name_fault(str(file)) for file in files)):
        raise InputError(f"images={given}: {fault}")
    return list(dict.fromkeys(files))


def _from_standard_input() -> list[Path]:
    try:
        files = [Path(line.strip()) for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"images=-: standard input is not UTF-8 text ({error}); rename such files") from error
    if not files:
        raise InputError("images=-: standard input has no paths; expected one a line")
    return files


def _meant(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.is_dir():
        found = image_files(path)
        if not found:
            raise InputError(f"images={word}: no image files in this folder")
        return found
    if path.exists() or path.is_symlink():
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not matches:
        raise InputError(f"images={word}: no such file or folder, and as a glob it matches nothing")
    return [match for match in matches if not match.is_dir()]


def names_of(files: list[Path]) -> list[str]:
    """Names for what is written of each file: its path below the deepest folder that holds them all, unique.

    Example:
        >>> names_of([Path("photos/a/1.jpg"), Path("photos/b/1.jpg")])
        ['a/1.jpg', 'b/1.jpg']
    """
    absolute = [os.path.abspath(file) for file in files]
    root = os.path.commonpath([os.path.dirname(file) for file in absolute])
    return [Path(os.path.relpath(file, root)).as_posix() for file in absolute]
