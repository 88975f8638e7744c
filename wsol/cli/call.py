"""A parsed command line: its verb, words and options; and how it is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from wsol.cli.verbs import VERBS, Verb
from wsol.config import schema
from wsol.config.compose import check_resolves, compose, groups, override
from wsol.config.overrides import KEY, as_written
from wsol.config.search_path import take_search_path
from wsol.errors import InputError
from wsol.runs.lookup import find_run


@dataclass(frozen=True)
class Call:
    """A command line."""

    name: str
    """Name of the verb."""
    positional: tuple[str, ...]
    """The words that set no key: runs, for most verbs."""
    overrides: tuple[str, ...]
    """The words that set keys, as written."""
    config_dirs: tuple[str, ...] = ()
    help: bool = False
    multirun: bool = False
    cfg: bool = False

    @property
    def verb(self) -> Verb:
        """The verb's entry."""
        return VERBS[self.name]

    def words(self, positional: Sequence[str]) -> list[str]:
        """Return the command line without its options, as the words after ``wsol``."""
        folders = [word for folder in self.config_dirs for word in ("--config-dir", _absolute(folder))]
        return [*self.name.split(), *folders, *positional, *self.overrides]


def read(
    name: str,
    words: Sequence[str],
    config_dirs: Sequence[str] = (),
    help: bool = False,
    *,
    multirun: bool = False,
    cfg: bool = False,
    out: str | None = None,
    force: bool = False,
    json: bool = False,
) -> Call:
    """Separate positional words from overrides, and turn options that stand for keys into overrides.

    Raises:
        InputError: an option that the verb does not have, or too many words.
    """
    verb, keys = VERBS[name], schema.keys(VERBS[name].config)
    rest, searched = take_search_path(words)
    overrides = [word for word in rest if is_override(word, keys)]
    positional = [word for word in rest if not is_override(word, keys)]
    if out is not None:
        if verb.out is None:
            raise InputError(f"wsol {name} has no --out: it writes no folder")
        overrides.append(override(verb.out, out))
    if force and "force" not in keys:
        raise InputError(f"wsol {name} has no --force: it has nothing to replace")
    overrides += [f"{key}=true" for key, given in (("force", force), ("json", json)) if given]
    call = Call(name, tuple(positional), tuple(overrides), (*config_dirs, *searched), help, multirun, cfg)
    _check_positional(call)
    return call


def is_override(word: str, keys: Any) -> bool:
    """Return whether a word sets a key instead of naming a run or a file.

    Args:
        word: a word of a command line.
        keys: keys of the verb; a word that sets one of them is never read as a file.

    Example:
        >>> is_override("split=val", ["split"]), is_override("runs/lr=0.1", []), is_override("~logger", [])
        (True, False, True)
    """
    key, equals, _ = word.partition("=")
    if word.startswith("~") and "/" not in key:
        return True
    if not equals or not KEY.fullmatch(key):
        return bool(equals) and not os.path.lexists(word)
    if "/" in key and not key.lstrip("+").startswith("hydra/"):
        return False
    return key.lstrip("+").partition(".")[0] in keys or not os.path.lexists(word)


def _check_positional(call: Call) -> None:
    takes, given = call.verb.takes, call.positional
    most = 0 if takes is None else len(takes.keys)
    if len(given) <= most or (takes and takes.rest) or (call.multirun and most == 1):
        return
    word = given[most]
    usage = takes.usage if takes else ""
    several = "; several runs: -m" if most == 1 else ""
    raise InputError(
        f"wsol {call.name}: {word!r} is one word too many; usage: wsol {call.name} {usage}{' ' if usage else ''}"
        f"[KEY=VALUE ...]{several}"
    )


def run(call: Call) -> int:
    """Run a command line; returns the exit code."""
    if call.help:
        from wsol.cli import help as help_text

        print(help_text.verb(call.name, call.config_dirs))
        return 0
    if call.multirun:
        from wsol.cli.multirun import multirun

        return multirun(call)
    config = config_of(call)
    if call.cfg:
        print(OmegaConf.to_yaml(config), end="")
        return 0
    check_resolves(config)
    if call.verb.needs_torch:
        print(f"wsol {call.name}: loading PyTorch ...", file=sys.stderr, flush=True)
    return call.verb.load()(config)


def config_of(call: Call) -> DictConfig:
    """Return the composed config of a command line, with names of runs replaced by their folders.

    Raises:
        InputError: a word that cannot be parsed, or an unknown run.
    """
    config, takes = composed(call), call.verb.takes
    if takes is None:
        return config
    words = list(call.positional)
    for key in takes.keys[: len(words)]:
        _set(config, key, words.pop(0), takes.usage)
    if words and takes.rest:
        _set(config, takes.rest, words, takes.usage)
    for key in takes.runs:
        value = config[key]
        if isinstance(value, ListConfig):
            config[key] = [str(find_run(each, config.runs_dir)) for each in value]
        elif isinstance(value, str):
            config[key] = str(find_run(value, config.runs_dir))
    return config


def composed(call: Call) -> DictConfig:
    """Return the config of the words that set keys."""
    verb = call.verb
    if not verb.passes_on:
        config = compose(verb.config, call.overrides, call.config_dirs)
        if "config_dirs" in config:
            config.config_dirs = list(call.config_dirs)
        return config
    keys, known = schema.keys(verb.config), groups(call.config_dirs)
    own = [word for word in call.overrides if word.partition("=")[0].lstrip("+~").partition(".")[0] in keys]
    others = [as_written(word, known, schema.texts("train")) for word in call.overrides if word not in own]
    config = compose(verb.config, own, call.config_dirs)
    OmegaConf.update(config, verb.passes_on, [*OmegaConf.select(config, verb.passes_on), *others])
    config.config_dirs = list(call.config_dirs)
    return config


def _set(config: DictConfig, key: str, value: Any, usage: str) -> None:
    if config[key]:
        raise InputError(f"{key} is given twice, as {usage} and as {key}=...; leave one out")
    config[key] = value


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().resolve())
