"""The config groups `callbacks` and `debug`: early stopping, averaged weights, any Lightning callback, one batch."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.config.compose import compose
from wsol.engine import split_results
from wsol.engine.module import LocalizerModule
from wsol.engine.training import run
from wsol.errors import InputError


def saved(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


# -- the average of the weights ----------------------------------------------------------------------------------------


class Watch(pl.Callback):
    """Keeps the network's values after each step, and those that validation sees."""

    def __init__(self) -> None:
        self.steps: list[dict] = []
        self.validated: list[dict] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.steps.append({key: value.clone() for key, value in pl_module.state_dict().items()})

    def on_train_batch_end(self, trainer, pl_module, *of_batch) -> None:
        self.steps.append({key: value.clone() for key, value in pl_module.state_dict().items()})

    def on_validation_batch_end(self, trainer, pl_module, *of_batch) -> None:
        self.validated.append({key: value.clone() for key, value in pl_module.state_dict().items()})


def test_the_average_is_what_is_validated_saved_and_evaluated(tmp_path: Path, data_dir: Path) -> None:
    words = [*SMALL_RUN, f"data_dir={data_dir}", "callbacks=[ema]", "callbacks.ema.decay=0.4", "monitor=null"]
    config = compose("train", [*words, f"run_dir={tmp_path / 'run'}"])
    watch = Watch()
    run(config, callbacks=[watch])
    average = {key: value.double() for key, value in watch.steps[0].items()}
    averages = []
    for t, weights in enumerate(watch.steps[1:], start=1):
        decay = min(0.4, (1 + t) / (10 + t))
        for key, value in weights.items():
            average[key] = decay * average[key] + (1 - decay) * value if value.is_floating_point() else value.double()
        averages.append({key: value.clone() for key, value in average.items()})
    assert len(averages) == 6
    last = saved(tmp_path / "run")
    for seen, expected in ((watch.validated[0], averages[2]), (last["state_dict"], averages[5])):
        for key, value in expected.items():
            assert torch.allclose(seen[key].double(), value, atol=1e-5), key
    assert all(torch.equal(value, last["training_state_dict"][key]) for key, value in watch.steps[-1].items())
    key = next(key for key, value in last["state_dict"].items() if value.is_floating_point() and value.ndim > 1)
    assert not torch.equal(last["state_dict"][key], last["training_state_dict"][key])
    out = tmp_path / "evaluated"
    assert main(["eval", f"run={tmp_path / 'run'}", f"out={out}", "trainer.accelerator=cpu"]) == 0
    found, expected = (
        [row for row in json.loads((folder / "results.json").read_text())["localization"] if row["maps"] == "localizer"]
        for folder in (out, tmp_path / "run")
    )
    assert [row for row in found if row["split"] == "test"] == [row for row in expected if row["split"] == "test"] != []


def test_a_training_with_an_average_that_is_stopped_goes_on_exactly(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = ["checkpoint_every_steps=1", "callbacks=[ema]", "callbacks.ema.decay=0.5", "callbacks.ema.every_n_steps=2"]
    some = ["loader.batch_size=6", "trainer.accumulate_grad_batches=2", "resume=true"]
    words = ["train", *SMALL_RUN, f"data_dir={data_dir}", *every, *some]
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patched:
        plain, count = LocalizerModule.training_step, [0]

        def step(self, batch, batch_idx):
            count[0] += 1
            if count[0] == 12:  # the second epoch, an odd optimizer step behind the last update
                os.kill(os.getpid(), signal.SIGINT)
            return plain(self, batch, batch_idx)

        patched.setattr(LocalizerModule, "training_step", step)
        assert main([*words, f"run_dir={tmp_path / 'run'}"]) == 130
    signal.signal(signal.SIGINT, handler)
    assert main([*words, f"run_dir={tmp_path / 'run'}"]) == 0
    found, expected = saved(tmp_path / "run"), saved(tmp_path / "whole")
    for state in ("state_dict", "training_state_dict"):
        assert all(torch.equal(value, found[state][key]) for key, value in expected[state].items()), state
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


# -- early stopping ----------------------------------------------------------------------------------------------------


def test_early_stopping_ends_a_training_and_a_resumed_one_goes_no_further(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_better = ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1000"]
    words = [*SMALL_RUN, f"data_dir={data_dir}", "callbacks=[early_stopping]", *never_better]
    words = ["train", *words, "trainer.max_epochs=5", "resume=true", f"run_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patched:
        patched.setattr(split_results, "evaluate", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(words) == 130
    before = saved(tmp_path / "run")
    assert main(words) == 0
    assert len([row for row in rows(tmp_path / "run") if row["train/loss"]]) == 2
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["epochs"] == 2
    assert all(
        torch.equal(value, saved(tmp_path / "run")["state_dict"][k]) for k, value in before["state_dict"].items()
    )
    assert "has not been better than" in (tmp_path / "run" / "run.log").read_text()


# -- any callback ------------------------------------------------------------------------------------------------------


def test_several_callbacks_of_lightning_listen_at_once(tmp_path: Path, data_dir: Path) -> None:
    timer = ["callbacks.timer._target_=pytorch_lightning.callbacks.Timer", "callbacks.timer.duration=01:00:00:00"]
    words = [*SMALL_RUN, f"data_dir={data_dir}", "callbacks=[lr_monitor]", *timer, f"run_dir={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0
    assert any(float(row["lr/head"] or 0) > 0 for row in rows(tmp_path / "run"))
    assert "Timer" in saved(tmp_path / "run")["callbacks"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["callbacks=[ema]", "callbacks.ema.decya=0.5"], "callbacks.ema: WeightAverage takes no 'decya'; did you mean"),
        (["callbacks=[ema]", "callbacks.ema.decay=1"], r"callbacks.ema: expected decay in \[0, 1\)"),
        (["callbacks=[early_stopping]", "monitor=null"], "early_stopping.monitor=null: expected a metric of the val"),
        (
            ["callbacks=[early_stopping]", "callbacks.early_stopping.monitor=test/top1_error"],
            "callbacks.early_stopping: .*nothing is chosen on the test split",
        ),
        (
            ["callbacks=[early_stopping]", "callbacks.early_stopping.monitor=val/top_error"],
            "callbacks.early_stopping: .*did you mean .*'val/top1_error'",
        ),
        (["callbacks.net._target_=torch.nn.ReLU"], "callbacks.net: expected a Lightning callback, got ReLU"),
    ],
)
def test_what_cannot_work_is_one_clear_error(words: list[str], message: str, tmp_path: Path, data_dir: Path) -> None:
    config = compose("train", [*SMALL_RUN, f"data_dir={data_dir}", f"run_dir={tmp_path / 'run'}", *words])
    with pytest.raises(InputError, match=message):
        run(config)
    assert not (tmp_path / "run").exists()


# -- debug -------------------------------------------------------------------------------------------------------------


def test_debug_takes_one_batch_of_two_epochs_on_the_cpu(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["data.train_images=48", "data.val_images=16", "data.test_images=24", "data.size=32", "image_size=32"]
    assert main(["train", "debug=default", *small, "loader.batch_size=16", f"data_dir={data_dir}"]) == 0
    (file,) = Path("runs/debug").glob("*/*/results.json")
    assert saved(file.parent)["global_step"] == 2
    config = compose("train", ["debug=default", "trainer.max_epochs=3"])
    assert (config.trainer.max_epochs, config.trainer.limit_val_batches, config.trainer.accelerator) == (3, 1, "cpu")
