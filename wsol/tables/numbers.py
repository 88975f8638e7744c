"""Published numbers of the field with their provenance (from ``numbers.yaml`` beside this file)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

from wsol.errors import InputError, unknown

PROVENANCES = ("authors", "secondary", "unverified")
"""The provenance of a number: read in the authors' README, result image or abstract; transcribed from public notes that
agree, or from another paper's table; or not verified."""


class PublishedNumber(NamedTuple):
    """A published number, or several."""

    value: Any
    """Percent: a number, a list of numbers, or None if the paper has none."""
    provenance: str
    """One of `PROVENANCES`."""


def published(*paths: str) -> PublishedNumber:
    """Look up a number by its path; for several paths, the sum with the weakest of their provenances.

    Args:
        paths: keys of numbers.yaml, separated by slashes; a position in a list counts from 0.

    Raises:
        InputError: there is no such number; the message has near matches.

    Example:
        >>> published("cam2016/ilsvrc_val_localization_error/VGGnet-GAP/0")
        PublishedNumber(value=57.2, provenance='secondary')
        >>> round(published("choe2020/CAM/0", "choe2020/difference_to_CAM/HaS/0").value, 6)
        60.6
        >>> published("acol2018/unverified/GoogLeNet-ACoL/ilsvrc_localization_error")
        PublishedNumber(value=[53.28, 42.58], provenance='unverified')
    """
    if not paths:
        raise InputError("a published number needs at least one path, such as cam2016/cub_box_accuracy_iou50/chance")
    found = [_one(path) for path in paths]
    provenance = max((each.provenance for each in found), key=PROVENANCES.index)
    if len(found) == 1:
        return found[0]
    return PublishedNumber(sum(each.value for each in found), provenance)


def _one(path: str) -> PublishedNumber:
    node: Any = _numbers()
    provenance = "unverified"
    for depth, key in enumerate(path.split("/")):
        if isinstance(node, Mapping):
            if key not in node:
                raise unknown(f"key of {'/'.join(path.split('/')[:depth]) or 'numbers.yaml'}", key, map(str, node))
            node = node[key]
        elif isinstance(node, Sequence) and not isinstance(node, str) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            raise InputError(f"numbers.yaml has no {path!r}: {'/'.join(path.split('/')[:depth])} has no {key!r}")
        if key == "unverified":
            provenance = "unverified"
        elif isinstance(node, Mapping) and "provenance" in node:
            provenance = str(node["provenance"])
    if isinstance(node, Mapping):
        raise InputError(f"numbers.yaml: {path!r} is not a number; it has {', '.join(map(str, node))}")
    return PublishedNumber(node, provenance)


@cache
def _numbers() -> Mapping[str, Any]:
    text = resources.files("wsol.tables").joinpath("numbers.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)
