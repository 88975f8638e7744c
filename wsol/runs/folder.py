"""Run folders: one folder holds everything a run leaves behind.

::

    config.yaml     the resolved config            results.json   what was measured, and under what
    checkpoints/    last, previous, best           metrics.csv    values by epoch
    run.log         what was said                  verdicts.npz   what was found of each image
    pictures.png    some judged images
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from wsol.errors import InputError
from wsol.files import atomic_file
from wsol.runs.register import KEY_FILE
from wsol.runs.run_lock import LOCK_FILE, OWNER_FILE, remove_abandoned, unlock

RUN_DIR_VARIABLE = "WSOL_RUN_DIR"
"""Tells the other processes of a distributed run which folder the first one made."""


def is_first_process() -> bool:
    """Whether this is the first of the processes that Lightning, torchrun or srun started, by their variables."""
    return not any(int(os.environ.get(name) or 0) for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def started_from_outside() -> bool:
    """Whether this is one of several processes of a run that torchrun, srun, or the user on each node, started."""
    several = any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    return RUN_DIR_VARIABLE not in os.environ and (several or "NODE_RANK" in os.environ)


def shared_folder(parent: Path) -> Path | None:
    """The folder that all processes started by srun agree on, ``slurm-<job>-<step>``; None for a process of its own.

    Raises:
        InputError: nothing that torchrun tells its processes names a folder.
    """
    if not started_from_outside():
        return None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return parent / f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    raise InputError(
        "processes started by torchrun, or on several nodes, must agree on a folder: give run_dir=... (wsol eval: "
        "out=...), the same to all"
    )


def new_folder(runs_dir: Path, name: str) -> Path:
    """Make and return ``<runs_dir>/<name>/<date>_<time>``, with a number behind it where that is taken.

    Processes started by srun share one, see `shared_folder`.
    """
    if shared := shared_folder(runs_dir / name):
        shared.mkdir(parents=True, exist_ok=True)
        return shared
    remove_abandoned(runs_dir / name)
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"_{n}" for n in range(1, 1000))):
        folder = runs_dir / name / f"{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise InputError(f"{runs_dir / name}: a thousand runs of the same second; choose run_dir")


@contextlib.contextmanager
def announced(folder: Path) -> Iterator[None]:
    """Tell processes started meanwhile which folder this run has; the environment is as before afterwards."""
    before = dict(os.environ)
    os.environ[RUN_DIR_VARIABLE] = str(folder.resolve())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def discard(folder: Path) -> None:
    """Remove what a run that never began left in its folder; a folder with anything else in it is left alone."""
    there = {file.name for file in folder.rglob("*") if file.is_file()}
    if there <= {"config.yaml", KEY_FILE, LOCK_FILE, OWNER_FILE, "run.log", "metrics.csv"}:
        unlock(folder)
        shutil.rmtree(folder, ignore_errors=True)  # another process of the run may have been quicker


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_config(folder: Path, config: DictConfig) -> None:
    """Record the resolved config."""
    write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))


class _LogFile(logging.FileHandler):
    """A log file that a full disk cuts short, instead of a stack trace on the screen for each line."""

    sets_level = False
    """Whether the package's logger has its level from `start_log`."""

    def __init__(self, file: Path, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.screen = logging.StreamHandler(sys.stderr)
        """Shows the lines where nothing else does."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report any other error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, even if the rest of it cannot be written."""
        with contextlib.suppress(OSError):
            super().close()


def start_log(folder: Path) -> logging.Handler:
    """Send what the package and Lightning say to ``run.log`` too; returns the handler, to be closed by `stop_log`.

    Where nobody has said what becomes of log lines, as in a notebook, they are shown on standard error meanwhile.
    """
    handler = _LogFile(folder / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    own = logging.getLogger(LOGGERS[0])
    if own.level == logging.NOTSET and is_first_process():
        if not own.hasHandlers():
            own.addHandler(handler.screen)
        own.setLevel(logging.INFO)
        handler.sets_level = True
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    return handler


def stop_log(handler: logging.Handler) -> None:
    """Close the log file, also after an error, and leave the loggers as they were."""
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(handler)
    if isinstance(handler, _LogFile) and handler.sets_level:
        logging.getLogger(LOGGERS[0]).removeHandler(handler.screen)
        logging.getLogger(LOGGERS[0]).setLevel(logging.NOTSET)
    handler.close()


LOGGERS = ("wsol", "pytorch_lightning", "py.warnings")
