"""Loops over pixels, compiled to machine code by numba on first use.

The machine code is kept on disk, beside the source or in the user's cache folder; where neither can be written, each
process compiles anew. The cache of a function knows when the file of that function changes, not when another file does:
**a compiled function calls compiled functions of its own file only**, and reads no constants of others.

Compiled functions release the interpreter lock, so threads run them side by side.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import event

logger = logging.getLogger("wsol")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for the types it is called with.

    Example:
        >>> @compiled
        ... def total(values):
        ...     out = 0
        ...     for value in values:
        ...         out += value
        ...     return out
        >>> total(np.arange(4))
        6
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder to write to, or no source file
        return numba.njit(function, **options)


class Scratch(threading.local):
    """Arrays to work in, kept from call to call; each thread has its own.

    Example:
        >>> scratch = Scratch()
        >>> scratch.take("labels", np.uint32, 5).shape, scratch.take("labels", np.uint32, 3).shape
        ((5,), (3,))
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def take(self, name: str, dtype: Any, length: int) -> np.ndarray:
        """An array of this name, whatever it holds from before."""
        if name not in self.arrays or len(self.arrays[name]) < length:
            self.arrays[name] = np.empty(length, dtype)
        return self.arrays[name][:length]


class _Announcement(event.Listener):
    """Says once that something is being compiled, as it takes a while."""

    said = False

    def on_start(self, event: Any) -> None:
        if not self.said and event.data["dispatcher"].py_func.__module__.startswith("wsol."):
            self.said = True
            logger.info("compiling the box engine, once for this installation (10 to 30 seconds)")

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcement())
