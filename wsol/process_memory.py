"""Memory of a process that runs a verb: large freed blocks are kept for the next use."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``, from ``malloc.h``."""


def keep_large_blocks() -> bool:
    """Let glibc reuse large freed blocks; returns whether it will. Where glibc is not used, nothing changes.

    By default, glibc returns a freed block of more than 32 MiB, such as an activation on a CPU, to the system, which
    then fills the next one with zeros page by page. With this setting, the process keeps up to 2 GiB of freed memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
