"""Run folders: one folder contains everything that a run writes.

::

    config.yaml         the resolved config
    checkpoints/        last, previous, best
    run.log             log messages
    metrics.csv         values by epoch
    steps.csv           values by step
    results.json        results, and their settings
    image_results.npz   results of each image
    pictures.png        some evaluated images
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
"""Environment variable with the folder that the first process of a distributed run created, for the others."""
LOGGERS = ("wsol", "pytorch_lightning", "py.warnings")
"""Loggers whose messages are in ``run.log``."""


def is_first_process() -> bool:
    """Return whether this is the first process that Lightning, torchrun or srun started, by their variables."""
    return not any(int(os.environ.get(name) or 0) for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def started_from_outside() -> bool:
    """Return whether this is one of several processes that torchrun, srun, or the user on each node started."""
    several = any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    return RUN_DIR_VARIABLE not in os.environ and (several or "NODE_RANK" in os.environ)


def shared_folder(parent: Path) -> Path | None:
    """Return the folder that all processes started by srun share, ``slurm-<job>-<step>``; None for a single process.

    Raises:
        InputError: torchrun gives its processes nothing that names a folder.
    """
    if not started_from_outside():
        return None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return parent / f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    raise InputError(
        "processes started by torchrun, or on several nodes, must agree on a folder: set run_dir=... (wsol eval: "
        "out=...) to the same value in all"
    )


def new_folder(runs_dir: Path, name: str) -> Path:
    """Create and return ``<runs_dir>/<name>/<date>_<time>``, with a number appended if it exists.

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
    raise InputError(f"{runs_dir / name}: a thousand runs in the same second; choose run_dir")


@contextlib.contextmanager
def announced(folder: Path) -> Iterator[None]:
    """Tell processes started inside the block which folder this run has; the environment is restored afterwards."""
    before = dict(os.environ)
    os.environ[RUN_DIR_VARIABLE] = str(folder.resolve())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def discard(folder: Path) -> None:
    """Remove the files that a run that never began left in its folder; a folder with other content is left alone."""
    there = {file.name for file in folder.rglob("*") if file.is_file()}
    if there <= {"config.yaml", KEY_FILE, LOCK_FILE, OWNER_FILE, "run.log", "metrics.csv"}:
        unlock(folder)
        shutil.rmtree(folder, ignore_errors=True)  # another process of the run may have been faster


def write_text(file: Path, text: str) -> None:
    """Write a file completely or not at all."""
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_config(folder: Path, config: DictConfig) -> None:
    """Record the resolved config."""
    write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))


class _LogFile(logging.FileHandler):
    """A log file that a full disk cuts short, instead of printing a stack trace for each line."""

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
    """Also write the messages of the package and of Lightning to ``run.log``; returns the handler, for `stop_log`.

    If logging is not configured, as in a notebook, the package's messages are shown on standard error meanwhile.
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
