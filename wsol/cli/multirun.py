"""`--multirun`: Hydra's sweepers and launchers start the jobs; each job is an ordinary single run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wsol.cli import schema
from wsol.cli.compose import check_choices, config_root, groups, search_path
from wsol.cli.verbs import VERBS
from wsol.errors import InputError


def multirun(name: str, overrides: Sequence[str], config_dirs: Sequence[str]) -> int:
    """Run every combination of the comma-separated overrides of verb ``name``; returns the worst exit code.

    A job sees the command line that would run it alone, so that the processes it starts (ddp) are of this one job.
    """
    verb = VERBS[name]
    assert verb.config is not None
    schema.register()
    check_choices(overrides, groups(config_dirs))
    folders = [word for folder in config_dirs for word in ("--config-dir", folder)]
    codes: list[int] = []

    def job(_: DictConfig) -> None:
        from wsol.cli import main

        words = [*name.split(), *folders, *HydraConfig.get().overrides.task]
        HydraConfig.instance().cfg = None  # else Lightning would start a job's processes as a whole multirun again
        with command_line(words):
            codes.append(main(words))
        _end_process_group()

    fixed = [
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra.sweep.dir=runs/.multirun/${now:%Y-%m-%d_%H-%M-%S}",
    ]
    with command_line(["--multirun", *overrides, *fixed, *search_path(config_dirs)]):
        hydra.main(version_base="1.3", config_path=str(config_root()), config_name=verb.config)(job)()
    if not codes:
        raise InputError(f"wsol {name} --multirun ran no job; check the overrides")
    return max(codes)


@contextlib.contextmanager
def command_line(words: Sequence[str]) -> Iterator[None]:
    """Let the program's command line be ``words`` for a while, and its environment as before afterwards."""
    before, environment = sys.argv, dict(os.environ)
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before
        os.environ.clear()
        os.environ.update(environment)


def _end_process_group() -> None:
    """Leave the process group of a finished ddp job, so that the next one can make its own."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
