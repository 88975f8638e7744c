"""End-to-end runs of the command line on the built-in dataset."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import wandb

import wsol.engine.training
from tests import processes
from tests.conftest import SMALL_RUN
from wsol.callbacks.progress import EpochLines
from wsol.cli import main

BAD = [
    (["monitor=test/top1_error"], "nothing is chosen on the test split"),
    (["monitor=val/nope"], "unknown monitor 'val/nope'"),
    (["topk=[20]"], "20"),
    (["trainer.max_epochs=0"], "positive number of epochs"),
    (["memory_format=channels_first"], "memory_format=channels_first"),
    (["backbone=resnet81"], "did you mean 'resnet18'"),
    (["bakbone=vgg16"], "did you mean 'backbone'"),
    (["backbone.outputstride=8", "backbone=resnet18"], "did you mean 'backbone.output_stride'"),
    (["backbone=resnet18", "backbone.output_stride=5"], "output_stride"),
    (["backbone=resnet18", "backbone.weights=/nowhere/weights.pth"], "/nowhere/weights.pth"),
    (["backbone=timm", "backbone.name=no_such_net"], "no_such_net"),
    (["a b=1"], "a b=1"),
    (["seed=[1"], "seed"),
    (["seed=0,1"], "several values are several runs"),
    (["method=cam,acol"], "add -m"),
    (["seed=abc"], "seed"),
    (["optim.optimizer.lrr=1"], "did you mean 'optim.optimizer.lr'"),
    (["label_smoothing=1.5"], r"label_smoothing must lie in \[0, 1\)"),
    (["schedule=step", "schedule.every_epochs=0"], "schedule.every_epochs must be positive"),
    (["trainer.accelerator=abacus"], "accelerator"),
    (["+optim.groups.haed={lr: 2}"], "unknown parameter group 'haed'"),
    (["--config-dir", "/nowhere"], "/nowhere: no such folder"),
    (["--epochs", "3"], "--epochs"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_stops_before_training_with_one_message(wsol, capsys, tmp_path: Path, words, message) -> None:
    assert wsol("train", *words) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("config.yaml")), "a run that never began leaves no folder"


@pytest.mark.parametrize("data", ["cub", "ilsvrc", "tiny_imagenet", "folder"])
def test_a_missing_dataset_stops_before_training(wsol, capsys, data: str) -> None:
    assert wsol("train", f"data={data}", "data.root=/nowhere", small=False) == 2
    assert "/nowhere: no such folder" in capsys.readouterr().err


def test_a_run_leaves_a_complete_folder(finished_run: Path) -> None:
    for name in (
        "config.yaml",
        "metrics.csv",
        "results.json",
        "run.log",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    ):
        assert (finished_run / name).is_file(), name
    results = json.loads((finished_run / "results.json").read_text())
    assert {
        "versions",
        "git",
        "seed",
        "data",
        "localization",
        "classification",
        "protocols",
        "machine",
    } <= results.keys()
    assert results["data"]["splits"]["test"]["images"] == 24
    assert len(results["data"]["splits"]["test"]["fingerprint"]) == 64


def test_every_result_says_protocol_and_threshold_origin(finished_run: Path) -> None:
    rows = json.loads((finished_run / "results.json").read_text())["localization"]
    test = [row for row in rows if row["split"] == "test"]
    own = [row for row in test if row["maps"] == "localizer"]
    assert {(row["protocol"], row["threshold_origin"]) for row in own} == {
        ("cam2016", "fixed"),
        ("choe2020", "fullsup"),
        ("choe2020", "oracle"),
    }
    assert {row["maps"] for row in test} == {"localizer", "whole image", "centre box", "centre gaussian"}
    for row in rows:
        assert 0 <= row["gt_known_error"] <= 100
        if row["maps"] == "localizer":
            assert row["gt_known_error"] <= row["top5_error"] <= row["top1_error"] <= 100


def test_metrics_csv_has_a_row_for_each_epoch(finished_run: Path) -> None:
    with (finished_run / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {row["epoch"] for row in rows if row["train/loss"]} == {"0", "1"}
    assert all("val/cam2016/fixed/gt_known_error" in row for row in rows)


def test_the_table_shows_the_localizer_and_the_baselines(wsol, capsys) -> None:
    assert wsol("train") == 0
    out = capsys.readouterr().out
    for word in (
        "localizer",
        "whole image",
        "centre box",
        "centre gaussian",
        "cam2016",
        "choe2020",
        "oracle",
        "GT-known",
    ):
        assert word in out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_equal_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_the_same_command_gives_the_same_weights_for_any_number_of_workers(wsol) -> None:
    for name, workers in (("none", 0), ("two", 2)):
        assert wsol("train", f"run_dir={name}", f"loader.num_workers={workers}") == 0
    assert_equal_weights(Path("none"), Path("two"))


class Bomb(EpochLines):
    """Sends a signal to its process after a step of the training."""

    step, signal = 0, 0

    def on_train_batch_end(self, trainer, *rest) -> None:
        super().on_train_batch_end(trainer, *rest)
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.signal)


def place_bomb(step: int, number: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started with it ignored
    Bomb.step, Bomb.signal = step, number
    wsol.engine.training.EpochLines = Bomb


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run of four epochs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", *SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=4", f"run_dir={folder}"]) == 0
    return folder


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGINT", 130)])
def test_a_stopped_run_goes_on_and_ends_with_the_same_weights_bit_for_bit(
    tmp_path: Path, data_dir: Path, whole_run: Path, wsol, name: str, code: int
) -> None:
    common = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=4", "runs_dir=runs"]
    number = getattr(signal, name)
    stopped, said = processes.run(tmp_path, ["train", *common, "resume=true"], place_bomb, 8, number)
    assert stopped == code, said
    folders = list((tmp_path / "runs").rglob("config.yaml"))
    assert len(folders) == 1
    assert not (folders[0].parent / "results.json").exists()
    assert wsol("train", "trainer.max_epochs=4", "resume=true") == 0
    assert list((tmp_path / "runs").rglob("config.yaml")) == folders
    assert_equal_weights(whole_run, folders[0].parent)
    rows = list(csv.DictReader((folders[0].parent / "metrics.csv").open()))
    assert sorted({row["epoch"] for row in rows}) == ["0", "1", "2", "3"]


def test_a_finished_run_is_trained_longer_as_if_it_had_been_begun_so(wsol, tmp_path: Path) -> None:
    assert wsol("train", "schedule=constant", "trainer.max_epochs=3", "run_dir=whole") == 0
    assert wsol("train", "schedule=constant", "trainer.max_epochs=1", "run_dir=grown") == 0
    assert wsol("train", "schedule=constant", "trainer.max_epochs=3", "run_dir=grown", "resume=true") == 0
    assert_equal_weights(tmp_path / "whole", tmp_path / "grown")
    assert (tmp_path / "grown/metrics.csv").read_text() == (tmp_path / "whole/metrics.csv").read_text()
    whole, grown = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "grown"))
    assert [grown[key] for key in ("localization", "classification")] == [
        whole[key] for key in ("localization", "classification")
    ]
    assert (tmp_path / "grown/results-of-1-epochs.json").is_file()


def test_resuming_a_finished_run_prints_its_results(wsol, capsys) -> None:
    assert wsol("train") == 0
    capsys.readouterr()
    assert wsol("train", "resume=true") == 0
    captured = capsys.readouterr()
    assert "is finished" in captured.err
    assert "cam2016" in captured.out


def test_multirun_makes_one_run_for_each_combination(wsol) -> None:
    assert wsol("train", "-m", "seed=0,1", "method=cam", "trainer.max_epochs=1") == 0
    seeds = [json.loads(file.read_text())["seed"] for file in Path("runs").rglob("results.json")]
    assert sorted(seeds) == [0, 1]


def test_own_configs_are_added_with_config_dir(wsol, tmp_path: Path) -> None:
    (tmp_path / "mine" / "backbone").mkdir(parents=True)
    (tmp_path / "mine" / "backbone" / "narrow.yaml").write_text(
        "# A narrow one.\n_target_: wsol.backbones.tiny.Tiny\nwidths: [4, 8, 8, 8]\n"
    )
    assert wsol("train", "--config-dir", "mine", "backbone=narrow", "trainer.max_epochs=1", "run_dir=out") == 0
    assert json.loads(Path("out/results.json").read_text())["choices"]["backbone"] == "narrow"


def test_wandb_works_offline_without_an_account(wsol, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    wandb.teardown()  # it reads the variables once
    assert wsol("train", "logger=wandb", "trainer.max_epochs=1") == 2
    assert wsol("train", "-m", "seed=0,1", "logger=wandb", "logger.offline=true", "trainer.max_epochs=1") == 0
    offline = [path for path in Path("runs").rglob("offline-run-*") if path.is_dir()]
    assert len(offline) == 2
    assert all(list(folder.rglob("*.wandb")) for folder in offline)


def test_tensorboard_is_a_choice(wsol) -> None:
    assert wsol("train", "logger=tensorboard", "trainer.max_epochs=1", "run_dir=out") == 0
    assert list(Path("out").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["eval", "--help"], ["data", "verify", "--help"]])
def test_help_answers_within_a_second_without_torch(words: list[str]) -> None:
    code = f"import sys; from wsol.cli import main; main({words!r}); print('torch' in sys.modules)"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert time.perf_counter() - started < 5  # a loaded machine; `time wsol --help` shows about 0.3 s on an idle one
    if words != ["--help"]:
        assert "creatures" in done.stdout or "test" in done.stdout
