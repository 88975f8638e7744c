"""Overrides in Hydra's grammar, from values of Python and from words of a command line, whose values count as written.

The value of a word ``key=value`` may have parentheses, commas, ``=``, blanks, brackets and letters of any script. What
Hydra reads as a number, a boolean, null, a list, a mapping, a quoted text or an interpolation is that.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Quote, QuotedString, RangeSweep, Sweep
from hydra.errors import HydraException

from wsol.errors import InputError

KEY = re.compile(r"(\+\+?)?[^\W\d][\w./@:-]*")
PLAIN = re.compile(r"[A-Za-z/][\w./+-]*|-?(0|[1-9]\d*)(\.\d+)?|", re.ASCII)
"""Values that every grammar reads alike."""
SEVERAL = "several values are several runs: add -m (--multirun); a list is written [a,b]"

_WORDS_WITH_A_MEANING = {"null", "true", "false", "inf", "nan"}
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


def override(key: str, value: Any) -> str:
    """Return the override ``key=value`` in Hydra's grammar; any text, number, list or mapping keeps its value.

    Example:
        >>> override("run_dir", "my drive (1)/runs"), override("seed", 3), override("topk", [1, 5])
        ("run_dir='my drive (1)/runs'", 'seed=3', 'topk=[1,5]')
    """
    return f"{key}={override_value(value)}"


def override_value(value: Any) -> str:
    """Return a value as `override` writes it.

    Example:
        >>> override_value("cam"), override_value("null"), override_value(None)
        ('cam', "'null'", 'null')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{override_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(override_value, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if re.fullmatch(r"[A-Za-z_][\w/.-]*", text, re.ASCII) and text.lower() not in _WORDS_WITH_A_MEANING:
        return text
    return _quoted(re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text))  # else it would be an interpolation


def as_written(word: str, groups: Container[str] = (), texts: Container[str] = ()) -> str:
    """Return a word of a command line in Hydra's grammar. A word in Hydra's grammar is not changed.

    Args:
        word: such as ``images=photos (1)``.
        groups: names of config groups, whose choices are never paths.
        texts: keys whose value is always a text, such as a folder called ``2026_01``.

    Raises:
        InputError: several numbers, or a function that stands for several values, outside of a multirun.

    Example:
        >>> as_written("images=photos (1)"), as_written("seed=3"), as_written("topk=[1,5]"), as_written("name=a=b")
        ("images='photos (1)'", 'seed=3', 'topk=[1,5]', "name='a=b'")
        >>> as_written("seed=0,1")
        Traceback (most recent call last):
        wsol.errors.InputError: seed=0,1: several values are several runs: add -m (--multirun); a list is written [a,b]
    """
    key, value = _divided(word)
    if key in texts:
        found = _parsed(value)
        return word if isinstance(found, QuotedString) or value in ("null", found) else f"{key}={_quoted(value)}"
    if key is None or PLAIN.fullmatch(value):
        return word
    written = _written(value, may_be_path=key not in groups)
    if written is None:
        raise InputError(f"{word}: {SEVERAL}")
    return f"{key}={written}"


def jobs(words: Sequence[str], groups: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return the words of each job of a multirun: every combination of the values that commas separate.

    Args:
        words: words of the command line.
        groups: choices of each config group, for ``glob(...)``.

    Raises:
        InputError: an interval, which has no finite number of values.

    Example:
        >>> jobs(["seed=0,1", "out=a (1),b", "topk=[1,5]"], {})[1]
        ['seed=0', 'out=b', 'topk=[1,5]']
    """
    return [list(job) for job in itertools.product(*(list(_values(word, groups)) for word in words))]


def _values(word: str, groups: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Return the overrides of each job that a word of a multirun stands for."""
    key, value = _divided(word)
    may_be_path = key not in groups
    if key is None or PLAIN.fullmatch(value) or (may_be_path and os.path.exists(value)):
        yield as_written(word, groups)
        return
    pieces = _pieces(value, may_be_path)
    if len(pieces) > 1:
        yield from (as_written(f"{key}={piece}", groups) for piece in pieces)
        return
    found = _parsed(value)
    if isinstance(found, IntervalSweep):
        raise InputError(f"{word}: an interval has no end of values; give them, or search it with wsol sweep")
    if isinstance(found, Glob):
        names = groups.get(key, ())
        yield from (f"{key}={name}" for name in sorted(names) if _matches(found, name))
    elif isinstance(found, Sweep):
        override = OverridesParser.create().parse_override(f"{key}={value}")
        yield from (f"{key}={each}" for each in override.sweep_string_iterator())
    else:
        yield as_written(word, groups)


def _matches(pattern: Glob, name: str) -> bool:
    included = any(fnmatchcase(name, each) for each in pattern.include)
    return included and not any(fnmatchcase(name, each) for each in pattern.exclude)


def _divided(word: str) -> tuple[str | None, str]:
    """Return key and value of a word; the key is None if the word sets none."""
    key, equals, value = word.partition("=")
    return (key, value) if equals and KEY.fullmatch(key) else (None, word)


def _parsed(value: str) -> Any:
    """Return the value that Hydra reads; if it can't read it, the `HydraException`."""
    try:
        return OverridesParser.create().parse_override(f"k={value}")._value
    except HydraException as error:
        return error


def _written(value: str, may_be_path: bool) -> str | None:
    """Return a value in Hydra's grammar; None if it stands for several."""
    found = _parsed(value)
    if may_be_path and str(found) != value and os.path.exists(value):
        return override_value(value)
    if isinstance(found, bool | int | float | None | QuotedString | dict | list):
        return value
    if isinstance(found, ChoiceSweep) and found.simple_form:
        return None if all(isinstance(each, bool | int | float | None) for each in found.list) else _quoted(value)
    if isinstance(found, ChoiceSweep | RangeSweep | IntervalSweep | Glob):
        return None
    if isinstance(found, HydraException) and value.startswith("[") and value.endswith("]"):
        inner = [_written(piece, may_be_path) for piece in _pieces(value[1:-1], may_be_path)]
        if all(each is not None for each in inner):
            return f"[{','.join(map(str, inner))}]"
    return value if found == value else _quoted(value)


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


def _pieces(text: str, may_be_path: bool) -> list[str]:
    """Split at commas outside of quotes and brackets; pieces that together name a file stay together."""
    found = _split(text, brackets=True) or _split(text, brackets=False) or [text]
    pieces: list[str] = []
    while found:
        most = len(found) if may_be_path else 1
        count = next((n for n in range(most, 1, -1) if os.path.exists(",".join(found[:n]))), 1)
        pieces.append(",".join(found[:count]).strip())
        found = found[count:]
    return pieces


def _split(text: str, brackets: bool) -> list[str]:
    """Split at commas; empty where quotes or brackets are not closed."""
    pieces, start, closing, quote = [], 0, [], ""
    for i, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[i - 1] != "\\" else quote
        elif letter in "'\"" and i == start + (len(text[start:i]) - len(text[start:i].lstrip())):
            quote = letter
        elif brackets and letter in _BRACKETS:
            closing.append(_BRACKETS[letter])
        elif closing and letter == closing[-1]:
            closing.pop()
        elif letter == "," and not closing:
            pieces.append(text[start:i])
            start = i + 1
    return [] if quote or closing else [*pieces, text[start:]]
