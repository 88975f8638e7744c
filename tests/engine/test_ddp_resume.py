"""Two processes that are stopped within an epoch, and the same command after it: the same weights and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SMALL_RUN
from tests.engine.ddp_worker import free_port, run_commands, stop_and_go_on, together
from tests.engine.test_resume_within_epoch import assert_same

WORLD = 2
BASE = [*SMALL_RUN, "loader.batch_size=6", "trainer=ddp", f"trainer.devices={WORLD}", "trainer.log_every_n_steps=1"]
"""Eight batches an epoch, of three images for each process."""
WAYS = {
    "has": ["method=has", "checkpoint_every_steps=3"],
    "averaged": ["callbacks=[ema]", "checkpoint_every_steps=1", "trainer.accumulate_grad_batches=3"],
}


@pytest.mark.parametrize("way", ["has", pytest.param("averaged", marks=pytest.mark.slow)])
def test_stopped_in_any_epoch_the_same_command_ends_alike(tmp_path: Path, data_dir: Path, way: str) -> None:
    words = ["train", *BASE, *WAYS[way], f"data_dir={data_dir}", "resume=true"]
    folders = {name: tmp_path / name for name in ("whole", "run")}
    for folder in folders.values():
        (folder / "log").mkdir(parents=True)
    whole, run = ([*words, f"run_dir={folder / 'run'}"] for folder in folders.values())
    wait_whole = together(WORLD, folders["whole"] / "log", run_commands, WORLD, free_port(), [whole])
    wait_whole()
    together(WORLD, folders["run"] / "log", stop_and_go_on, WORLD, free_port(), run, (6, 11))()
    assert_same(folders["run"] / "run", folders["whole"] / "run")
