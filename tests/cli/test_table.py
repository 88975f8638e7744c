"""`wsol table` on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import SMALL_RUN
from tests.tables.runs_made_up import make_run, recorded
from wsol.cli import main

SMALL = [word for word in SMALL_RUN if not word.startswith("trainer.max_epochs")]


def cells(out: str) -> dict:
    return {(cell["row"], cell["column"]): cell for cell in json.loads(out)["cells"]}


def test_measured_stands_beside_published_and_missing_rows_name_their_command(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/any/name"), recorded(["experiment=ilsvrc/cam_vgg16"]))
    assert main(["table", "cam2016-2", "--format", "json"]) == 0
    found = cells(capsys.readouterr().out)
    assert found["VGGnet-GAP", "top-1"]["measured"] == 60.0
    assert found["VGGnet-GAP", "top-1"]["difference"] == pytest.approx(60.0 - 57.2)
    assert found["GoogLeNet-GAP", "top-5"]["measured"] is None
    assert found["GoogLeNet-GAP", "top-5"]["missing"] == [
        "wsol train experiment=ilsvrc/cam_googlenet seed=0 resume=true"
    ]
    assert found["NIN", "top-1"]["missing"] == []
    assert main(["table", "cam2016-2"]) == 0
    out = capsys.readouterr().out
    assert "wsol train experiment=ilsvrc/cam_googlenet seed=0 resume=true" in out
    assert "+2.80" in out


def test_the_suffix_of_out_says_the_form(tmp_path: Path, capsys) -> None:
    for suffix, word in ((".md", "| row |"), (".tex", r"\toprule"), (".csv", "row,column"), (".json", '"cells"')):
        file = tmp_path / "new" / f"table{suffix}"
        assert main(["table", "cam2016-1", "--runs-dir", str(tmp_path), "--out", str(file)]) == 0
        assert word in file.read_text()
        assert capsys.readouterr().out == ""


BAD = [
    (["cam2061-2"], "did you mean 'cam2016-2'"),
    (["/nowhere.yaml"], "no such file"),
    (["creatures", "--rnu"], "unknown option '--rnu'"),
    (["creatures", "loader.batchsize=3"], "did you mean 'loader.batch_size'"),
    (["mine.yaml"], "unknown experiment of row 'r': 'no/such'|unknown experiment of row 'r' 'no/such'"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_message(tmp_path: Path, capsys, monkeypatch, words: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/any"), recorded(["experiment=demo"]))
    Path("mine.yaml").write_text(
        "title: t\nsource: s\ncolumns: {a: {metric: m, of: pixels}}\nrows: [{label: r, experiment: no/such}]\n"
    )
    assert main(["table", *words]) == 2
    error = capsys.readouterr().err
    assert any(each in error for each in message.split("|")), error


def test_run_makes_what_is_missing_and_only_that(tmp_path: Path, data_dir: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "title: t\nsource: s\nseeds: [0, 1]\n"
        "columns: {GT-known: {metric: gt_known_error, protocol: cam2016, threshold: fixed}}\n"
        "rows: [{label: CAM, experiment: demo}]\n"
    )
    words = ["table", "mine.yaml", "--format", "json", *SMALL, "trainer.max_epochs=1", f"data_dir={data_dir}"]
    assert main([*words, "--run"]) == 0
    captured = capsys.readouterr()
    cell = cells(captured.out)["CAM", "GT-known"]
    assert (cell["seeds"], cell["missing"], cell["interval_over"]) == ([0, 1], [], "seeds")
    values = [
        next(row for row in json.loads(file.read_text())["localization"] if row["split"] == "test")["gt_known_error"]
        for file in Path("runs").rglob("results.json")
    ]
    assert cell["measured"] == pytest.approx(sum(values) / 2)
    assert "run 2 of 2" in captured.err
    assert main([*words, "--run"]) == 0
    assert "run 1 of" not in capsys.readouterr().err
    assert main(["table", "mine.yaml", *words[4:], "label_smoothing=0.1"]) == 0
    assert "differs in label_smoothing" in capsys.readouterr().out


def test_a_failed_run_does_not_stop_the_others(tmp_path: Path, data_dir: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "title: t\nsource: s\ncolumns: {error: {metric: top1_error, of: classification}}\n"
        "rows:\n- {label: bad, experiment: demo, overrides: [monitor=val/nope]}\n- {label: good, experiment: demo}\n"
    )
    words = ["mine.yaml", "--run", "--format", "json", *SMALL, "trainer.max_epochs=1", f"data_dir={data_dir}"]
    assert main(["table", *words]) == 2
    found = cells(capsys.readouterr().out)
    assert found["good", "error"]["measured"] is not None


@pytest.mark.slow
def test_three_methods_and_two_seeds_survive_kill_9(tmp_path: Path, data_dir: Path) -> None:
    code = "import sys; from wsol.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["table", "creatures", "--run", "--format", "json", *SMALL, "trainer.max_epochs=2", f"data_dir={data_dir}"]
    command = [sys.executable, "-c", code, *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    first = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while len(list(tmp_path.rglob("last.ckpt"))) < 3:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("results.json")}
    assert 2 <= len(before) <= 3
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert all(len(cell["seeds"]) == 2 and not cell["missing"] for cell in cells(done.stdout).values())
    assert len(list(tmp_path.rglob("config.yaml"))) == 6
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())
