"""The text of `--help`: the verbs; for a verb its keys, then its groups with their choices, from the YAML files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

from wsol.cli.failures import EXIT_CODES
from wsol.cli.verbs import VERBS
from wsol.config import schema
from wsol.config.compose import groups
from wsol.config.plugins import plugins

QUOTES = '"'
GRAMMAR = "[KEY=VALUE ...] [--config-dir DIR] [-m] [--cfg] [--out DIR] [--force]"
OPTIONS = """\
options:
  --config-dir DIR    add a folder of your own configs, searched first (may be repeated)
  -m, --multirun      run every combination of comma-separated values, such as seed=0,1,2
  --cfg               print the composed config and stop"""


def overview() -> str:
    """Return `wsol --help`."""
    first = [name for name, verb in VERBS.items() if verb.is_first]
    more = [name for name in VERBS if name not in first]
    width = max(map(len, VERBS))
    lines = ["wsol: weakly supervised object localization", "", f"usage: wsol VERB [RUN ...] {GRAMMAR}", ""]
    lines += [f"  {name:<{width}}  {VERBS[name].summary}" for name in first]
    lines += ["", "more verbs:", *(f"  {name:<{width}}  {VERBS[name].summary}" for name in more)]
    lines += [
        "",
        "RUN is a run's folder, the name of runs (the newest is used), or last. `wsol VERB --help` lists the keys and",
        "choices of a verb, `wsol VERB --cfg` prints the config of a command line.",
    ]
    if installed := plugins():
        lines += ["", f"plug-ins: {', '.join(f'{plugin.distribution} ({plugin.package})' for plugin in installed)}"]
    return "\n".join([*lines, "", EXIT_CODES])


def family(name: str) -> str:
    """Return `wsol data --help`, for verbs of one family."""
    own = [each for each in VERBS if each.startswith(f"{name} ")]
    width = max(map(len, own))
    lines = [f"usage: wsol {name} VERB [RUN ...] {GRAMMAR}", ""]
    return "\n".join([*lines, *(f"  wsol {each:<{width}}  {VERBS[each].summary}" for each in own)])


def verb(name: str, config_dirs: Sequence[str] = ()) -> str:
    """Return `wsol VERB --help`."""
    this = VERBS[name]
    node = schema.VERBS[this.config]
    usage = f"{this.takes.usage} " if this.takes else ""
    lines = [f"wsol {name}: {this.summary}", "", f"usage: wsol {name} {usage}{GRAMMAR}", f"example: {this.example}"]
    if this.takes:
        lines += ["", f"{this.takes.usage}: {this.takes.about}"]
    lines += ["", "keys (KEY=VALUE):", *plain_keys(node)]
    if this.passes_on:
        lines += ["  any other key or group of wsol train applies to all of its runs"]
    lines += ["", OPTIONS, *_own_options(name)]
    known = groups(config_dirs)
    keys = [field.name for field in dataclasses.fields(node)]
    own = [group for group in known if group in keys or (group in schema.UNRECORDED_GROUPS and "optim" in keys)]
    lines += ["", "groups (GROUP=CHOICE):"] if own else []
    for group in own:
        lines.append(f"  {group}")
        width = max(map(len, known[group]))
        lines += [f"    {choice:<{width}}  {summary}".rstrip() for choice, summary in known[group].items()]
    return "\n".join(lines)


def _own_options(name: str) -> Iterator[str]:
    """Yield the options that stand for a key of the verb."""
    this = VERBS[name]
    fields = schema.keys(this.config)
    if this.out:
        yield f"  --out PATH          the same as {this.out}=PATH"
    for key in ("force", "json"):
        if key in fields:
            yield f"  {f'--{key}':<18}  the same as {key}=true"


def plain_keys(node: type, prefix: str = "") -> list[str]:
    """Return a line for each plain key of a schema: its default in YAML and its purpose."""
    lines = []
    made = node()
    for item in dataclasses.fields(node):
        default = getattr(made, item.name)
        if dataclasses.is_dataclass(default):
            lines += plain_keys(type(default), f"{item.name}.")
        elif about := item.metadata.get("help"):
            lines.append(f"  {f'{prefix}{item.name}={json.dumps(default).strip(QUOTES)}':<32} {about}")
    return lines
