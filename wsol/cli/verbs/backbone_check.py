"""`wsol backbone check`: test a backbone, yours or one of this package, against the contract of all backbones."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from wsol.config import build
from wsol.errors import InputError
from wsol.models.backbone_contract import contract


def run(config: DictConfig) -> int:
    """Run the checks and print a line for each; returns 1 if one failed, else 0."""
    node = backbone(config)
    make = build.maker(node, "backbone")
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        return _print(contract(make, speed=config.speed), node["_target_"])
    finally:
        torch.set_num_threads(threads)


def backbone(config: DictConfig) -> dict[str, Any]:
    """Return the config of the named backbone.

    Raises:
        InputError: no backbone is named, or two.
    """
    chosen = OmegaConf.to_container(config.backbone, resolve=True) if config.backbone is not None else {}
    assert isinstance(chosen, dict)
    node = {str(key): value for key, value in chosen.items()}
    if (config.target is None) == ("_target_" not in node):
        raise InputError("which backbone? wsol backbone check mypkg.net.MyBackbone, or backbone=resnet50")
    return node if config.target is None else {"_target_": config.target, **node}


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
