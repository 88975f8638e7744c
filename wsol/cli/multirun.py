"""`--multirun`: every combination of comma-separated values is an ordinary single run.

All jobs are checked before the first starts. They run one after the other in this process, or through a launcher
plugin of Hydra (``hydra/launcher=...``), which only receives the number of each job.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wsol import runs
from wsol.cli import failures
from wsol.cli.call import Call, config_of
from wsol.config import schema
from wsol.config.compose import config_root, groups
from wsol.config.overrides import jobs, override
from wsol.config.search_path import searched
from wsol.errors import InputError, interruption
from wsol.extras import need

EXIT_CODE = "exit_code_"
"""Name, without the rank, of the file with a job's exit code, in its folder below ``<runs_dir>/.multirun``."""


def multirun(call: Call) -> int:
    """Run every combination of the comma-separated values of a command line; returns the worst exit code.

    A job sees the command line that would run it alone, so that the processes it starts (ddp) run only this job.

    Raises:
        InputError: a job that cannot be composed, a launcher that is not installed, or several processes that would
            each run all jobs.
        KeyboardInterrupt: a job was interrupted; no other is started.
    """
    if runs.started_from_outside():
        raise InputError(
            "--multirun starts its jobs itself, and with trainer=ddp each job starts its processes: use it without "
            "torchrun or srun; on a cluster, use hydra/launcher=submitit_slurm"
        )
    hydras = [word for word in call.overrides if _is_of_hydra(word)]
    _check_launcher(hydras)
    calls = single_calls(call)
    configs = [config_of(each) for each in calls]
    if call.cfg:
        from omegaconf import OmegaConf

        print("---\n".join(OmegaConf.to_yaml(config) for config in configs), end="")
        return 0
    commands = [each.words(_found(each, config)) for each, config in zip(calls, configs, strict=True)]
    if not any(word.startswith("hydra/launcher=") for word in hydras):
        return max([_run_here(words) for words in commands], key=abs)
    runs_dir = Path(configs[0].get("runs_dir") or "runs")
    return _launch(call, commands, hydras, runs.new_folder(runs_dir, ".multirun"))


def single_calls(call: Call) -> list[Call]:
    """Return the jobs of a multirun: every named run with every combination of values.

    Example:
        >>> two = single_calls(Call("eval", ("runs/a",), ("split=test,val",), multirun=True))
        >>> [(each.positional, each.overrides) for each in two]
        [(('runs/a',), ('split=test',)), (('runs/a',), ('split=val',))]
    """
    combined = jobs([word for word in call.overrides if not _is_of_hydra(word)], groups(call.config_dirs))
    takes = call.verb.takes
    one_each = takes is not None and len(takes.keys) == 1 and not takes.rest
    subjects = [(word,) for word in call.positional] if one_each and call.positional else [call.positional]
    return [
        replace(call, positional=subject, overrides=tuple(overrides), multirun=False)
        for subject in subjects
        for overrides in combined
    ]


def _is_of_hydra(word: str) -> bool:
    return word.lstrip("+~").startswith(("hydra/", "hydra."))


def _found(call: Call, config: DictConfig) -> Sequence[str]:
    """Return the positional words of a job, with the run that a name meant when all jobs were checked."""
    takes = call.verb.takes
    if takes is None or not call.positional or len(takes.keys) != 1 or takes.runs != takes.keys:
        return call.positional
    return [str(config[takes.keys[0]])]


def _check_launcher(hydras: Sequence[str]) -> None:
    """Refuse a launcher whose package is missing, and other options of Hydra that have no meaning here."""
    if any(word.startswith("hydra/launcher=submitit") for word in hydras):
        need("submitit", what="hydra/launcher=submitit_...")
    if sweeper := [word for word in hydras if word.startswith("hydra/sweeper")]:
        raise InputError(f"{sweeper[0]}: --multirun runs every combination; wsol sweep searches")


def _run_here(words: Sequence[str]) -> int:
    """Run one job in this process; Ctrl-C and SIGTERM end all of them."""
    from wsol.cli.app import run_job

    with command_line(words):
        code = run_job(words)
    end_process_group()
    return code


def _launch(call: Call, commands: Sequence[Sequence[str]], hydras: Sequence[str], sweep: Path) -> int:
    """Let a launcher run the jobs; returns the worst exit code."""
    here = os.getpid()

    def job(config: DictConfig) -> None:
        """Run one job and write its exit code to a file."""
        words, folder = commands[config.wsol_job], Path(HydraConfig.get().runtime.output_dir)
        if os.getpid() == here:
            HydraConfig.instance().cfg = None  # otherwise Lightning's processes of a job would repeat the multirun
            code = _run_here(words)
        else:  # a launcher's process: ddp would repeat the launcher's command line instead of the job's
            code = subprocess.run([sys.executable, "-m", "wsol.cli", *words], check=False).returncode
        rank = os.environ.get("SLURM_PROCID", "0")
        (folder / f"{EXIT_CODE}{rank}").write_text(str(code), encoding="utf-8")

    fixed = [
        f"+wsol_job={','.join(map(str, range(len(commands))))}",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        f"hydra.job.name=wsol-{call.verb.config}",
        override("hydra.sweep.dir", str(sweep)),
    ]
    schema.register()
    with searched(call.config_dirs), command_line(["--multirun", *hydras, *fixed]):
        try:
            hydra.main(version_base="1.3", config_path=str(config_root()), config_name=None)(job)()
        except SystemExit as error:
            if error.code != 1 or interruption(error) is not None:
                raise
            raise InputError(f"wsol {call.name} --multirun: Hydra's launcher failed, see above") from error
    codes = [int(file.read_text(encoding="utf-8")) for file in sweep.glob(f"*/{EXIT_CODE}*")]
    if not codes:
        raise InputError(f"wsol {call.name} --multirun: the launcher ran no job; see its messages in {sweep}")
    if failures.CTRL_C in codes:
        raise KeyboardInterrupt
    return max(codes, key=abs)  # a process killed by a signal has a negative one


@contextlib.contextmanager
def command_line(words: Sequence[str]) -> Iterator[None]:
    """Replace the program's command line by ``words`` within the block; restore it and the environment afterwards."""
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
    if "torch" not in sys.modules:
        return
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
