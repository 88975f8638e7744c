"""`--multirun`: Hydra's sweepers and launchers start the jobs; each job is an ordinary single run.

Jobs run one after the other in this process, or wherever a launcher plugin takes them (``hydra/launcher=...``).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wsol import runs
from wsol.cli.verbs import VERBS
from wsol.config import schema
from wsol.config.compose import check_choices, config_root, groups
from wsol.config.search_path import searched
from wsol.errors import InputError, interruption
from wsol.extras import need

EXIT_CODE = "exit_code_"
"""Start of the name of the file in a job's folder below ``runs/.multirun`` that says how a process of the job ended."""


def multirun(name: str, overrides: Sequence[str], config_dirs: Sequence[str]) -> int:
    """Run every combination of the comma-separated overrides of verb ``name``; returns the worst exit code.

    A job sees the command line that would run it alone, so that the processes it starts (ddp) are of this one job.

    Raises:
        InputError: no job, a launcher that is not installed, or several processes that would each run all jobs.
    """
    verb = VERBS[name]
    assert verb.config is not None
    if runs.started_from_outside():
        raise InputError(
            "--multirun starts its jobs itself, and with trainer=ddp each job its processes: give it without torchrun "
            "or srun; on a cluster with hydra/launcher=submitit_slurm"
        )
    schema.register()
    check_choices(overrides, groups(config_dirs))
    _check_launcher(overrides)
    folders = [word for folder in config_dirs for word in ("--config-dir", str(Path(folder).expanduser().resolve()))]
    here, sweep = os.getpid(), runs.new_folder(Path("runs"), ".multirun")

    def job(_: DictConfig) -> None:
        words = [*name.split(), *folders, *HydraConfig.get().overrides.task]
        folder = Path(HydraConfig.get().runtime.output_dir)
        if os.getpid() == here:
            code = _run_here(words)
        else:  # a launcher's process: ddp would repeat the launcher's command line instead of the job's
            code = subprocess.run([sys.executable, "-m", "wsol.cli", *words], check=False).returncode
        rank = os.environ.get("SLURM_PROCID", "0")
        (folder / f"{EXIT_CODE}{rank}").write_text(str(code), encoding="utf-8")

    fixed = [
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        f"hydra.job.name=wsol-{verb.config}",
        f"hydra.sweep.dir={sweep}",
    ]
    with searched(config_dirs), command_line(["--multirun", *overrides, *fixed]):
        try:
            hydra.main(version_base="1.3", config_path=str(config_root()), config_name=verb.config)(job)()
        except SystemExit as error:
            if error.code != 1 or interruption(error) is not None:
                raise
            raise InputError(
                f"wsol {name} --multirun: the overrides do not compose, see above: {' '.join(overrides)}"
            ) from error
    codes = [int(file.read_text(encoding="utf-8")) for file in sweep.glob(f"*/{EXIT_CODE}*")]
    if not codes:
        raise InputError(f"wsol {name} --multirun ran no job; check the overrides")
    return max(codes, key=abs)  # a process killed by a signal has a negative one


def _check_launcher(overrides: Sequence[str]) -> None:
    """Refuse a launcher whose package is missing."""
    if any(word.startswith("hydra/launcher=submitit") for word in overrides):
        need("submitit", what="hydra/launcher=submitit_...")


def _run_here(words: Sequence[str]) -> int:
    """Run one job in this process; Ctrl-C and SIGTERM end all of them."""
    from wsol.cli.app import run_job

    HydraConfig.instance().cfg = None  # else Lightning would start a job's processes as a whole multirun again
    with command_line(words):
        code = run_job(words)
    end_process_group()
    return code


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


def end_process_group() -> None:
    """Leave the process group of a finished ddp job, so that the next one can make its own."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
