"""`wsol backbone check`: hold a backbone, yours or a shipped one, to what every backbone must keep to."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from wsol.config.compose import compose
from wsol.errors import InputError


def run(words: Sequence[str]) -> int:
    """Run the checks and print a line for each; returns 1 if one failed, else 0."""
    arguments, rest = parser().parse_known_args(words)
    node = config(rest, arguments.config_dir)
    import torch

    from wsol.config import build
    from wsol.models.backbone_contract import contract

    make = build.maker(node, "backbone")
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        return _print(contract(make, speed=not arguments.no_speed), node["_target_"])
    finally:
        torch.set_num_threads(threads)


def _print(checks: Iterable[Any], target: str) -> int:
    """Print a line for each check; returns 1 if one failed, else 0."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{target}[/bold]")
    failed = total = 0
    for checked in checks:
        mark = "[green]pass[/green]" if checked.passed else "[red]FAIL[/red]"
        console.print(f"  {mark}  {checked.name}: ", end="")
        console.print(checked.said, markup=False)
        failed, total = failed + (not checked.passed), total + 1
    console.print(f"{total - failed} of {total} checks passed")
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    made = argparse.ArgumentParser(
        prog="wsol backbone check",
        usage="wsol backbone check [OPTION]... (mypkg.net.MyBackbone [KEY=VALUE]... | backbone=CHOICE [name=MODEL])",
        description=__doc__,
        epilog="KEY=VALUE are arguments of the class; for backbone=CHOICE they may also be written backbone.KEY=VALUE",
        allow_abbrev=False,
    )
    made.add_argument("--no-speed", action="store_true", help="leave out the comparison with ResNet-50")
    made.add_argument("--config-dir", action="append", default=[], help="a folder of your own configs; may be repeated")
    return made


def config(words: Sequence[str], config_dirs: Sequence[str] = ()) -> dict:
    """The config of the backbone that the words name.

    Raises:
        InputError: none is named, or two.
    """
    named = [word for word in words if "=" not in word]
    if options := [word for word in named if word.startswith("-")]:
        raise InputError(f"wsol backbone check: unknown option {options[0]!r}; see wsol backbone check --help")
    chosen = [word for word in words if word.startswith("backbone=")]
    if len(named) + len(chosen) != 1:
        raise InputError("which backbone? wsol backbone check mypkg.net.MyBackbone, or backbone=resnet50")
    keys = [word for word in words if word not in (*named, *chosen)]
    if chosen:
        own = [word if word.startswith("backbone.") else f"backbone.{word}" for word in keys]
        node = compose("train", [*chosen, *own], config_dirs).backbone
        plain = OmegaConf.to_container(node, resolve=True)
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}
    plain = OmegaConf.to_container(OmegaConf.from_dotlist(keys))
    assert isinstance(plain, dict)
    return {"_target_": named[0], **{str(key): value for key, value in plain.items()}}
