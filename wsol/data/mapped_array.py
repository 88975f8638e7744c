"""An array on disk that is mapped into memory and pickles as its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class MappedArray:
    """A ``.npy`` file, mapped into memory read-only.

    Its pickle holds only the path, so a spawned worker process maps the file itself instead of receiving a copy.

    Args:
        path: the file.

    Raises:
        OSError, ValueError, EOFError: the errors of NumPy for a missing or invalid file.

    Example:
        >>> import pickle, tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.npy")
        >>> np.save(path, np.arange(100_000))
        >>> len(pickle.dumps(MappedArray(path))) < 1000
        True
        >>> pickle.loads(pickle.dumps(MappedArray(path))).values[7]
        np.int64(7)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()  # a worker may start elsewhere
        self.values: np.ndarray = np.load(self.path, mmap_mode="r", allow_pickle=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedArray, (self.path,)
