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
from wsol.tables.collect import comparable
from wsol.tables.pinned import pinned

SMALL = [word for word in SMALL_RUN if not word.startswith("trainer.max_epochs")]


def cells(out: str) -> dict:
    return {(cell["row"], cell["column"]): cell for cell in json.loads(out)["cells"]}


def test_measured_stands_beside_published_and_missing_rows_name_their_command(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/any/name"), recorded(["experiment=ilsvrc/cam_vgg16"]))
    assert main(["table", "cam2016-2", "format=json"]) == 0
    found = cells(capsys.readouterr().out)
    assert found["VGGnet-GAP", "top-1"]["measured"] == 60.0
    assert found["VGGnet-GAP", "top-1"]["difference"] == pytest.approx(60.0 - 57.2)
    assert found["GoogLeNet-GAP", "top-5"]["measured"] is None
    assert found["GoogLeNet-GAP", "top-5"]["missing"] == [
        "wsol train experiment=ilsvrc/cam_googlenet seed=0 resume=true"
    ]
    assert found["NIN", "top-1"]["missing"] == ["wsol train experiment=ilsvrc/cam_nin seed=0 resume=true"]
    assert found["Backprop-VGGnet", "top-1"]["missing"] == []
    assert main(["table", "cam2016-2"]) == 0
    out = capsys.readouterr().out
    assert "wsol train experiment=ilsvrc/cam_googlenet seed=0 resume=true" in out
    assert "+2.80" in out


def test_rows_with_the_classes_of_others_are_filled_by_their_evaluations(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = recorded(["experiment=ilsvrc/acol_vgg16"])
    run = make_run(Path("runs/any"), config, protocol="acol2018", error=37.04)
    assert main(["table", "acol2018"]) == 0
    assert "wsol eval runs/any classes=<the classes of dpn131, such as dpn131.csv>" in capsys.readouterr().out
    evaluation = make_run(run / "eval" / "now", config, protocol="acol2018", error=26.06, classification=19.0)
    (evaluation / "checkpoints").rmdir()
    results = json.loads((evaluation / "results.json").read_text())
    (evaluation / "results.json").write_text(json.dumps({**results, "classes": {"name": "dpn131"}}))
    assert main(["table", "acol2018", "format=json"]) == 0
    found = cells(capsys.readouterr().out)
    own, others, ensemble = (
        {column: cell for (row, column), cell in found.items() if row == label}
        for label in (
            "VGGnet-ACoL, ILSVRC",
            "VGGnet-ACoL with DPN-131's classes, ILSVRC",
            "VGGnet-ACoL with a DPN ensemble's classes, ILSVRC",
        )
    )
    assert own["top-1 loc"]["measured"] == pytest.approx(57.04)
    assert own["top-1 cls"]["measured"] == 25.0
    assert others["top-1 loc"]["measured"] == pytest.approx(46.06)
    assert others["top-1 loc"]["difference"] == pytest.approx(0.0)
    assert others["top-1 cls"]["measured"] == 19.0
    assert ensemble["top-1 loc"]["measured"] is None


def test_the_suffix_of_out_says_the_form(tmp_path: Path, capsys) -> None:
    for suffix, word in (
        (".md", "|  | top-1 | top-5 |"),
        (".tex", r"\toprule"),
        (".csv", "row,column"),
        (".json", '"cells"'),
    ):
        file = tmp_path / "new" / f"table{suffix}"
        assert main(["table", "cam2016-1", f"runs_dir={tmp_path}", "--out", str(file)]) == 0
        assert word in file.read_text()
        assert capsys.readouterr().out == ""


BAD = [
    (["cam2061-2"], "did you mean 'cam2016-2'"),
    (["/nowhere.yaml"], "no such file"),
    (["creatures", "--out", "dir.md"], "is a folder"),
    (["creatures", "--out", "table.xls"], "table.xls: expected the ending .md, .tex, .csv, .json or .txt"),
    (["creatures", "--rnu"], "unknown option '--rnu'"),
    (["creatures", "loader.batchsize=3"], "did you mean 'loader.batch_size'"),
    (["mine.yaml"], "unknown experiment of row 'r' of mine.yaml"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_message(tmp_path: Path, capsys, monkeypatch, words: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/any"), recorded(["experiment=demo"]))
    Path("dir.md").mkdir()
    Path("mine.yaml").write_text(
        "title: t\nsource: s\ncolumns: {a: {metric: PxAP, of: pixels}}\nrows: [{label: r, experiment: no/such}]\n"
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
    words = ["table", "mine.yaml", "format=json", *SMALL, "trainer.max_epochs=1", f"data_dir={data_dir}"]
    assert main([*words, "make_missing=true"]) == 0
    captured = capsys.readouterr()
    cell = cells(captured.out)["CAM", "GT-known"]
    assert (cell["seeds"], cell["missing"], cell["interval_over"]) == ([0, 1], [], "seeds")
    values = [
        next(row for row in json.loads(file.read_text())["localization"] if row["split"] == "test")["gt_known_error"]
        for file in Path("runs").rglob("results.json")
    ]
    assert cell["measured"] == pytest.approx(sum(values) / 2)
    assert "run 2 of 2" in captured.err
    assert main([*words, "make_missing=true"]) == 0
    assert "run 1 of" not in capsys.readouterr().err
    assert main(["table", "mine.yaml", *words[3:], "label_smoothing=0.1"]) == 0
    assert "differs in label_smoothing: 0.0 -> 0.1" in capsys.readouterr().out


def test_a_failed_run_does_not_stop_the_others(tmp_path: Path, data_dir: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "title: t\nsource: s\ncolumns: {error: {metric: top1_error, of: classification}}\n"
        "rows:\n- {label: bad, experiment: demo, overrides: [monitor=val/nope]}\n- {label: good, experiment: demo}\n"
    )
    words = ["mine.yaml", "make_missing=true", "format=json", *SMALL, "trainer.max_epochs=1", f"data_dir={data_dir}"]
    assert main(["table", *words]) == 2
    found = cells(capsys.readouterr().out)
    assert found["good", "error"]["measured"] is not None


@pytest.mark.slow
def test_three_methods_and_two_seeds_survive_kill_9(tmp_path: Path, data_dir: Path) -> None:
    code = "import sys; from wsol.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [
        "table",
        "creatures",
        "make_missing=true",
        "format=json",
        *SMALL,
        "trainer.max_epochs=2",
        f"data_dir={data_dir}",
    ]
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


@pytest.mark.parametrize("words", [[], ["make_missing=true"]], ids=["print", "run"])
def test_runs_of_one_experiment_on_other_data_stop_the_table_and_nothing_is_written(
    tmp_path: Path, capsys, monkeypatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/any"), recorded(["experiment=demo"]))
    make_run(Path("runs/other"), recorded(["experiment=demo"]), seed=1, fingerprint="0" * 64)
    Path("table.md").write_text("of yesterday")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert main(["table", "creatures", "--out", "table.md", "--force", *words]) == 2
    error = capsys.readouterr().err
    assert "are not the same data" in error
    assert "Traceback" not in error
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_row_without_runs_is_missing_and_says_how_to_make_them(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["table", "creatures"]) == 0
    out = capsys.readouterr().out
    assert out.count("missing") >= 9
    assert "wsol train experiment=demo_acol seed=1 resume=true" in out
    assert list(tmp_path.iterdir()) == []


PINNED = ["demo_acol", "cub/acol_vgg16", "choe2020/cub/cam_vgg16", "choe2020/openimages/adl_resnet50"]


@pytest.mark.parametrize("experiment", PINNED)
@pytest.mark.parametrize("words", [[], ["trainer.max_epochs=3", "optim=adamw", "method=cam"]], ids=["", "overridden"])
def test_what_an_experiment_pins_is_in_the_config_of_its_runs(experiment: str, words: list[str]) -> None:
    config = comparable(recorded([f"experiment={experiment}", *words]))
    found = pinned(experiment, words)
    assert {key: config[key] for key in found} == found
    assert found
    assert "trainer.max_epochs" not in found or not words


def test_nothing_is_taken_for_pinned_that_might_not_be(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()

    def found(text: str, words: tuple[str, ...] = ()) -> dict:
        (tmp_path / "experiment" / "mine.yaml").write_text(text)
        return pinned("mine", words, [str(tmp_path)])

    head = "# @package _global_\n"
    assert found(head + "seed: 3\ntopk: [1]\nlabel_smoothing: 0.1\noptim: {optimizer: {lr: 1e-4}}\n") == {
        "label_smoothing": 0.1
    }, "a list, a text that Hydra reads as a number, and the seed are not"
    assert found("label_smoothing: 0.1\n") == {}, "it lies in another package"
    assert found(head + "defaults: [_self_, {override /data: cub}]\nlabel_smoothing: 0.1\n") == {}
    assert found(head + "label_smoothing: 0.1\n", ("+extra=cub",)) == {}
    assert found(head + "label_smoothing: [") == {}
    below = head + "defaults: [/experiment/choe2020/cub/acol_vgg16, _self_]\noptim: {optimizer: null}\n"
    assert "optim.optimizer.lr" not in found(below)
    assert found(below)["trainer.max_epochs"] == 50
    between = head + "defaults: [/experiment/choe2020/cub/acol_vgg16, {/trainer: default}, _self_]\nimage_size: 32\n"
    assert found(between) == {"image_size": 32}
    two = head + "defaults: [/experiment/choe2020/cub/acol_vgg16, /experiment/cub/acol_vgg16]\n"
    assert found(two)["trainer.max_epochs"] == 60, "the later one counts"
    assert pinned("no/such") == {}
