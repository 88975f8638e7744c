"""Compact arrays that loading processes share: names and boxes of many images, and arrays mapped from disk."""

from __future__ import annotations

import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from wsol.data.regular_files import name_fault
from wsol.errors import InputError

BROKEN_ARRAY = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    OverflowError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
"""Errors of NumPy for an invalid npy file, whose header it parses as Python literals."""


class Strings(Sequence[str]):
    """Many strings as one block of bytes: it takes a fraction of a list's memory, and forked workers share it.

    Example:
        >>> names = Strings(["a", "", "été"])
        >>> len(names), names[-1], list(names[:2])
        (3, 'été', ['a', ''])
    """

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [_encoded(text) for text in strings]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Strings):
            return NotImplemented
        return self._bytes == other._bytes and np.array_equal(self._ends, other._ends)

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> Strings: ...
    def __getitem__(self, i: int | slice) -> str | Strings:
        if isinstance(i, slice):
            return Strings(self[k] for k in range(*i.indices(len(self))))
        i = range(len(self))[i]
        start = int(self._ends[i - 1]) if i else 0
        return self._bytes[start : self._ends[i]].decode()


class StringLists(Sequence[list[str]]):
    """Many lists of strings, packed as `Strings`.

    Example:
        >>> files = StringLists([["a.png", "b.png"], [], ["c.png"]])
        >>> len(files), files[0], files[1]
        (3, ['a.png', 'b.png'], [])
    """

    def __init__(self, lists: Iterable[Sequence[str]]) -> None:
        kept = [list(one) for one in lists]
        self._strings = Strings(text for one in kept for text in one)
        self._ends = np.cumsum([len(one) for one in kept], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, i: int) -> list[str]: ...
    @overload
    def __getitem__(self, i: slice) -> StringLists: ...
    def __getitem__(self, i: int | slice) -> list[str] | StringLists:
        if isinstance(i, slice):
            return StringLists(self[k] for k in range(*i.indices(len(self))))
        i = range(len(self))[i]
        return [self._strings[k] for k in range(self._ends[i - 1] if i else 0, self._ends[i])]


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InputError(str(name_fault(text))) from None


@dataclass(frozen=True)
class Boxes:
    """The boxes of all images of a split, one after another."""

    corners: np.ndarray
    """float64 (B, 4) corners x0, y0, x1, y1 in the image frame, as annotated."""
    ends: np.ndarray
    """int64 (N,): image i owns the rows from ``ends[i - 1]`` (0 for the first) to ``ends[i]``."""
    inclusive: bool
    """True if x1, y1 name the last pixel inside, False if they name the edge."""

    @classmethod
    def pack(cls, per_image: Iterable[np.ndarray | Sequence], inclusive: bool) -> Boxes:
        """Pack one (M, 4) array or list per image; M may be 0.

        Example:
            >>> Boxes.pack([[[0, 0, 4, 4]], [], [[1, 1, 2, 2], [3, 3, 5, 5]]], inclusive=False)[2].tolist()
            [[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 5.0, 5.0]]
        """
        rows = [np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in per_image]
        ends = np.cumsum([len(r) for r in rows], dtype=np.int64)
        return cls(np.concatenate([np.zeros((0, 4)), *rows]), ends, inclusive)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> np.ndarray:
        """Return the boxes of image ``i``: float64 (M, 4)."""
        return self.corners[self.ends[i - 1] if i else 0 : self.ends[i]]

    def subset(self, positions: np.ndarray) -> Boxes:
        """Return the boxes of some images, in the given order."""
        return Boxes.pack((self[int(i)] for i in positions), self.inclusive)


class MappedArray:
    """A ``.npy`` file, mapped into memory read-only.

    Its pickle holds only the path, so a spawned worker process maps the file itself instead of receiving a copy.

    Args:
        path: the file.

    Raises:
        BROKEN_ARRAY: one of these errors, for a missing or invalid file.

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
