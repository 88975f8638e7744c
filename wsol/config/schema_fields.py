"""The fields of the classes in `wsol.config.schema`."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def key(default: Any, about: str) -> Any:
    """Return a config key with its default and its text for `--help`."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": about})
    return field(default=default, metadata={"help": about})


def group(*, is_open: bool = False) -> Any:
    """Return a config group: its keys and values come from the chosen YAML file; open ones take any keys."""
    return field(default=None, metadata={"open": is_open})


def given() -> Any:
    """Return a list that the options and the other words of a command line fill."""
    return field(default_factory=list, metadata={})
