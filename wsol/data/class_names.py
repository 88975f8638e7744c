"""Some classes of a dataset, chosen by name: ``data.classes``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from wsol.data.annotations.text_tables import read_rows
from wsol.errors import InputError, unknown

ClassChoice = Sequence[str] | str | Path | None
"""Names of classes, or a text file with a name in each line; None for all classes."""


def chosen_names(classes: ClassChoice) -> list[str] | None:
    """Return the names that ``data.classes`` gives; None for all classes.

    Raises:
        InputError: a file that cannot be read, an empty list, or a name given twice.

    Example:
        >>> chosen_names(["wren", 7])
        ['wren', '7']
    """
    if classes is None:
        return None
    if isinstance(classes, str | Path):
        if not Path(classes).is_file():
            raise InputError(f"data.classes={classes}: no such file; give a file with a name in each line, or [a, b]")
        names = [row.fields[0] for row in read_rows(Path(classes), 1, "\n")]
    else:
        names = [str(name) for name in classes]
    if not names:
        raise InputError(f"data.classes={classes}: no classes; name at least one, or give null for all of them")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise InputError(f"data.classes: {twice[0]!r} is named twice; keep one")
    return names


def positions_of(chosen: Sequence[str] | None, names: Sequence[str]) -> list[int]:
    """Return the positions of chosen classes among a dataset's, ascending; all positions if none are chosen.

    A class may be called by the first word of its name where that is unique, such as the synset of "n01443537
    goldfish".

    Raises:
        InputError: an unknown name, with the near ones.

    Example:
        >>> positions_of(["n02123045", "n01443537 goldfish"], ["n01443537 goldfish", "n02123045 tabby"])
        [0, 1]
    """
    if chosen is None:
        return list(range(len(names)))
    words = Counter(name.split(" ")[0] for name in names)
    known = {word: i for i, name in enumerate(names) if words[word := name.split(" ")[0]] == 1}
    known |= {name: i for i, name in enumerate(names)}
    for name in chosen:
        if name not in known:
            raise unknown("class", name, names)
    return sorted({known[name] for name in chosen})


def first_other(before: Sequence[str], now: Sequence[str]) -> str:
    """Name the first class that differs, for a message; empty if no name does.

    Example:
        >>> first_other(["cat", "dog"], ["cat", "fox"]), first_other(["cat"], ["cat", "dog"])
        ("; class 1 was 'dog' and is 'fox'", '')
    """
    pairs = enumerate(zip(before, now, strict=False))
    return next((f"; class {i} was {old!r} and is {new!r}" for i, (old, new) in pairs if old != new), "")
