"""Plug-ins: installed packages that provide backbones, heads, datasets and so on, with their own configs.

A distribution becomes a plug-in by an entry point of the group ``wsol.plugins`` that names a package::

    [project.entry-points."wsol.plugins"]
    my_package = "my_package"

A checkpoint may name its classes like those of this package, and the folder ``configs`` inside the package is searched
after the user's ``--config-dir`` and before the shipped configs.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from wsol.errors import InputError

GROUP = "wsol.plugins"


class Plugin(NamedTuple):
    """A package that an installed distribution names."""

    distribution: str
    package: str
    configs: Path | None
    """Its folder of configs, if it has one."""


def plugins() -> tuple[Plugin, ...]:
    """Return the installed plug-ins, sorted by name; their packages are located, not imported.

    Distributions in the working directory that are not installed do not count.

    Raises:
        InputError: a distribution names a package that does not exist.
    """
    return _found_on(tuple(path for path in sys.path if os.path.realpath(path or ".") != os.path.realpath(".")))


@lru_cache(maxsize=8)
def _found_on(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    named = {
        (point.value, distribution.metadata["Name"])
        for distribution in metadata.distributions(path=list(path))
        for point in distribution.entry_points
        if point.group == GROUP
    }
    return tuple(_plugin(package, distribution) for package, distribution in sorted(named))


def _plugin(package: str, distribution: str) -> Plugin:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the plug-in {distribution} names the package {package} (entry point {GROUP}), which cannot be found; "
            f"install it again, or remove it: pip uninstall {distribution}"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "configs"
    return Plugin(distribution, package, folder if folder.is_dir() else None)


def trusted_packages() -> tuple[str, ...]:
    """Return the packages, besides this one, whose classes a checkpoint may name."""
    return tuple(plugin.package for plugin in plugins())


def config_folders() -> tuple[Path, ...]:
    """Return the config folders of the plug-ins, in search order."""
    return tuple(plugin.configs for plugin in plugins() if plugin.configs is not None)
