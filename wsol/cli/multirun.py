"""`--multirun`: Hydra's sweepers and launchers start the jobs; each job is an ordinary single run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from unittest import mock

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wsol.cli.compose import check_choices, config_root, groups, search_path
from wsol.cli.verbs import VERBS
from wsol.errors import InputError


def multirun(name: str, overrides: Sequence[str], config_dirs: Sequence[str]) -> int:
    """Run every combination of the comma-separated overrides of verb ``name``; returns the worst exit code.

    A job sees the command line that would run it alone, so that the processes it starts (ddp) are of this one job.
    """
    verb = VERBS[name]
    assert verb.config is not None
    check_choices(overrides, groups(config_dirs))
    folders = [word for folder in config_dirs for word in ("--config-dir", folder)]
    codes: list[int] = []

    def job(_: DictConfig) -> None:
        from wsol.cli import main

        words = [*name.split(), *folders, *HydraConfig.get().overrides.task]
        HydraConfig.instance().cfg = None
        with mock.patch.object(sys, "argv", [sys.argv[0], *words]):
            codes.append(main(words))

    fixed = [
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra.sweep.dir=runs/.multirun/${now:%Y-%m-%d_%H-%M-%S}",
    ]
    words = [sys.argv[0], "--multirun", *overrides, *fixed, *search_path(config_dirs)]
    with mock.patch.object(sys, "argv", words):
        hydra.main(version_base="1.3", config_path=str(config_root()), config_name=verb.config)(job)()
    if not codes:
        raise InputError(f"wsol {name} --multirun ran no job; check the overrides")
    return max(codes)
