"""The folders in which configs are searched: the user's own, those of plug-ins, the shipped ones, Hydra plug-ins'."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin

from wsol.config.overrides import as_written
from wsol.config.plugins import config_folders
from wsol.errors import InputError, first_line

KEY = "hydra.searchpath"


def own_folders(config_dirs: Iterable[str | Path]) -> list[Path]:
    """Return the folders that are searched before the shipped configs: the user's, then those of plug-ins.

    Raises:
        InputError: the user names a folder that does not exist.
    """
    folders = [Path(folder).expanduser().resolve() for folder in config_dirs]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--config-dir {folder}: no such folder")
    return [*folders, *config_folders()]


def take_search_path(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split overrides into those that are not ``hydra.searchpath=[...]`` and the folders named by such overrides.

    The folders are used like ``--config-dir``, so their files replace shipped files of the same name.

    Raises:
        InputError: an override can't be parsed, or an entry is neither ``file://`` nor ``pkg://`` nor a folder.

    Example:
        >>> take_search_path(["backbone=mine", "hydra.searchpath=[file:///home/me/configs]"])
        (['backbone=mine'], ['/home/me/configs'])
    """
    folders: list[str] = []
    rest: list[str] = []
    for word in words:
        if word.partition("=")[0].lstrip("+") != KEY:
            rest.append(word)
            continue
        try:
            value = OverridesParser.create().parse_override(as_written(word)).value()
        except HydraException as error:
            raise InputError(f"{word}: cannot be parsed ({first_line(error)}); expected {KEY}=[file://...]") from error
        folders += [_folder(str(entry)) for entry in (value if isinstance(value, list) else [value])]
    return rest, folders


def _folder(entry: str) -> str:
    kind, separator, place = entry.partition("://")
    if not separator:
        return entry
    if kind == "file":
        return place
    if kind == "pkg":
        try:
            spec = importlib.util.find_spec(place.replace("/", "."))
        except ImportError:
            spec = None
        if spec is not None and spec.submodule_search_locations:
            return str(next(iter(spec.submodule_search_locations)))
        raise InputError(f"{KEY}: {entry}: no such package")
    raise InputError(f"{KEY}: {entry}: expected file://<folder>, pkg://<package>, or a folder")


class OwnConfigsFirst(SearchPathPlugin):
    """Searches folders before the shipped configs; Hydra's own ``hydra.searchpath`` would search them last."""

    folders: ClassVar[list[Path]] = []

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """See `hydra.plugins.search_path_plugin.SearchPathPlugin`."""
        for folder in self.folders:
            search_path.prepend("wsol", f"file://{folder}", anchor="main")


def searched_folders(config_dirs: Sequence[str | Path], shipped: Path) -> list[Path]:
    """Return every folder that Hydra searches for configs, in its order, but for those of Hydra itself.

    Hydra is asked, so what its ``SearchPathPlugin`` of any installed package adds is among them.

    Args:
        config_dirs: the user's own folders.
        shipped: the folder of the shipped configs.

    Raises:
        InputError: a folder or a package of the search path does not exist.
    """
    with searched(config_dirs):
        path = create_config_search_path(str(shipped)).get_path()
    return [Path(_folder(one.path)) for one in path if one.path and one.provider not in ("hydra", "schema")]


@contextlib.contextmanager
def searched(config_dirs: Sequence[str | Path]) -> Iterator[None]:
    """Make Hydra search `own_folders` first inside the block."""
    Plugins.instance().register(OwnConfigsFirst)
    before, OwnConfigsFirst.folders = OwnConfigsFirst.folders, own_folders(config_dirs)
    try:
        yield
    finally:
        OwnConfigsFirst.folders = before
