"""Shell completion: verbs and options by Click; keys, choices of groups and names of runs from configs and run folders.

::

    eval "$(_WSOL_COMPLETE=bash_source wsol)"          # in ~/.bashrc
    eval "$(_WSOL_COMPLETE=zsh_source wsol)"           # in ~/.zshrc
    _WSOL_COMPLETE=fish_source wsol | source           # in ~/.config/fish/config.fish
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, shell_complete

from wsol.cli.verbs import VERBS, Verb
from wsol.errors import InputError

VARIABLE = "_WSOL_COMPLETE"
SPECIAL, BACKSLASH = re.compile(r"([^\w@%+:,./\[\]-])"), r"\\\\\1"  # two, because the shell's `read` removes one


def complete(program: click.Command) -> int:
    """Answer the shell's request in `VARIABLE`; returns the exit code."""
    add_completion_class(_Bash)
    return shell_complete(program, {}, "wsol", VARIABLE, os.environ[VARIABLE])


def complete_word(name: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]:
    """Return the function that completes the words of a verb that are no options."""

    def words(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem[str]]:
        """Complete a word; nothing if the configs cannot be read."""
        try:
            return candidates(VERBS[name], begun, context.params.get("config_dirs") or ())
        except (InputError, OSError):  # a config folder that does not exist or cannot be read
            return []

    return words


def candidates(verb: Verb, begun: str, config_dirs: Sequence[str] = ()) -> list[CompletionItem[str]]:
    """Return the completions of a word: choices after ``group=``, else keys, groups, and names of runs.

    Example:
        >>> [item.value for item in candidates(VERBS["train"], "method=aco")]
        ['method=acol', 'method=acol_1x1', 'method=acol_chain']
        >>> [item.value for item in candidates(VERBS["eval"], "save")]
        ['save_maps=']
    """
    from wsol.config import schema
    from wsol.config.compose import groups, keys_of

    known, fields = groups(config_dirs), schema.keys(verb.config)
    key, equals, value = begun.partition("=")
    if equals:
        if key in known:
            start = value.rpartition("[")[2].rpartition(",")[2]  # within [a,b or a,b
            before = begun.removesuffix(start)
            return [_item(f"{before}{each}", about) for each, about in known[key].items() if each.startswith(start)]
        return [CompletionItem(value, type="file")]
    trains = bool(verb.passes_on or verb.resumes)
    if "." in begun:
        dotted = keys_of("train" if trains else verb.config, (), config_dirs)
        return [_item(f"{key}=", "") for key in dotted if key.startswith(begun)] or [CompletionItem(begun, type="file")]
    keys = {**(schema.keys("train") if trains else {}), **fields}
    about = {key: field.metadata.get("help", "") for key, field in keys.items() if "help" in field.metadata}
    own = {*keys, *(schema.UNRECORDED_GROUPS if trains else ())}
    about.update(dict.fromkeys((group for group in known if group in own), ""))
    found = [_item(f"{key}=", text) for key, text in about.items() if key.startswith(begun)]
    subjects = _subjects(verb, known, begun)
    return [*subjects, *found] or [CompletionItem(begun, type="file")]


def _subjects(verb: Verb, known: dict[str, dict[str, str]], begun: str) -> list[CompletionItem[str]]:
    """Return the names of runs, or of tables, that begin with ``begun``."""
    if verb.takes is None:
        return []
    group = verb.takes.keys[0] if verb.takes.keys else ""
    found = [_item(choice, about) for choice, about in known.get(group, {}).items() if choice.startswith(begun)]
    if verb.takes.runs:
        found += [_item(name, "") for name in ["last", *_run_names(Path("runs"))] if name.startswith(begun)]
    return found


def _run_names(runs_dir: Path) -> Iterable[str]:
    """Return the folders below ``runs``, without reading them."""
    if not runs_dir.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(runs_dir) if entry.is_dir() and not entry.name.startswith("."))


def _item(value: str, about: str) -> CompletionItem[str]:
    return CompletionItem(value, help=about or None)


class _Bash(BashComplete):
    """Bash, which splits ``key=value`` into three words, and adds a blank after each completion unless told not to."""

    source_template = BashComplete.source_template.replace("-o nosort", "-o nosort -o nospace")

    def get_completion_args(self) -> tuple[list[str], str]:
        """Join the words that bash split at ``=``."""
        args, begun = super().get_completion_args()
        joined: list[str] = []
        for word in [*args, begun]:
            if joined and (word.startswith("=") or joined[-1].endswith("=")):
                joined[-1] += word
            else:
                joined.append(word)
        return joined[:-1], joined[-1]

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return the part after the last ``=``, with a blank after complete words."""
        value = str(item.value).rpartition("=")[2] or str(item.value)
        if item.type != "plain" or value.endswith("="):
            return f"{item.type},{value}"
        return f"{item.type},{re.sub(SPECIAL, BACKSLASH, value)} "
