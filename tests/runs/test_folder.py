from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from wsol import runs
from wsol.errors import InputError


def config(tmp_path: Path, **changes):
    base = {
        "name": "n",
        "seed": 0,
        "runs_dir": str(tmp_path),
        "run_dir": None,
        "resume": False,
        "logger": None,
        "choices": {"logger": "csv"},
    }
    return OmegaConf.create({**base, **changes})


def test_each_run_gets_its_own_folder(tmp_path: Path) -> None:
    folders = [runs.open_folder(config(tmp_path))[0] for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(folder.is_dir() for folder in folders)


def test_a_run_begins_in_no_folder_of_other_files(tmp_path: Path) -> None:
    """It would hide the runs below, or mix with the user's images."""
    (tmp_path / "n/2026-01-31_12-00-00").mkdir(parents=True)
    with pytest.raises(InputError, match="contains no run, but other files, such as 2026-01-31_12-00-00"):
        runs.open_folder(config(tmp_path, run_dir=str(tmp_path / "n")))
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.log").write_text("killed before its config was recorded")
    assert runs.open_folder(config(tmp_path, run_dir=str(begun))) == (begun, False)


def gone_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_runs_that_were_killed_before_they_began_are_removed(tmp_path: Path) -> None:
    """Not so what holds more, what another machine or a live process made, and what is begun."""
    here, gone = socket.gethostname(), gone_process()
    owners = {
        "killed": (gone, here), "before its lock": (gone, here),
        "elsewhere": (gone, "another"), "alive": (os.getpid(), here),
        "more": (gone, here), "begun": (gone, here),
    }  # fmt: skip
    for name, (pid, host) in owners.items():
        (tmp_path / "n" / name).mkdir(parents=True)
        if name != "before its lock":
            (tmp_path / "n" / name / ".wsol-lock").touch()
        (tmp_path / "n" / name / ".wsol-owner.json").write_text(json.dumps({"pid": pid, "host": host}))
    (tmp_path / "n/more/notes.txt").touch()
    runs.write_config(tmp_path / "n/begun", config(tmp_path))
    new, _ = runs.open_folder(config(tmp_path))
    assert {path.name for path in (tmp_path / "n").iterdir()} == {new.name, *owners} - {"killed", "before its lock"}


def test_resume_finds_the_newest_run_of_the_same_config_whatever_its_name(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1), ("c", 0)):
        (tmp_path / name).mkdir()
        runs.write_config(tmp_path / name, config(tmp_path, seed=seed))
    assert runs.open_folder(config(tmp_path, resume=True)) == (tmp_path / "c", True)
    assert runs.open_folder(config(tmp_path, resume=True, seed=1)) == (tmp_path / "b", True)
    folder, resuming = runs.open_folder(config(tmp_path, resume=True, seed=2))
    assert not resuming
    assert folder.name not in "abc"


def test_another_logger_is_the_same_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    runs.write_config(tmp_path / "a", config(tmp_path))
    asked = config(tmp_path, resume=True, logger={"project": "x"}, choices={"logger": "wandb"})
    assert runs.open_folder(asked) == (tmp_path / "a", True)


def test_a_run_folder_is_not_written_twice(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    asked = config(tmp_path, run_dir=str(folder))
    runs.open_folder(asked)
    runs.write_config(folder, asked)
    with pytest.raises(InputError, match="resume=true"):
        runs.open_folder(asked)
    assert runs.open_folder(config(tmp_path, run_dir=str(folder), resume=True)) == (folder, True)
    with pytest.raises(InputError, match=r"another config.*seed"):
        runs.open_folder(config(tmp_path, run_dir=str(folder), resume=True, seed=5))


def test_resuming_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.yaml"):
        runs.open_folder(config(tmp_path, resume=str(tmp_path / "nowhere")))


def test_other_processes_of_a_distributed_run_take_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(runs.RUN_DIR_VARIABLE, str(tmp_path / "given"))
    assert runs.open_folder(config(tmp_path))[0] == tmp_path / "given"


def test_results_carry_versions_revision_and_machine(tmp_path: Path) -> None:
    content = json.loads(runs.write_results(tmp_path, {"value": 1.5}).read_text())
    assert content["value"] == 1.5
    assert content["versions"]["torch"]
    assert content["machine"]["cores"] >= 1
    assert "git" in content


def test_results_refuse_numbers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        runs.write_results(tmp_path, {"value": float("nan")})
    assert not (tmp_path / "results.json").exists()


def test_the_revision_is_that_of_the_checkout_of_the_program_only(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert runs.git_revision(tmp_path) is None
