"""What is said while a network trains, and what of it is written down."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import SMALL_RUN
from wsol.callbacks.progress_line import ProgressLine
from wsol.cli import main


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass only by `tick`."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds


def trainer(**values) -> SimpleNamespace:
    plain = {"world_size": 2, "is_global_zero": True, "num_training_batches": 100, "max_epochs": 3, "current_epoch": 1}
    more = {"accumulate_grad_batches": 1, "num_test_batches": [10, 30], "num_val_batches": [10]}
    return SimpleNamespace(**plain | more | values)


def train(line: ProgressLine, clock: Clock, batches: int, seconds: float, **values) -> None:
    line.on_train_epoch_start(trainer(**values), None)
    for i in range(batches):
        clock.tick(seconds)
        loss = torch.tensor(2.0 - i / 100)
        line.on_train_batch_end(trainer(**values), None, {"loss": loss}, SimpleNamespace(labels=[0] * 8), i)


def test_a_terminal_gets_one_line_that_renews_itself() -> None:
    stream, clock = Terminal(), Clock()
    line = ProgressLine(stream, clock)
    train(line, clock, 50, 0.25)
    lines = [part.rstrip() for part in stream.getvalue().split("\r") if part]
    assert len(lines) == 12, "every second"
    assert lines[-1] == "epoch 2/3   batch 48/100   loss 1.530   64 images/s   0:00:38 left"
    line.on_train_epoch_end(trainer(), None)
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_log_gets_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    stream, clock = io.StringIO(), Clock()
    logger = logging.getLogger("wsol")
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "wsol"):
        train(ProgressLine(stream, clock), clock, 50, 3.0)
        train(ProgressLine(stream, clock), clock, 50, 3.0, is_global_zero=False)
    logger.removeHandler(caplog.handler)
    said = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert [text.split("   ")[1] for text in said] == ["batch 20/100", "batch 40/100"]
    assert said[0].endswith("5.3 images/s   0:09:00 left")
    assert stream.getvalue() == ""


def test_evaluation_counts_over_all_its_loaders() -> None:
    stream, clock = Terminal(), Clock()
    line = ProgressLine(stream, clock)
    line.on_test_epoch_start(trainer(), None)
    for loader, i in ((0, 9), (1, 0)):
        clock.tick(2.0)
        line.on_test_batch_end(trainer(), None, None, SimpleNamespace(labels=[0] * 8), i, loader)
    assert stream.getvalue().split("\r")[-1].startswith("evaluation   batch 11/40   8.0 images/s   0:00:58 left")


def test_losses_of_single_steps_have_a_file_of_their_own(tmp_path: Path, data_dir: Path) -> None:
    words = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.log_every_n_steps=2", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0
    with (tmp_path / "run" / "steps.csv").open() as lines:
        steps = list(csv.DictReader(lines))
    with (tmp_path / "run" / "metrics.csv").open() as lines:
        epochs = list(csv.DictReader(lines))
    assert [(row["epoch"], row["step"]) for row in steps] == [("0", "1"), ("1", "3"), ("1", "5")]
    assert all(float(row["train/loss_step"]) > 0 for row in steps)
    assert not any("_step" in name for name in epochs[0])
    assert [row["step"] for row in epochs if row["train/loss"]] == ["2", "5"]
