"""JSON of other programs, read strictly: what Python would take in silence is refused."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def strict_json(text: str) -> Any:
    """Parse JSON; a key that an object has twice, NaN and infinity are refused.

    Raises:
        ValueError: with the line where the parser knows it.

    Example:
        >>> strict_json('{"a": 1, "a": 2}')
        Traceback (most recent call last):
        ValueError: the key 'a' is there twice in one object; keep one
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} is there twice in one object; keep one")
        found[key] = value
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
