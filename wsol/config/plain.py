"""Recorded configs are plain data: nothing in them is resolved, so nothing can access the reader's environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsol.errors import InputError

DEPTH, NODES = 32, 100_000
"""Maximum depth and size of a config."""


def check_plain(value: Any, where: str, depth: int = 0) -> int:
    """Refuse anything but plain data: interpolations (also escaped ones and in keys), missing values, other types.

    Args:
        value: a config, unresolved.
        where: the file and key, for messages.
        depth: depth of ``value``.

    Returns:
        Number of nodes.

    Raises:
        InputError: names the key.
    """
    if depth > DEPTH:
        raise InputError(f"{where[:200]}: nested too deeply; restore the config of the run")
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
            f"{where}: {text[:80]!r} is not a plain value: the config of a run is recorded without interpolations; "
            "write the value itself, or use another file"
        )
