"""What `--help` prints: verbs, groups with their choices, and the keys of the root config, read from the YAML files."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections import Counter
from collections.abc import Sequence

from wsol.cli.failures import EXIT_CODES
from wsol.cli.verbs import VERBS
from wsol.config import schema
from wsol.config.compose import groups
from wsol.config.plugins import plugins

WIDTH = 118
QUOTES = '"'


def overview() -> str:
    """`wsol --help`."""
    width = max(map(len, VERBS))
    lines = [
        "wsol: weakly supervised object localization",
        "",
        "usage: wsol VERB [OPTION]... [GROUP=CHOICE]... [KEY=VALUE]...",
        "",
    ]
    lines += [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    lines += ["", "groups and their choices:", *_choices_in_brief()]
    if installed := plugins():
        lines += ["", f"plug-ins: {', '.join(f'{plugin.distribution} ({plugin.package})' for plugin in installed)}"]
    lines += ["", "wsol VERB --help lists all of them, `wsol train --cfg` prints the config that a command line gives."]
    lines += ["", EXIT_CODES]
    return "\n".join(lines)


def verb(name: str, config_dirs: Sequence[str] = ()) -> str:
    """`wsol VERB --help` of a verb with a config."""
    this = VERBS[name]
    assert this.config is not None
    node = schema.VERBS[this.config]
    known = groups(config_dirs)
    keys = [f.name for f in dataclasses.fields(node)]
    lines = [f"wsol {name}: {this.summary}", "", f"example: {this.example}", "", "options:"]
    lines += [
        "  -m, --multirun      run every combination of comma-separated values, such as seed=0,1,2",
        "  --config-dir DIR    add a folder of your own configs, searched first (may be repeated)",
        "  --cfg               print the composed config and stop",
    ]
    own = [group for group in known if group in keys or (group in ("experiment", "debug") and this.config == "train")]
    lines += ["", "groups (GROUP=CHOICE):"] if own else []
    for group in own:
        lines.append(f"  {group}")
        width = max(map(len, known[group]))
        lines += [f"    {choice:<{width}}  {summary}".rstrip() for choice, summary in known[group].items()]
    lines += ["", "keys (KEY=VALUE):", *plain_keys(node)]
    return "\n".join(lines)


def _choices_in_brief() -> list[str]:
    lines = []
    for group, choices in groups().items():
        lines += textwrap.wrap(
            f"{group:<11} {', '.join(_folded(list(choices)))}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * 14,
            break_on_hyphens=False,
        )
    return lines


def _folded(choices: Sequence[str]) -> list[str]:
    """The choices, those of a folder with many as one entry that counts them."""
    folders = Counter(choice.rpartition("/")[0] for choice in choices)
    short = {
        choice: f"{folder}/... ({folders[folder]})"
        if (folder := choice.rpartition("/")[0]) and folders[folder] > 3
        else choice
        for choice in choices
    }
    return list(dict.fromkeys(short.values()))


def plain_keys(node: type) -> list[str]:
    """The plain keys of a schema, their defaults in YAML's spelling, and what they are for."""
    lines = []
    for item in dataclasses.fields(node):
        if about := item.metadata.get("help"):
            default = item.default if item.default is not dataclasses.MISSING else getattr(node(), item.name)
            lines.append(f"  {f'{item.name}={json.dumps(default).strip(QUOTES)}':<32} {about}")
    return lines
