"""Loops over pixels, compiled to machine code by numba on first use.

The machine code is kept on disk, beside the source or in the user's cache folder (or in ``NUMBA_CACHE_DIR``). If none
of them is writable, each process compiles again. numba discards the code of a function when the function's file
changes; here it is also discarded when any other file of this folder changes. Therefore **a compiled function only
calls compiled functions of this folder**, and takes anything else as an argument.

Compiled functions release the interpreter lock, so threads run them in parallel. Without numba, the functions run as
plain Python: correct, and very slow.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from wsol.files import atomic_file

logger = logging.getLogger("wsol")

numba: Any
fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import numba
    from numba.core import event
    from numba.core.caching import FunctionCache
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.serialize import dumps
except ImportError:
    logger.warning("numba can't be imported: boxes come from OpenCV, cut by cut, and plain Python counts pixels")
    numba = None

AVAILABLE = numba is not None
PATIENCE = 120.0
"""How long a process waits for another one that compiles, seconds."""
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
        dispatcher.compile = _in_turn(dispatcher.compile, Path(dispatcher._cache.cache_path) / "compiling.lock")
    return dispatcher


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Inline a function into each compiled function of its file that calls it."""
    return numba.njit(function, inline="always", **OPTIONS) if AVAILABLE else function


def plain(values: Any, dtype: Any) -> np.ndarray:
    """Return an array as compiled functions expect it, contiguous and writable; any other kind would be compiled again.

    Example:
        >>> plain([1, 2], np.float64).tolist()
        [1.0, 2.0]
    """
    if isinstance(values, np.ndarray) and values.dtype == dtype and values.flags.carray:
        return values
    return np.require(values, dtype, ["C", "W"])


class Scratch(threading.local):
    """Work arrays that are reused from call to call. Each thread has its own.

    Example:
        >>> scratch = Scratch()
        >>> scratch.take("labels", np.uint32, 5).shape, scratch.take("labels", np.uint32, 3).shape
        ((5,), (3,))
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.kept: dict[Any, Any] = {}
        """For the caller: objects built on the arrays; cleared when one of the arrays has to grow."""

    def take(self, name: str, dtype: Any, length: int) -> np.ndarray:
        """Return the array of this name; its values are undefined."""
        if name not in self.arrays or len(self.arrays[name]) < length:
            self.arrays[name] = np.empty(length, dtype)
            self.kept.clear()
        return self.arrays[name][:length]


def _source_digest() -> str:
    """Return a digest that changes with any file of this folder."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _in_turn(compile_one: Callable[[Any], Any], file: Path) -> Callable[[Any], Any]:
    """Compile in one process at a time: the others wait and then find the code on disk.

    A process that waits longer than `PATIENCE`, or has no locks, compiles for itself.
    """

    def compile_in_turn(signature: Any) -> Any:
        """Compile a signature, with the lock unless a caller that is being compiled holds it."""
        with global_compiler_lock, contextlib.ExitStack() as stack:
            if fcntl is not None and not _turn.taken:
                with contextlib.suppress(OSError):
                    _lock(stack.enter_context(file.open("w")))
                stack.callback(setattr, _turn, "taken", False)
                _turn.taken = True
            return compile_one(signature)

    return compile_in_turn


def _lock(stream: TextIO) -> None:
    """Lock a file, or give up: on a file system with broken locks nothing may wait forever."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            break


class _Turn:
    taken = False


_turn = _Turn()
"""Whether this process compiles; guarded by numba's own lock."""

if AVAILABLE:
    SOURCE_DIGEST = _source_digest()

    class _SignatureFiles:
        """The machine code of one function, a file for each signature.

        numba numbers its files and keeps an index of them. Two processes that compile different signatures at the same
        time then write one file, and each runs the code of the other's signature: wrong results without an error. Here
        the name comes from the signature, and the file says what it is for, so there is no index to disagree with.

        Args:
            stem: beginning of the path of each file.
        """

        def __init__(self, stem: str) -> None:
            self._stem = stem
            self._version = f"{numba.__version__} {SOURCE_DIGEST}"

        def save(self, key: Any, data: Any) -> None:
            """Write the code of a signature in place of that of other sources; a full disk only costs time."""
            content = pickle.dumps(self._version) + pickle.dumps(key) + dumps(data)
            with contextlib.suppress(OSError), atomic_file(self._file(key)) as temporary:
                temporary.write_bytes(content)

        def load(self, key: Any) -> Any:
            """Return the code of a signature; None if there is none of these sources."""
            try:
                with self._file(key).open("rb") as stream:
                    # Code of other sources is not unpickled, because its classes may no longer exist.
                    known = pickle.load(stream) == self._version and pickle.load(stream) == key
                    return pickle.load(stream) if known else None
            except (OSError, EOFError, pickle.UnpicklingError):
                return None

        def _file(self, key: Any) -> Path:
            digest = hashlib.sha256(repr(key).encode()).hexdigest()
            return Path(f"{self._stem}.{digest[:16]}.nbc")

    class _FolderCache(FunctionCache):
        """Machine code on disk that is valid only while no file of this folder changes."""

        def __init__(self, function: Callable[..., Any]) -> None:
            super().__init__(function)
            self._cache_file: Any = _SignatureFiles(str(Path(self._cache_path) / self._impl.filename_base))

    class _Announcement(event.Listener):
        """Logs once that a function of this package is being compiled, because that takes a while."""

        said = False

        def on_start(self, event: Any) -> None:
            if not self.said and str(event.data["dispatcher"].py_func.__module__).startswith("wsol."):
                self.said = True
                logger.info("compiling loops over pixels: about 20 seconds, kept if a cache folder is writable")

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", _Announcement())
