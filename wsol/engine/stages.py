"""Verbs of several trainings (`wsol ae`, `wsol regress`): one run folder with a folder for each stage.

Stages with results are not computed again, so a stopped command continues with resume=true, within a training as `wsol
train` does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed
from omegaconf import DictConfig

from wsol import runs
from wsol.engine import training
from wsol.errors import InputError
from wsol.runs.results import read_results

log = logging.getLogger("wsol")


def run(config: DictConfig, verb: str, train: Callable[[Path], Path], complete: Callable[[Path], None]) -> Path:
    """Complete the stages under a composed config.

    Args:
        config: config of the verb, which is one of `wsol train` with more keys; it gets a name unless it has one.
        verb: the verb's name, which starts the name of the run.
        train: trains the stage of a folder. Processes that Lightning starts for a stage do only this.
        complete: does what remains to be done in the run folder, and writes results.json.

    Returns:
        The run folder; in processes that Lightning started, the folder of the stage.

    Raises:
        InputError: a value out of its range, or processes that were started externally.
    """
    if runs.started_from_outside():
        raise InputError(f"wsol {verb} starts its own processes: set trainer=ddp instead of using torchrun or srun")
    is_named = config.name is not None
    training.prepare(config)
    if not is_named:
        config.name = f"{verb}-{config.name}"
    if given := os.environ.get(runs.RUN_DIR_VARIABLE):
        return train(Path(given))
    folder, _ = runs.open_folder(config, may_grow=False)
    try:
        if not is_finished(folder):
            complete(folder)
    except InputError:
        runs.discard(folder)
        raise
    finally:
        runs.unlock(folder)
    return folder


def train_stage(train: Callable[[Path], Path], folder: Path, on_stage: Callable[[Path], None]) -> None:
    """Complete the training of a stage and call ``on_stage`` with its folder, unless it is finished."""
    if is_finished(folder):
        return
    log.info("training %s", folder.name)
    on_stage(train(folder))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # the next stage creates its own


def is_finished(folder: Path) -> bool:
    """Return whether a folder has results."""
    return (folder / "results.json").exists()


def results(folder: Path) -> dict[str, Any]:
    """Return the results of a finished stage."""
    return read_results(folder / "results.json")
