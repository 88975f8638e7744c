"""What is said while a network trains, and what of it is written down."""

from __future__ import annotations

import csv
import io
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import SMALL_RUN
from wsol.callbacks.progress_line import ProgressLine
from wsol.cli import main
from wsol.config.compose import compose
from wsol.engine.training import run
from wsol.interop.image_file import write_png


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
    assert re.search(r"\r +\r$", stream.getvalue())


def test_a_notebook_gets_the_same_line_without_escape_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel))
    stream, clock = io.StringIO(), Clock()
    line = ProgressLine(stream, clock)
    train(line, clock, 8, 0.25)
    line.on_train_epoch_end(trainer(), None)
    text = stream.getvalue()
    assert text.split("\r")[1].startswith("epoch 2/3   batch 4/100   loss 1.970")
    assert re.search(r"\r +\r$", text)
    assert "\x1b" not in text


def test_a_terminal_without_control_characters_gets_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream, clock = Terminal(), Clock()
    train(ProgressLine(stream, clock), clock, 50, 3.0)
    assert stream.getvalue() == ""


def test_files_get_no_control_characters(tmp_path: Path, data_dir: Path, finished_run: Path, capfd) -> None:
    words = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0
    write_png(tmp_path / "photos" / "a.png", np.zeros((40, 30, 3), np.uint8))
    assert main(["predict", f"run={finished_run}", f"images={tmp_path / 'photos'}", f"out={tmp_path / 'out'}"]) == 0
    assert main(["train", "misspelt=1"]) == 2
    for text in (*capfd.readouterr(), (tmp_path / "run" / "run.log").read_text()):
        assert text
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def test_a_script_or_notebook_sees_what_a_training_says_and_so_does_its_log(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    logger = logging.getLogger("wsol")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", False)  # what pytest listens to
    logger.setLevel(logging.NOTSET)
    words = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}"]
    run(compose("train", words))
    said, written = capsys.readouterr().err, (tmp_path / "run" / "run.log").read_text()
    for text in (said, written):
        assert "epoch  1/1   loss" in text
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)


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
