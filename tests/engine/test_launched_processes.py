"""Which processes train: as many as the trainer says, whatever a launcher has in the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.config import build
from wsol.config.compose import compose
from wsol.data.module import Loader
from wsol.errors import InputError

ALLOCATION = {
    "SLURM_JOB_ID": "77",
    "SLURM_NTASKS": "4",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_NNODES": "1",
    "SLURM_JOB_NAME": "jupyter",
    "SLURM_NODELIST": "localhost",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_PROCID": "0",
}
"""A batch script or a notebook in an allocation of four tasks; srun started none of them."""
STEP = {**ALLOCATION, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}
"""The first of four tasks that srun started."""
ONE_TASK = {**ALLOCATION, "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_STEP_NUM_TASKS": "1"}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "GROUP_RANK": "0",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_WORLD_SIZE": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29400",
}


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """Set the variables of a launcher; all that Lightning sets in answer is taken back, the process group too."""
    before = dict(os.environ)
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    yield os.environ.update
    os.environ.clear()
    os.environ.update(before)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("choice", "variables"), [("default", ALLOCATION), ("ddp", ALLOCATION), ("slurm", ONE_TASK)], ids=str
)
def test_one_process_of_an_allocation_trains_to_the_same_weights(
    choice: str, variables: dict, placed: Callable, finished_run: Path, tmp_path: Path, data_dir: Path
) -> None:
    placed(variables)
    words = [*SMALL_RUN, f"data_dir={data_dir}", f"trainer={choice}", "trainer.devices=1"]
    assert main(["train", *words, f"run_dir={tmp_path / 'run'}"]) == 0
    found, expected = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (tmp_path / "run", finished_run)
    )
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    out = tmp_path / "evaluated"
    words = [f"run={tmp_path / 'run'}", f"out={out}", "trainer.accelerator=cpu", "num_workers=0"]
    assert main(["eval", *words]) == 0
    assert (out / "results.json").is_file()


def test_several_devices_of_an_allocation_are_started_by_the_program_itself(placed: Callable) -> None:
    placed(ALLOCATION)
    config = compose("train", ["trainer=ddp", "trainer.devices=4", "trainer.accelerator=cpu"])
    place = build.build_trainer(config.trainer, logger=False).strategy.cluster_environment
    assert isinstance(place, LightningEnvironment)
    assert not place.creates_processes_externally


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        (["trainer=default"], STEP, "srun started 4 processes, .*: use trainer=slurm, or start one process only"),
        (["trainer=ddp", "trainer.devices=4"], STEP, "srun started 4 processes, .*: use trainer=slurm"),
        (["trainer=default"], TORCHRUN, "torchrun started 4 processes, .*: use trainer=torchrun"),
        (["trainer=slurm"], {**ALLOCATION, "SLURM_NTASKS_PER_NODE": "4"}, "takes 4 processes started by srun .* 1:"),
        (["trainer=slurm", "trainer.devices=1"], {**ALLOCATION, "SLURM_NTASKS_PER_NODE": "4"}, "does not match"),
    ],
)
def test_processes_that_the_trainer_did_not_ask_for_are_refused(
    words: list[str], variables: dict, message: str, placed: Callable
) -> None:
    placed(variables)
    config = compose("train", [*words, "trainer.accelerator=cpu"])
    with pytest.raises(InputError, match=message):
        build.build_trainer(config.trainer, logger=False)


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_processes_that_cannot_hand_back_results_are_refused(strategy: str) -> None:
    words = [f"trainer.strategy={strategy}", "trainer.devices=2", "trainer.accelerator=cpu"]
    with pytest.raises(InputError, match=r"trainer\.strategy=ddp, which starts the command again"):
        build.build_trainer(compose("train", words).trainer, logger=False)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_loading_processes_may_be_started_in_any_way(
    method: str, finished_run: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Loader.__init__

    def started_so(self, *given, **settings) -> None:
        plain(self, *given, **settings, multiprocessing_context=method)

    monkeypatch.setattr(Loader, "__init__", started_so)
    words = [*SMALL_RUN, f"data_dir={data_dir}", "loader.num_workers=1", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0
    found, expected = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (tmp_path / "run", finished_run)
    )
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_the_warning_of_slurm_is_heard_where_slurm_started_the_process(placed: Callable) -> None:
    placed(ONE_TASK)
    trainer = build.build_trainer(compose("train", ["trainer=slurm", "trainer.accelerator=cpu"]).trainer, logger=False)
    assert isinstance(trainer._accelerator_connector.cluster_environment, SLURMEnvironment)
