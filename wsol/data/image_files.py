"""Find image files: those of a folder, and those that a command line names."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from wsol.data.regular_files import name_fault
from wsol.errors import InputError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".jfif"))
"""Suffixes of image files, in lower case."""


LEFTOVERS = frozenset(("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db"))
"""Files and folders that operating systems create, in lower case; hidden ones are left out anyway."""


def is_leftover(name: str) -> bool:
    """Return whether a file or folder is hidden, or was created by an operating system.

    Example:
        >>> is_leftover("__MACOSX"), is_leftover(".DS_Store"), is_leftover("sparrows")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in LEFTOVERS


def is_image(name: str) -> bool:
    """Return whether a file's name is that of an image (and not a hidden file)."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not is_leftover(name)


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without those that operating systems create."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_leftover(path.name))


def image_files(folder: Path) -> list[Path]:
    """Return all paths with an image's name under a folder, at any depth, sorted, without leftovers.

    Links are followed. A path with an image's name that is no image (a folder, a named pipe, a broken link) is in the
    list: reading it raises an error, so nothing is left out silently.

    Raises:
        InputError: a folder cannot be listed, or a link leads to a folder that contains it.
    """
    return sorted(files_under(folder, is_image))


def files_under(folder: Path, named: Callable[[str], bool]) -> Iterator[Path]:
    """Yield every path under a folder whose name ``named`` accepts; see `image_files`."""
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
        elif not is_leftover(entry.name) and _is_folder(entry):
            inside = above
            if entry.is_symlink():
                real = os.path.realpath(entry.path)
                if any(os.path.commonpath((real, other)) == real for other in (*above, os.path.realpath(folder))):
                    raise InputError(f"{entry.path}: a link to a folder that contains it; remove it")
                inside = (*above, real)
            yield from _walk(entry.path, named, inside)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def find_images(given: str | Iterable[str] | None) -> list[Path]:
    """List image files, each once, in the given order; files of folders and globs are sorted.

    Args:
        given: files, folders or globs; ``-`` for standard input with one path per line. A path there need not exist: it
            counts as an unreadable image.

    Raises:
        InputError: no path is given or found, or a name is not UTF-8 text or has control characters.
    """
    if given is None:
        raise InputError("which images? images=<file, folder, glob, or - for paths on standard input>")
    if given == "-":
        files = _from_standard_input()
    else:
        words = [given] if isinstance(given, str) else [str(word) for word in given]
        files = [file for word in words for file in _matching_files(word)]
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
        raise InputError("images=-: standard input has no paths; expected one per line")
    return files


def _matching_files(word: str) -> list[Path]:
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
        raise InputError(f"images={word}: no such file or folder, and it matches nothing as a glob")
    return [match for match in matches if not match.is_dir()]


def unique_names(files: list[Path]) -> list[str]:
    """Return a unique name for each file: its path below the deepest folder that contains all files.

    Example:
        >>> unique_names([Path("photos/a/1.jpg"), Path("photos/b/1.jpg")])
        ['a/1.jpg', 'b/1.jpg']
    """
    absolute = [os.path.abspath(file) for file in files]
    root = os.path.commonpath([os.path.dirname(file) for file in absolute])
    return [Path(os.path.relpath(file, root)).as_posix() for file in absolute]
