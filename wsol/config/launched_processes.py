"""Processes that a launcher started, held against those that a trainer asks for."""

from __future__ import annotations

import os

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from wsol.errors import InputError

LAUNCHERS = {"torchrun": ("TORCHELASTIC_RUN_ID", "WORLD_SIZE"), "srun": ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS")}
"""By launcher: the variable that identifies its processes, and the one with their number."""


def check_processes(trainer: pl.Trainer) -> None:
    """Refuse to train in processes that a launcher started and the trainer knows nothing of, or the other way round.

    Raises:
        InputError: what to do instead.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise InputError(
            "trainer.strategy: processes that are spawned or forked cannot hand back what they measure; use "
            "trainer.strategy=ddp, which starts the command again for each device"
        )
    wanted = trainer.num_devices * trainer.num_nodes
    place = trainer._accelerator_connector.cluster_environment
    used = {TorchElasticEnvironment: "torchrun", SLURMEnvironment: "srun"}.get(type(place))
    for launcher, (mark, number) in LAUNCHERS.items():
        started = int(os.environ.get(number) or 1) if mark in os.environ else 1
        if started > 1 and used is None:
            raise InputError(
                f"{launcher} started {started} processes, but this trainer starts its processes itself: use "
                f"trainer={'slurm' if launcher == 'srun' else launcher}, or start one process only"
            )
        if used == launcher and started != wanted:
            raise InputError(
                f"the trainer takes {wanted} processes started by {launcher} ({trainer.num_devices} on each of "
                f"{trainer.num_nodes} nodes), but {launcher} started {started}: start as many by {launcher}, or use "
                "trainer=default for one process"
            )
        if started > 1:
            return
