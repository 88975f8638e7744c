"""Arguments of the public functions (`wsol.api`) as overrides of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import timm

from wsol.config.compose import groups
from wsol.config.overrides import override
from wsol.errors import InputError, near_matches, unknown

Overrides = Mapping[str, Any]
"""More keys of a verb's config by their dotted names, such as ``{"optim.optimizer.lr": 0.01}``."""


def matching_choices(group: str, pattern: str, config_dirs: Sequence[str]) -> list[str]:
    """Return the choices of a config group that match a shell pattern, sorted."""
    return sorted(name for name in groups(config_dirs).get(group, {}) if fnmatchcase(name, pattern))


def known_choice(group: str, name: str, config_dirs: Sequence[str]) -> str:
    """Check and return a choice of a config group.

    Raises:
        InputError: no choice of that name.
    """
    if name not in (known := groups(config_dirs).get(group, {})):
        raise unknown(group, name, known)
    return name


def backbone_overrides(name: str, config_dirs: Sequence[str]) -> list[str]:
    """Return the overrides for a backbone: one of the configs, or a timm model.

    Raises:
        InputError: neither has the name.
    """
    known = groups(config_dirs)["backbone"]
    if name in known:
        return [f"backbone={name}"]
    if timm.is_model(name):
        return ["backbone=timm", override("backbone.name", name)]
    raise InputError(f"unknown backbone {name!r}: {near_matches(name, known)}; or any name of timm.list_models()")


def data_overrides(data: str, root: str | Path | None, config_dirs: Sequence[str]) -> list[str]:
    """Return the overrides for a dataset: one of the configs, or a folder of class folders.

    Raises:
        InputError: neither has the name.
    """
    known = groups(config_dirs)["data"]
    if data not in known and Path(data).is_dir() and root is None:
        data, root = "folder", data
    if data not in known:
        raise InputError(f"unknown dataset {data!r}: {near_matches(data, known)}; or a folder of class folders")
    return [f"data={data}", *key_overrides({"data.root": root})]


def protocol_overrides(protocol: str | Sequence[str] | None, config_dirs: Sequence[str]) -> list[str]:
    """Return the override for one or several protocols; none if no protocol is given.

    Raises:
        InputError: an unknown protocol.
    """
    if protocol is None:
        return []
    names = [protocol] if isinstance(protocol, str) else list(protocol)
    return [f"protocol=[{','.join(known_choice('protocol', name, config_dirs) for name in names)}]"]


def key_overrides(keys: Mapping[str, Any]) -> list[str]:
    """Return the overrides for keys that are not None; paths as text.

    Example:
        >>> key_overrides({"optim.optimizer.lr": 0.1, "run_dir": Path("runs/a"), "seed": None})
        ['optim.optimizer.lr=0.1', 'run_dir=runs/a']
    """
    return [
        override(key, str(value) if isinstance(value, Path) else value)
        for key, value in keys.items()
        if value is not None
    ]
