"""Find values that an experiment's file fixes, without composing it, which takes Hydra a sixth of a second.

A table may name fifty experiments and find runs of two. A run whose config differs from the values that an experiment's
file sets last cannot belong to it, so only the other runs are compared with the composed config.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from wsol.config.compose import config_root
from wsol.config.search_path import own_folders
from wsol.tables.collect import comparable

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader if it is installed: it is ten times as fast."""


def pinned(experiment: str, words: Sequence[str] = (), config_dirs: Iterable[str] = ()) -> dict[str, Any]:
    """Return values that every run of an experiment has recorded, by dotted key; empty if none is certain.

    Args:
        experiment: name of the experiment, such as ``cub/acol_vgg16``.
        words: words of the command line, which override the file.
        config_dirs: the user's own config folders, searched first.

    Example:
        >>> pinned("choe2020/cub/acol_vgg16")["optim.optimizer.lr"]
        0.00010569582
        >>> "optim.optimizer.lr" in pinned("choe2020/cub/acol_vgg16", ["optim.optimizer.lr=1"])
        False
    """
    if any(word.startswith(("+", "~")) or "@" in word for word in words):
        return {}
    keys = [word.partition("=")[0] for word in words]
    found = _said(experiment, [*own_folders(config_dirs), config_root()])
    return {k: v for k, v in found.items() if _is_plain(v) and not any(_overlap(k, word) for word in keys)}


def _said(experiment: str, roots: Sequence[Path]) -> dict[str, Any]:
    """Return the values of the file and of the experiments that it is based on."""
    files = (root.expanduser() / "experiment" / f"{experiment}.yaml" for root in roots)
    text = next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "")
    try:
        content = yaml.load(text, Loader=LOADER) if text.startswith("# @package _global_\n") else None
    except yaml.YAMLError:
        return {}  # composing reports the fault
    if not isinstance(content, dict):
        return {}
    defaults = content.pop("defaults", None) or ["_self_"]
    own = comparable(content)
    if "_self_" in defaults[:-1]:  # if left out, it is the last
        return {}
    said: dict[str, Any] = {}
    for each in defaults[:-1] if defaults[-1] == "_self_" else defaults:
        if isinstance(each, Mapping) and all(key.startswith("override ") for key in each):
            continue  # a choice of a group that is composed before all experiments
        if not isinstance(each, str) or (each.startswith("/") and not each.startswith("/experiment/")):
            return own  # a group between the base experiments and this one
        name = each.removeprefix("/experiment/") if each.startswith("/") else str(Path(experiment).parent / each)
        said = _over(said, _said(name, roots))
    return _over(said, own)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Override values by dotted key with others."""
    return {**{k: v for k, v in below.items() if not any(_overlap(k, key) for key in above)}, **above}


def _is_plain(value: Any) -> bool:
    """Return whether a run's config records this value unchanged; Hydra may read a text as something else."""
    return isinstance(value, bool | int | float)


def _overlap(key: str, other: str) -> bool:
    """Return whether one of two keys is inside the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
