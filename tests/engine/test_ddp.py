"""Several processes (Lightning's ddp, gloo on the CPU): every image counts once, and no digit depends on their number.

Few processes are started: three workers are the ranks of all worlds; one run of the console script starts its own.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL_RUN
from tests.engine.ddp_worker import (
    COUNTS,
    DATA,
    LIMIT,
    eval_words,
    evaluate_maps,
    free_port,
    functional_twins,
    together,
    work,
)
from wsol.cli import main

SCRIPT = Path(sys.executable).with_name("wsol")
WORLDS = (2, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Path:
    """What three workers leave behind, and the same evaluated by this process alone."""
    made = tmp_path_factory.mktemp("ddp")
    ports = {world: free_port() for world in WORLDS}
    wait = together(max(WORLDS), made, work, made, finished_run, made / "data", ports)
    for name in DATA:
        assert main(eval_words(finished_run, made / "1" / name, made / "alone", name, 1)) == 0
    wait()
    return made


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", DATA)
def test_wsol_eval_gives_the_same_digits_with_any_number_of_processes(folder: Path, name: str, world: int) -> None:
    alone, shared = results(folder / "1" / name), results(folder / str(world) / name)
    for part in ("localization", "classification", "pixels", "skipped_images"):
        assert shared[part] == alone[part], part
    pictures = [folder / str(number) / name / "pictures.png" for number in (1, world)]
    assert pictures[1].read_bytes() == pictures[0].read_bytes()
    assert {row["images"] for row in shared["localization"] if row["split"] == "val"} == {DATA[name][0]}
    assert {row["images"] for row in shared["localization"] if row["split"] == "test"} == {DATA[name][1]}


@functools.cache
def by_one_process(count: int) -> dict:
    return evaluate_maps(count, 0, 1)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("count", COUNTS)
def test_the_same_maps_give_the_same_digits_in_every_process(folder: Path, count: int, world: int) -> None:
    alone = by_one_process(count)
    assert alone["curves"]["cam2016", "localizer"][0] == sum(i % 5 != 3 for i in range(count))
    for rank in range(world):
        assert torch.load(folder / f"{world}-{rank}.pt", weights_only=False)[count] == alone, rank


@pytest.mark.parametrize("world", WORLDS)
def test_functions_are_of_one_process(folder: Path, world: int) -> None:
    assert torch.load(folder / f"{world}-0.pt", weights_only=False)["twins"] == functional_twins()


def run_script(folder: Path, *words: str) -> None:
    """Run the console script, which starts the other processes itself; nothing of it outlives this call."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "said.txt").open("w") as said:
        started = subprocess.Popen(
            [SCRIPT, *words], cwd=folder, stdout=said, stderr=said, env=environment, start_new_session=True
        )
        try:
            code: int | str = started.wait(LIMIT)
        except subprocess.TimeoutExpired:
            code = f"none after {LIMIT} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
    assert code == 0, f"exit code {code}\n{(folder / 'said.txt').read_text()[-5000:]}"


@pytest.mark.skipif(not SCRIPT.exists(), reason="the console script is not installed")
def test_two_processes_train_into_one_folder_and_evaluate_as_one_does(tmp_path: Path, data_dir: Path) -> None:
    # With one validation image the second process has none.
    words = [*SMALL_RUN, f"data_dir={data_dir}", "loader.eval_batch_size=1", "data.val_images=1", "data.test_images=7"]
    run_script(tmp_path, "train", *words, "trainer=ddp", "trainer.devices=2")
    (config,) = tmp_path.rglob("config.yaml")
    run = config.parent
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    with (run / "metrics.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["train/loss"]]
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [row["step"] for row in rows] == ["2", "5"]  # 48 images in batches of 16, over both processes
    assert "sync_dist" not in (tmp_path / "said.txt").read_text()
    assert main(["eval", f"run={run}", f"out={tmp_path / 'alone'}", "trainer.accelerator=cpu"]) == 0
    shared, alone = results(run), results(tmp_path / "alone")
    for part in ("localization", "classification", "pixels"):
        assert shared[part] == alone[part], part


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPT.exists(), reason="the console script is not installed")
def test_three_processes_started_by_wsol_eval(folder: Path, tmp_path: Path, finished_run: Path) -> None:
    run_script(tmp_path, *eval_words(finished_run, tmp_path / "out", folder / "data", "few", 3))
    assert results(tmp_path / "out")["localization"] == results(folder / "1" / "few")["localization"]
