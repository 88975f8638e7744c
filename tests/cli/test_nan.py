"""A training that diverges."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy

from wsol.callbacks.progress import EpochLines
from wsol.engine import training
from wsol.engine.module import LocalizerModule


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as lines:
        return [float(row["train/loss"]) for row in csv.DictReader(lines) if row["train/loss"]]


def test_a_diverging_training_stops_and_says_where(wsol, capsys) -> None:
    assert wsol("train", "optim.optimizer.lr=1e12", "schedule=constant", "run_dir=run") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("wsol: error: epoch 1, step ")
    assert "learning rate 1e+12: the training loss or the weights are no longer finite numbers" in last
    assert not Path("run/results.json").exists()
    assert not list(Path("run/checkpoints").glob("*.ckpt"))


def test_it_goes_on_if_asked_and_the_loss_shows_the_truth(wsol) -> None:
    assert wsol("train", "optim.optimizer.lr=1e12", "schedule=constant", "on_nan=continue", "run_dir=run") == 0
    assert Path("run/results.json").exists()
    assert len(losses(Path("run"))) == 2
    assert not any(math.isfinite(loss) for loss in losses(Path("run")))


def test_another_answer_is_refused(wsol, capsys) -> None:
    assert wsol("train", "on_nan=stopp") == 2
    assert "on_nan=stopp: expected stop or continue" in capsys.readouterr().err


@pytest.mark.parametrize("bad", ["loss", "weights"])
def test_a_good_checkpoint_is_never_replaced_by_a_bad_one(
    wsol, capsys, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    step = LocalizerModule.training_step

    def diverge(self: LocalizerModule, batch, batch_idx: int) -> torch.Tensor:
        loss = step(self, batch, batch_idx)
        return loss * math.nan if self.trainer.global_step == 4 else loss

    class Spoil(EpochLines):
        def on_train_batch_end(self, trainer, module, *rest) -> None:
            super().on_train_batch_end(trainer, module, *rest)
            if trainer.global_step == 6:  # the last step of the second epoch: no loss shows it
                next(iter(module.parameters())).data.fill_(math.inf)

    assert wsol("train", "trainer.max_epochs=3", "run_dir=whole") == 0
    with monkeypatch.context() as patched:
        if bad == "loss":
            patched.setattr(LocalizerModule, "training_step", diverge)
        else:
            patched.setattr(training, "EpochLines", Spoil)
        capsys.readouterr()
        assert wsol("train", "trainer.max_epochs=3", "run_dir=run") == 1
    expected = {"loss": "epoch 2, step 4, learning rate ", "weights": "epoch 2, step 5, learning rate "}[bad]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"wsol: error: {expected}")
    assert last.endswith("run keeps checkpoints/last.ckpt and checkpoints/best.ckpt")
    for name in ("last", "best"):
        kept = torch.load(f"run/checkpoints/{name}.ckpt", weights_only=True)
        assert kept["global_step"] == 3
        assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())
    assert wsol("train", "trainer.max_epochs=3", "run_dir=run", "resume=true") == 0
    whole = weights(Path("whole"))
    assert all(torch.equal(value, whole[key]) for key, value in weights(Path("run")).items())


@pytest.mark.parametrize(("every", "looks"), [(50, 2), (2, 3)])
def test_the_host_looks_now_and_then_only(wsol, monkeypatch: pytest.MonkeyPatch, every: int, looks: int) -> None:
    asked = []
    reduce = SingleDeviceStrategy.reduce

    def count(self, tensor, *arguments, **how):
        if how.get("reduce_op") == "min":
            asked.append(tensor)
        return reduce(self, tensor, *arguments, **how)

    monkeypatch.setattr(SingleDeviceStrategy, "reduce", count)
    assert wsol("train", f"trainer.log_every_n_steps={every}", "trainer.max_epochs=1") == 0
    assert len(asked) == looks, "before validation, at the end of the epoch, and every so many of its three steps"
