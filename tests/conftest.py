"""Shared fixtures: one thread per process, a small built-in dataset, and runs of the command line."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.guard import Guard
from wsol.cli import main
from wsol.files import hidden

settings.register_profile("wsol", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("wsol")

GONE = 2**22 + 1
"""A process number above the greatest that Linux gives."""

SMALL_RUN = [
    "data.train_images=48",
    "data.val_images=16",
    "data.test_images=24",
    "data.size=32",
    "image_size=32",
    "loader.batch_size=16",
    "loader.eval_batch_size=8",
    "loader.num_workers=0",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
]
"""Overrides that make a training run of the built-in dataset take about a second."""


def pytest_configure(config: pytest.Config) -> None:
    """Watch the working directory and the checkout, for doctests of the package too."""
    config.pluginmanager.register(Guard())


def pytest_collection_finish() -> None:
    """Spare the garbage collector what is loaded now: walking over it would take a fifth of the time of the tests."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let libraries free what they loaded; some complain otherwise."""
    gc.unfreeze()


def left_behind(target: Path) -> Path:
    """The hidden path that a process of this machine, now gone, would have left beside a target."""
    host, _ = hidden(target).name.removeprefix(f".{target.name}.partial-").split("-")[:2]
    return target.with_name(f".{target.name}.partial-{host}-{GONE}-0{target.suffix}")


def flush_nothing() -> None:
    """Make flushes to disk do nothing: no test cuts the power, and each takes 20 ms where the disk is busy."""
    os.fsync = lambda descriptor: None
    os.sync = lambda: None


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
    flush_nothing()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for generated data that all tests of a worker share."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def wsol(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command line in an empty folder: ``wsol("train", "seed=1")`` returns the exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, small: bool = True) -> int:
        extra = [*SMALL_RUN, f"data_dir={data_dir}"] if small and words[0] == "train" else []
        return main([words[0], *extra, *words[1:]])

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The folder of a small finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *SMALL_RUN, f"data_dir={data_dir}", f"run_dir={folder}"]) == 0
    return folder
