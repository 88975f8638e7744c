"""`wsol sweep`: search over any keys of `wsol train`; the same command goes on after any interruption."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from wsol.config.compose import groups
from wsol.errors import InputError

OPTIONS = (
    "--config-dir DIR    add a folder of your own configs (may be repeated)",
    "--cfg    print the sweep's config",
    "--wandb    print the same search for `wandb sweep`",
)


def run(words: Sequence[str]) -> int:
    """Search under the words of a command line; returns the exit code."""
    if {"-h", "--help"} & set(words):
        print(usage())
        return 0
    options, own, training = divide(words)
    from wsol.sweeps import hyperparameter_search as searching

    settings = searching.read_settings(own, options["--config-dir"])
    base = [*settings["overrides"], *training]
    if "--cfg" in options:
        print(yaml.safe_dump(dict(settings), sort_keys=False), end="")
        return 0
    config = searching.check(settings, base, options["--config-dir"])
    if "--wandb" in options:
        from wsol.sweeps.wandb_config import sweep_config

        content = sweep_config(settings, base, searching.metric_mode(settings["metric"]))
        print(yaml.safe_dump(content, sort_keys=False), end="")
        return 0
    print("wsol sweep: loading PyTorch ...", file=sys.stderr, flush=True)
    _say(searching.run(settings, base, options["--config-dir"], config), test=settings["test"])
    return 0


def usage() -> str:
    """`wsol sweep --help`."""
    import dataclasses

    from wsol.cli.help import plain_keys
    from wsol.config.schema import Search

    choices = groups().get("sweep", {})
    width = max(map(len, choices), default=0)
    keys = (
        [line.replace("  ", "  sweep.", 1) for line in plain_keys(Search)] if dataclasses.is_dataclass(Search) else []
    )
    return "\n".join(
        [
            "wsol sweep: " + str(__doc__).partition(": ")[2],
            "",
            "usage: wsol sweep [OPTION]... [sweep=CHOICE] [sweep.KEY=VALUE]... [any words of wsol train]...",
            "",
            "options:",
            *(f"  {option}" for option in OPTIONS),
            "",
            "sweeps (sweep=CHOICE):",
            *(f"    {choice:<{width}}  {about}" for choice, about in choices.items()),
            "",
            "keys:",
            *keys,
        ]
    )


def divide(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Divide the words into options, those of the sweep itself, and those of `wsol train`.

    Example:
        >>> divide(["sweep=lr", "method=acol", "sweep.trials=3", "--wandb"])[1:]
        (['sweep=lr', 'sweep.trials=3'], ['method=acol'])
    """
    options: dict[str, list[str]] = {"--config-dir": []}
    own: list[str] = []
    training: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--config-dir" and rest:
            options["--config-dir"].append(rest.pop(0))
        elif word in ("--cfg", "--wandb"):
            options[word] = []
        elif word.startswith("-"):
            raise InputError(
                f"wsol sweep: unknown option {word!r}; options are --help, --config-dir DIR, --cfg, --wandb"
            )
        else:
            (own if word.lstrip("+~").startswith(("sweep=", "sweep.")) else training).append(word)
    return options, own, training


def _say(content: Mapping[str, Any], test: bool) -> None:
    best, spent = content["best"], content["supervision"]
    folder = Path(best["run"]).parents[1]
    if test:
        from wsol.cli import screen

        screen.results(folder / "test" / "results.json")
    per_class = "" if spent["per_class"] is None else f", {spent['per_class']:.3g} a class"
    print(f"best: trial {best['trial']}, {content['metric']} {best['value']:.4g}   ({best['run']})")
    print(f"  {content['command']}")
    for key, share in content["importance"].items():
        print(f"  importance of {key}: {share:.2f}")
    for number, error in content["errors"].items():
        print(f"  trial {number} failed: {error}")
    print(f"chosen with the {spent['kind']} of {spent['images']} images of the val split{per_class}")
    print(f"written to {folder / 'sweep.json'}, history.png" + (", importance.png" if content["importance"] else ""))
