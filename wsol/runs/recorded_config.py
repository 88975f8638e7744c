"""The config of one run that the user names, as OmegaConf, with checked types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wsol.errors import InputError, first_line
from wsol.runs.plain_yaml import read_mapping

GROUPS = ("data", "transform", "loader", "backbone", "method", "protocol", "optim", "schedule", "trainer", "choices")
TEXTS = ("name", "data_dir", "runs_dir", "run_dir", "memory_format", "monitor")
NUMBERS = ("seed", "image_size")


def read_config(folder: Path) -> DictConfig:
    """Read the config that a run recorded.

    Raises:
        InputError: not a run, config.yaml is unreadable, or a key has a value of the wrong type.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise InputError(f"{folder}: not a run (no config.yaml); expected a folder that `wsol train` made")
    plain, _ = read_mapping(file)
    _check(plain, file)
    try:
        return OmegaConf.create(plain)
    except (OmegaConfBaseException, ValueError) as error:
        raise InputError(f"{file}: unreadable ({first_line(error)})") from error


def _check(plain: dict[str, Any], file: Path) -> None:
    for keys, kind, expected in ((GROUPS, dict, "a mapping"), (TEXTS, str, "a text"), (NUMBERS, int, "a whole number")):
        for key in keys:
            value = plain.get(key)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise InputError(
                    f"{file}: {key}: expected {expected}, got {value!r:.60}; restore the config that the run recorded"
                )
    if plain.get("choices") is None:
        plain["choices"] = {}
    for key, value in (plain.get("protocol") or {}).items():
        if not isinstance(value, dict):
            raise InputError(f"{file}: protocol.{key}: expected a mapping, got {value!r:.60}")
