"""The fields of the classes in `wsol.config.schema`."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def key(default: Any, about: str) -> Any:
    """A config key with its default and the sentence that `--help` prints."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": about})
    return field(default=default, metadata={"help": about})


def group() -> Any:
    """A config group: its keys and values come from the YAML file chosen."""
    return field(default=None, metadata={})


def given() -> Any:
    """A list that the options and the other words of a command line fill."""
    return field(default_factory=list, metadata={})
