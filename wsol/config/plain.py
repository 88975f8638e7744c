"""A recorded config is plain data: nothing in it is resolved, so nothing in it can ask for the reader's environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsol.errors import InputError

DEPTH, NODES = 32, 100_000
"""How deep and how large a config is at most."""


def check_plain(value: Any, where: str, depth: int = 0) -> int:
    """Refuse what is no plain data: interpolations (also escaped ones and in keys), missing values, other types.

    Args:
        value: a config, unresolved.
        where: the file and key, for messages.
        depth: of ``value``.

    Returns:
        Number of nodes.

    Raises:
        InputError: names the key.
    """
    if depth > DEPTH:
        raise InputError(f"{where[:200]}: nested too deep; restore the config of the run")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int | float | bool | None):
                raise InputError(f"{where}: expected names as keys, got {type(key).__name__}; restore the config")
            _check_text(key, where)
        count = 1 + sum(check_plain(child, f"{where}.{key!s:.80}", depth + 1) for key, child in value.items())
    elif isinstance(value, list | tuple):
        count = 1 + sum(check_plain(child, f"{where}[{i}]", depth + 1) for i, child in enumerate(value))
    elif value is None or isinstance(value, str | int | float | bool):
        _check_text(value, where)
        count = 1
    else:
        raise InputError(f"{where}: expected plain data, got {type(value).__name__}; restore the config of the run")
    if count > NODES:
        raise InputError(f"{where}: more than {NODES:,} entries; restore the config of the run")
    return count


def _check_text(text: Any, where: str) -> None:
    if isinstance(text, str) and ("${" in text or text == "???"):
        raise InputError(
            f"{where}: {text[:80]!r} is no plain value: the config of a run is recorded without interpolations; "
            "write the value itself, or take another file"
        )
