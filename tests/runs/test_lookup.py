"""A run is named by its folder, by its name, or by ``last``; all runs are listed in a line each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tables.runs_made_up import make_run, recorded
from wsol.errors import InputError, near_matches
from wsol.runs import Register, find_run
from wsol.runs.listing import summaries
from wsol.runs.lookup import run_folders
from wsol.runs.outputs import MARKER


def made(folder: str, at: int, **config: object) -> Path:
    run = make_run(Path(folder), {**recorded(["experiment=demo"]), **config})
    os.utime(run / "config.yaml", (at, at))
    return run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    return [
        made("runs/demo-cam/a", 3_000, name="demo-cam"),
        made("runs/demo-cam/b", 2_000, name="demo-cam"),
        made("runs/mine", 4_000, name="birds"),
    ]


def test_a_name_is_its_newest_run_and_last_the_newest_of_all(runs: list[Path]) -> None:
    assert find_run("demo-cam") == runs[0]
    assert find_run("demo-cam/b") == runs[1]
    assert find_run("birds") == find_run("mine") == find_run("last") == runs[2]
    assert find_run(str(runs[1])) == runs[1]
    assert find_run("demo-cam", Path("runs").resolve()) == runs[0].resolve()


def test_a_file_or_folder_that_is_there_is_meant(runs: list[Path]) -> None:
    Path("demo-cam").mkdir()
    assert find_run("demo-cam") == Path("demo-cam")
    (runs[0] / "best.ckpt").write_text("")
    assert find_run(f"{runs[0]}/best.ckpt").is_file()


def test_a_misspelt_name_is_answered_with_near_ones(runs: list[Path]) -> None:
    with pytest.raises(InputError, match=r"did you mean 'demo-cam'\? Runs: birds, demo-cam, mine"):
        find_run("demo-cma")
    with pytest.raises(InputError, match="no runs in elsewhere"):
        find_run("last", "elsewhere")


def test_evaluations_and_rounds_are_no_runs(runs: list[Path]) -> None:
    evaluation = made("runs/evaluated", 9_000)
    (evaluation / "checkpoints").rmdir()
    (evaluation / MARKER).write_text("{}")
    erasing = made("runs/erasing", 5_000)
    (erasing / "checkpoints").rmdir()
    made("runs/erasing/round0", 9_000)
    assert find_run("last") == erasing
    assert evaluation not in set(run_folders(Path("runs")))


def test_a_list_has_a_line_for_each_run_and_passes_over_what_is_none(runs: list[Path]) -> None:
    (runs[1] / "results.json").write_text("[]")
    (runs[2] / "results.json").unlink()
    (Path("runs/other") / "x").mkdir(parents=True)
    Path("runs/other/config.yaml").write_text("- 1")
    register = Register(Path("runs"))
    found = summaries(register)
    assert [(one.folder, one.is_finished) for one in found] == [(runs[1], True), (runs[0], True), (runs[2], False)]
    assert (found[1].results["gt_known_error"], found[1].protocol) == (40.0, "cam2016 fixed")
    assert found[0].results == {}
    assert (found[1].name, found[1].method, found[1].data) == ("demo-cam", "cam", "creatures_whole")
    assert "runs/other/config.yaml" in (register.note() or "")
    assert [one.name for one in summaries(Register(Path("runs")), ["bi"])] == ["birds"]
    assert len(summaries(Register(Path("runs")), ["demo*", "nothing"])) == 2


def test_of_many_choices_only_the_near_ones_are_named() -> None:
    many = [f"n{i:08d} bird {i}" for i in range(1000)]
    said = near_matches("n00000007 brd 7", many)
    assert "did you mean 'n00000007 bird 7'" in said
    assert "There are 1,000 choices" in said
    assert len(said) < 400
    assert len(near_matches("zebra", many)) < 300
    assert near_matches("zebra", ["a", "b"]) == "Choices: a, b"
