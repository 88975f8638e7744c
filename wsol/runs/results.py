"""Reading results.json: the only place that checks its content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsol.errors import InputError, first_line

MAX_BYTES = 64 * 2**20
LOCALIZER = "localizer"
"""What a row of results calls the maps of the network that was evaluated; others are those of baselines."""
ROW_TEXTS = ("split", "maps", "protocol", "threshold_origin")


class _ValueFault(ValueError):
    """A key with an invalid value."""

    def __init__(self, key: str, expected: str, value: Any) -> None:
        shown = repr(value)
        super().__init__(f"{key}: expected {expected}, got {shown if len(shown) <= 60 else shown[:57] + '...'}")


def read_results(file: Path) -> dict[str, Any]:
    """Read and check a results.json.

    Returns:
        Its content. ``localization`` is a list of rows, ``classification``, ``pixels`` and ``data.splits`` are mappings
        by split, errors are percentages from 0 to 100 or None; other keys are returned as in the file.

    Raises:
        InputError: it is missing or corrupt, or a key has an invalid value.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MB")
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file}: corrupt ({first_line(error)}); remove the file and repeat the command with resume=true"
        ) from error
    try:
        _check(content)
    except _ValueFault as error:
        raise InputError(
            f"{file}: not what `wsol train` writes ({error}); remove the file and repeat the command with resume=true"
        ) from error
    return {"pixels": {}, **content}


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a valid value")


def _check(content: Any) -> None:
    if not isinstance(content, dict) or not {"localization", "classification", "data"} <= content.keys():
        raise _ValueFault("the file", "a mapping with localization, classification and data", content)
    _text_or_null(content, "name")
    _number(content, "seed", optional=True, whole=True)
    for key in ("choices", "checkpoint", "classes"):
        if content.get(key) is not None:
            _mapping(content, key)
    for key, below in (("choices", content.get("choices") or {}), ("classes", content.get("classes") or {})):
        for name in ("transform", "explainer", "model", "method", "backbone", "name"):
            if below.get(name) is not None and not isinstance(below[name], str | list | dict):
                raise _ValueFault(f"{key}.{name}", "a text", below[name])
    if content.get("classes") is not None and not isinstance(content["classes"].get("name"), str):
        raise _ValueFault("classes.name", "a text", content["classes"].get("name"))
    if (content.get("checkpoint") or {}).get("file") is not None:
        _text_or_null(content["checkpoint"], "file", "checkpoint.")
    for key in ("classification", "pixels"):
        if key in content:
            for split, values in _mapping(content, key).items():
                _percents(_mapping(content[key], split, f"{key}."), f"{key}.{split}.", every=True)
                assert isinstance(values, Mapping)
    _check_data(_mapping(content, "data"))
    if not isinstance(content["localization"], list):
        raise _ValueFault("localization", "a list", content["localization"])
    for position, row in enumerate(content["localization"]):
        _check_row(row, f"localization[{position}]")


def _check_data(data: Mapping[str, Any]) -> None:
    if "splits" not in data:
        return
    for name in _mapping(data, "splits", "data."):
        split = _mapping(data["splits"], name, "data.splits.")
        if not isinstance(split.get("fingerprint"), str):
            raise _ValueFault(f"data.splits.{name}.fingerprint", "a text", split.get("fingerprint"))
        _number(split, "images", f"data.splits.{name}.", whole=True)


def _check_row(row: Any, where: str) -> None:
    if not isinstance(row, dict):
        raise _ValueFault(where, "a mapping", row)
    for key in ROW_TEXTS:
        if not isinstance(row.get(key), str):
            raise _ValueFault(f"{where}.{key}", "a text", row.get(key))
    _number(row, "threshold", f"{where}.", optional=True)
    _number(row, "images", f"{where}.", optional=True, whole=True)
    _percents(row, f"{where}.")
    intervals = row.get("intervals")
    for key in _mapping(row, "intervals", f"{where}.") if intervals is not None else ():
        bounds = row["intervals"][key]
        if not isinstance(bounds, list) or len(bounds) != 2:
            raise _ValueFault(f"{where}.intervals.{key}", "two bounds", bounds)
        for bound in bounds:
            _percent(bound, f"{where}.intervals.{key}")
    parts = row.get("by_iou") or []
    if not isinstance(parts, list):
        raise _ValueFault(f"{where}.by_iou", "a list", parts)
    for part in parts:
        if not isinstance(part, dict):
            raise _ValueFault(f"{where}.by_iou", "mappings", part)
        for key in ("iou", "threshold"):
            _number(part, key, f"{where}.by_iou.", optional=True)
        _percents(part, f"{where}.by_iou.")


def _mapping(content: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        raise _ValueFault(f"{where}{key}", "a mapping", value)
    return value


def _text_or_null(content: Mapping[str, Any], key: str, where: str = "") -> None:
    if content.get(key) is not None and not isinstance(content[key], str):
        raise _ValueFault(f"{where}{key}", "a text", content[key])


def _percents(values: Mapping[str, Any], where: str, *, every: bool = False) -> None:
    for key, value in values.items():
        if value is not None and (every or key.endswith("_error")):
            _percent(value, f"{where}{key}")


def _percent(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e-6 <= value <= 100 + 1e-6:
        raise _ValueFault(where, "percent, 0 to 100", value)


def _number(
    content: Mapping[str, Any], key: str, where: str = "", *, optional: bool = False, whole: bool = False
) -> None:
    value = content.get(key)
    if value is None and optional:
        return
    is_whole = isinstance(value, int) and not isinstance(value, bool) and (value >= 0 or key == "seed")
    if not is_whole and (whole or not isinstance(value, float | int) or isinstance(value, bool) or abs(value) > 1e15):
        raise _ValueFault(f"{where}{key}", "a whole number" if whole else "a number", value)
