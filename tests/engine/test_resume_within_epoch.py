"""A training that is stopped within an epoch, and the same command after it: the same weights and the same numbers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.engine.module import LocalizerModule

FEW = [*SMALL_RUN, "data.val_images=8", "data.test_images=4"]
BASE = [*FEW, "loader.batch_size=6", "trainer.log_every_n_steps=1", "method=has", "resume=true"]
"""Eight batches an epoch; HaS draws on the device, augmentation in the loader."""
WAYS = {
    "steps": ["checkpoint_every_steps=3"],
    "workers": ["checkpoint_every_steps=2", "loader.num_workers=1"],
    "buffers": ["checkpoint_every_steps=2", "method=c2am"],
    "accumulated": ["checkpoint_every_steps=1", "trainer.accumulate_grad_batches=3", "method=spg"],
}


def stopped(monkeypatch: pytest.MonkeyPatch, at: int, how: int) -> None:
    """Let a signal arrive in the training step with number ``at``, counted over all epochs."""
    plain, count = LocalizerModule.training_step, [0]

    def step(self, batch, batch_idx):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), how)
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(LocalizerModule, "training_step", step)


def assert_same(run: Path, whole: Path) -> None:
    found, expected = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (run, whole))
    assert found["global_step"] == expected["global_step"]
    assert all(torch.equal(value, found["state_dict"][key]) for key, value in expected["state_dict"].items())
    for name in ("metrics.csv", "steps.csv"):
        assert (run / name).read_text() == (whole / name).read_text(), name


@pytest.fixture(autouse=True)
def _ctrl_c_raises():
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("way", WAYS)
def test_killed_in_any_epoch_the_same_command_ends_alike(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    words = ["train", *BASE, *WAYS[way], f"data_dir={data_dir}"]
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    run = [*words, f"run_dir={tmp_path / 'run'}"]
    for at in (6, 11):  # in the first epoch; then, going on behind its step 3, in the second
        with monkeypatch.context() as patched:
            stopped(patched, at, signal.SIGINT)
            assert main(run) == 130
    assert main(run) == 0
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_sigterm_is_heard_when_the_step_is_kept(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", *BASE, f"data_dir={data_dir}"]
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    run = [*words, f"run_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patched:
        stopped(patched, 11, signal.SIGTERM)
        assert main(run) == 143
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 11
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert main(run) == 0
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_number_below_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "checkpoint_every_steps=0", f"run_dir={tmp_path / 'run'}"]) == 2
    assert "checkpoint_every_steps=0: expected a number from 1" in capsys.readouterr().err
