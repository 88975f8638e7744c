"""Which run a config stands for, who may write it, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.config import build
from wsol.errors import InputError
from wsol.runs import identity, run_lock
from wsol.runs.register import KEY_FILE, Register, read_run, record, record_data

SCHEDULE = {"_target_": "wsol.engine.optim.constant", "_partial_": True}
DATA = {"_target_": "x.Y", "root": "data/a"}


def config(top: Path, **changes: Any) -> DictConfig:
    base = {
        "name": "n",
        "seed": 0,
        "runs_dir": str(top),
        "run_dir": None,
        "resume": True,
        "logger": None,
        "choices": {"logger": "csv"},
        "loader": {"batch_size": 64, "num_workers": 0},
        "trainer": {"max_epochs": 5},
        "schedule": SCHEDULE,
        "data": DATA,
    }
    return OmegaConf.create({**base, **changes})


@pytest.fixture(autouse=True)
def _let_go():
    yield
    for place in list(run_lock._held):
        runs.unlock(place)


def begun(folder: Path, asked: DictConfig) -> Path:
    """A run that recorded its config, and that no process has any more."""
    folder.mkdir(parents=True)
    record(folder, asked)
    return folder


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture):
    import logging

    logger = logging.getLogger("wsol")
    before, logger.propagate = logger.propagate, True
    caplog.set_level(logging.INFO, "wsol")
    yield lambda: caplog.text
    logger.propagate = before


NO_OTHER_RUN = [
    {"loader": {"batch_size": 64, "num_workers": 3, "pin_memory": True}},
    {"trainer": {"max_epochs": 5, "accelerator": "cpu", "strategy": "ddp", "enable_progress_bar": False}},
    {"name": "another", "choices": {"experiment": "x"}, "logger": {"project": "p"}},
    {"data_dir": "/elsewhere", "memory_format": "channels_last"},
]


@pytest.mark.parametrize("changes", NO_OTHER_RUN, ids=lambda d: next(iter(d)))
def test_what_changes_no_result_makes_no_other_run(tmp_path: Path, changes: dict) -> None:
    run = begun(tmp_path / "a", config(tmp_path))
    assert runs.open_folder(config(tmp_path, **changes)) == (run, True)
    assert runs.open_folder(config(tmp_path, run_dir=str(run), **changes)) == (run, True)


def test_without_a_run_of_this_config_the_nearest_and_its_values_are_named(tmp_path: Path, said) -> None:
    begun(tmp_path / "far", config(tmp_path, seed=9, loader={"batch_size": 1}))
    begun(tmp_path / "near", config(tmp_path))
    folder, resuming = runs.open_folder(config(tmp_path, loader={"batch_size": 32, "num_workers": 0}))
    assert not resuming
    assert folder.parent.name == "n"
    assert f"no run with this config in {tmp_path}; starting a new one" in said()
    assert f"the nearest, {tmp_path / 'near'}, differs: loader.batch_size: 64 -> 32" in said()


def test_a_named_run_of_another_config_is_refused_with_keys_values_and_a_way_out(tmp_path: Path) -> None:
    run = begun(tmp_path / "a", config(tmp_path))
    for name in ({"run_dir": str(run)}, {"resume": str(run)}):
        with pytest.raises(InputError, match=r"loader.batch_size: 64 -> 32, seed: 0 -> 1\. .*backbone") as error:
            runs.open_folder(config(tmp_path, seed=1, loader={"batch_size": 32}, **name))
        assert "num_workers" not in str(error.value)


# -- longer ------------------------------------------------------------------------------------------------------------

LONGER = [
    ("constant", {}, True),
    ("constant", {"warmup_epochs": 1.0}, True),
    ("step", {"every_epochs": 2.0, "gamma": 0.1}, True),
    ("milestones", {"epochs": [1, 3, 7], "gamma": 0.1}, True),
    ("one_cycle", {}, False),
    ("cosine", {}, False),
    ("polynomial", {}, False),
]


@pytest.mark.parametrize(("name", "arguments", "may"), LONGER, ids=[each[0] for each in LONGER])
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_grows_where_its_learning_rates_stay(tmp_path: Path, name: str, arguments: dict, may, finished) -> None:
    schedule = {"_target_": f"wsol.engine.optim.{name}", "_partial_": True, **arguments}
    run = begun(tmp_path / "a", config(tmp_path, schedule=schedule))
    if finished:
        (run / "results.json").write_text(GOOD)
    asked = config(tmp_path, schedule=schedule, trainer={"max_epochs": 8}, run_dir=str(run))
    if may:
        assert runs.open_folder(asked) == (run, True)
        assert not (run / "results.json").exists()
        assert (run / "results-of-5-epochs.json").exists() == finished
        assert read_run(run).config["trainer.max_epochs"] == 8
    else:
        with pytest.raises(InputError, match=r"max_epochs: 5 -> 8; the learning rates depend.*backbone\.weights="):
            runs.open_folder(asked)
        assert (run / "results.json").exists() == finished
        assert read_run(run).config["trainer.max_epochs"] == 5


def test_a_run_is_not_made_shorter_nor_longer_where_it_is_not_named(tmp_path: Path, said) -> None:
    run = begun(tmp_path / "a", config(tmp_path))
    with pytest.raises(InputError, match="longer, not shorter"):
        runs.open_folder(config(tmp_path, trainer={"max_epochs": 3}, run_dir=str(run)))
    with pytest.raises(InputError, match="rounds are already trained"):
        runs.open_folder(config(tmp_path, trainer={"max_epochs": 8}, run_dir=str(run)), may_grow=False)
    assert runs.open_folder(config(tmp_path, trainer={"max_epochs": 8}))[1] is False
    assert f"resume={run}" in said(), "how to go on with it is said"


GOOD = json.dumps({"localization": [], "classification": {}, "data": {"splits": {}}})


def test_a_finished_run_is_taken_as_it_is_and_unreadable_results_are_measured_again(tmp_path: Path, said) -> None:
    run = begun(tmp_path / "a", config(tmp_path))
    (run / "results.json").write_text(GOOD)
    assert runs.open_folder(config(tmp_path)) == (run, True)
    assert (run / "results.json").exists()
    (run / "results.json").write_text("{")
    assert runs.open_folder(config(tmp_path)) == (run, True)
    assert not (run / "results.json").exists()
    assert (run / "results-unreadable.json").read_text() == "{"
    assert "results.json: corrupt" in said()


# -- data --------------------------------------------------------------------------------------------------------------


class Source:
    def __init__(self, fingerprint: str) -> None:
        self.splits, self._fingerprint = ("train", "test"), fingerprint

    def split(self, name: str) -> Source:
        return self

    def fingerprint(self) -> str:
        return self._fingerprint


def test_moved_data_is_the_same_run_and_other_data_another(tmp_path: Path, monkeypatch, said) -> None:
    monkeypatch.setattr(build, "build_source", lambda config: Source({"data/b": "1", "data/c": "2"}[config.data.root]))
    run = begun(tmp_path / "a", config(tmp_path))
    moved, other = ({"data": {**DATA, "root": root}} for root in ("data/b", "data/c"))
    assert runs.open_folder(config(tmp_path, **moved))[1] is False, "no fingerprint is known yet"
    for folder in {each.folder for each in Register(tmp_path).runs} - {run}:
        runs.discard(folder)
    record_data(run, {"train": "1", "test": "1"})
    assert runs.open_folder(config(tmp_path, **moved)) == (run, True)
    record(run, config(tmp_path))  # its data is still known
    assert runs.open_folder(config(tmp_path, run_dir=str(run), **moved)) == (run, True)
    with pytest.raises(InputError, match=r"data.root: data/b -> data/c"):
        runs.open_folder(config(tmp_path, run_dir=str(run), **other))
    assert runs.open_folder(config(tmp_path, **other))[1] is False
    assert "differs: data.root: data/b -> data/c" in said()
    with pytest.raises(InputError, match=r"began with other data.*train"):
        record_data(run, {"train": "2", "test": "1"})


def test_the_same_folder_by_another_path_needs_no_fingerprint(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = begun(tmp_path / "a", config(tmp_path))
    absolute = {**DATA, "root": str(tmp_path / "data" / "x" / ".." / "a")}
    assert runs.open_folder(config(tmp_path, data=absolute)) == (run, True)


def test_a_config_edited_by_hand_counts_as_edited(tmp_path: Path) -> None:
    run = begun(tmp_path / "a", config(tmp_path))
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("batch_size: 64", "batch_size: 16"))
    assert read_run(run).config["loader.batch_size"] == 16
    for damage in ("", "[" * 100_000, '{"version": 1}', '{"version": 1, "config": 5, "data": 5, "config_sha256": 5}'):
        (run / KEY_FILE).write_text(damage)
        assert read_run(run).config["loader.batch_size"] == 16


# -- one writer --------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from wsol import runs
runs.lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(120)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """A run that another process trains."""
    run = begun(tmp_path / "a", config(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield run, process
    process.kill()
    process.wait()


def test_a_second_process_is_told_who_trains_the_run_and_kill_9_frees_it(tmp_path: Path, holder, monkeypatch) -> None:
    run, process = holder
    for words in ({}, {"run_dir": str(run)}, {"resume": str(run)}):
        with pytest.raises(runs.RunInUse, match=rf"another process \(pid {process.pid}, .*\) is training this run"):
            runs.open_folder(config(tmp_path, **words))
    assert [each.folder for each in Register(tmp_path).runs] == [run], "no second run was begun"
    with monkeypatch.context() as child:  # of that very run, started by Lightning
        child.setenv(runs.RUN_DIR_VARIABLE, str(run))
        assert runs.open_folder(config(tmp_path)) == (run, True)
    with monkeypatch.context() as rank:
        rank.setenv("RANK", "1")
        assert runs.open_folder(config(tmp_path, run_dir=str(run))) == (run, True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert runs.open_folder(config(tmp_path)) == (run, True)


def test_a_lock_is_let_go_and_is_nothing_foreign(tmp_path: Path) -> None:
    folder, _ = runs.open_folder(config(tmp_path, resume=False))
    runs.open_folder(config(tmp_path, run_dir=str(folder)))  # the same process
    owner = json.loads((folder / run_lock.OWNER_FILE).read_text())
    assert owner["pid"] == os.getpid()
    runs.discard(folder)
    assert not folder.exists()


def test_where_files_cannot_be_locked_that_is_said_once(tmp_path: Path, monkeypatch, said) -> None:
    class NoLocks:
        def acquire(self, **_) -> None:
            raise OSError(38, "Function not implemented")

        def release(self) -> None:
            """Nothing is held."""

    monkeypatch.setattr(run_lock, "_file_lock", lambda file: NoLocks())
    monkeypatch.setattr(run_lock, "_told", set())
    for _ in range(2):
        assert runs.open_folder(config(tmp_path, resume=False))[0].is_dir()
    assert said().count("files cannot be locked") == 1


# -- speed -------------------------------------------------------------------------------------------------------------


def test_two_thousand_runs_are_found_in_time(tmp_path: Path) -> None:
    run = begun(tmp_path / "0000", config(tmp_path))
    text, key = (run / "config.yaml").read_text(), (run / KEY_FILE).read_text()
    for i in range(1, 2000):
        folder = tmp_path / f"{i:04d}"
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").write_text(text)
        (folder / KEY_FILE).write_text(key)
    started = time.process_time()
    found = Register(tmp_path).find(identity.flat(OmegaConf.to_container(config(tmp_path, seed=1))))
    assert time.process_time() - started < 2
    assert [str(each) for each in found.differing] == ["seed: 0 -> 1"]
