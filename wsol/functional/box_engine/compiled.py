"""Loops over pixels, compiled to machine code by numba on first use.

The machine code is kept on disk, beside the source or in the user's cache folder (or in ``NUMBA_CACHE_DIR``); where
nothing can be written, each process compiles anew. What numba keeps of a function is dropped when the function's file
changes; here it is also dropped when any other file of this folder changes. Therefore **a compiled function calls
compiled functions of its own file or of this folder only**, and gets what belongs elsewhere as an argument.

Compiled functions release the interpreter lock, so threads run them side by side. Where numba can't be imported, they
are what they are without it: right, and very slow.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger("wsol")

numba: Any
try:
    import numba
    from numba.core import event
    from numba.core.caching import FunctionCache
except ImportError:
    logger.warning("numba can't be imported: boxes come from OpenCV, cut by cut; pixels are counted in plain Python")
    numba = None

AVAILABLE = numba is not None
OPTIONS = {"nogil": True, "error_model": "numpy"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for the types it is called with.

    Example:
        >>> @compiled
        ... def total(values):
        ...     out = 0
        ...     for value in values:
        ...         out += value
        ...     return out
        >>> int(total(np.arange(4)))
        6
    """
    if not AVAILABLE:
        return function
    dispatcher = numba.njit(function, **OPTIONS)
    with contextlib.suppress(RuntimeError):  # no folder to write to, or no source file
        dispatcher._cache = _FolderCache(function)
    return dispatcher


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function part of each compiled function of its file that calls it."""
    return numba.njit(function, inline="always", **OPTIONS) if AVAILABLE else function


def plain(values: Any, dtype: Any) -> np.ndarray:
    """An array as compiled functions want it, contiguous and writable: any other kind would be compiled for anew.

    Example:
        >>> plain([1, 2], np.float64).tolist()
        [1.0, 2.0]
    """
    if isinstance(values, np.ndarray) and values.dtype == dtype and values.flags.carray:
        return values
    return np.require(values, dtype, ["C", "W"])


class Scratch(threading.local):
    """Arrays to work in, kept from call to call. Each thread has its own.

    Example:
        >>> scratch = Scratch()
        >>> scratch.take("labels", np.uint32, 5).shape, scratch.take("labels", np.uint32, 3).shape
        ((5,), (3,))
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.kept: dict[Any, Any] = {}
        """For the user: what was made of the arrays; forgotten when one of them has to be larger."""

    def take(self, name: str, dtype: Any, length: int) -> np.ndarray:
        """The array of this name, whatever it holds from before."""
        if name not in self.arrays or len(self.arrays[name]) < length:
            self.arrays[name] = np.empty(length, dtype)
            self.kept.clear()
        return self.arrays[name][:length]


def _source_digest() -> str:
    """Changes with any file of this folder."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


if AVAILABLE:
    SOURCE_DIGEST = _source_digest()

    class _FolderCache(FunctionCache):
        """Machine code on disk, found again only while no file of this folder has changed.

        An index of other sources is not unpickled: the classes that it names may be gone.
        """

        def __init__(self, function: Callable[..., Any]) -> None:
            super().__init__(function)
            self._cache_file._version = f"{numba.__version__} {SOURCE_DIGEST}"

    class _Announcement(event.Listener):
        """Says once that a function of this package is being compiled, as that takes a while."""

        said = False

        def on_start(self, event: Any) -> None:
            if not self.said and str(event.data["dispatcher"].py_func.__module__).startswith("wsol."):
                self.said = True
                logger.info("compiling loops over pixels, some 20 seconds; kept where a cache folder can be written")

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", _Announcement())
