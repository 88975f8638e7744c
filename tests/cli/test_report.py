"""`wsol report` on small finished runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.engine import run_evaluation

QUICK = ["num_workers=0"]


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run whose test maps a first report has made."""
    copy = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(finished_run, copy)
    assert main(["report", str(copy), *QUICK]) == 0
    return copy


def content(folder: Path) -> dict:
    text = (folder / "data" / "report.js").read_text(encoding="ascii")
    return json.loads(text.partition("(")[2].rpartition(")")[0])


def accuracies(report: dict, run: int = 0) -> dict[str, float]:
    """GT-known accuracy of the page's curve at each reported threshold."""
    own, thresholds = report["runs"][run], report["protocol"]["thresholds"]
    curve = own["curves"]["gt_known"][report["protocol"]["ious"].index(0.5)]
    rows = [row for row in own["localization"] if row["maps"] == "localizer"]
    of_page = [row for row in rows if row["protocol"] == report["protocol"]["name"]]
    return {row["threshold_origin"]: curve[thresholds.index(row["threshold"])] for row in of_page}


def test_a_run_without_maps_makes_them_once(run: Path, capsys, monkeypatch) -> None:
    (first,) = (run / "report").iterdir()
    (evaluation,) = (run / "eval").iterdir()
    assert (evaluation / "maps" / "test").is_dir()
    assert (first / "index.html").is_file()
    assert len(list((first / "pictures").glob("*.jpg"))) == 24

    def fail(*_) -> None:
        raise AssertionError("the network was asked again")

    monkeypatch.setattr(run_evaluation, "run", fail)
    assert main(["report", str(run), f"out={run / 'again'}"]) == 0
    assert "24 images" in capsys.readouterr().out
    assert content(run / "again") == content(first)


@pytest.mark.parametrize("name", ["cam2016", "choe2020", "bas2022", "choe2020-v2"])
def test_the_pages_curves_are_the_metrics(run: Path, tmp_path: Path, name: str) -> None:
    assert main(["report", str(run), f"protocol={name}", f"out={tmp_path}"]) == 0
    found = content(tmp_path)
    assert found["protocol"]["name"] == name
    own = [row for row in found["runs"][0]["localization"] if row["protocol"] == name and row["maps"] == "localizer"]
    assert {row["threshold_origin"] for row in own} >= (
        {"fixed"} if name in ("cam2016", "bas2022") else {"fullsup", "oracle"}
    )
    if name != "choe2020-v2":
        for row in own:
            expected = pytest.approx(100 - row["gt_known_error"], abs=1e-3)
            assert accuracies(found)[row["threshold_origin"]] == expected
    else:
        (oracle,) = (row for row in own if row["threshold_origin"] == "oracle")
        for part in oracle["by_iou"]:
            curve = found["runs"][0]["curves"]["gt_known"][found["protocol"]["ious"].index(part["iou"])]
            at = found["protocol"]["thresholds"].index(part["threshold"])
            assert curve[at] == pytest.approx(100 - part["gt_known_error"], abs=1e-3)


def test_an_evaluation_is_compared_with_its_run(run: Path, tmp_path: Path) -> None:
    words = ["explainer=gradcam", "save_maps=true", "trainer.accelerator=cpu", *QUICK, f"out={tmp_path / 'gradcam'}"]
    assert main(["eval", f"run={run}", *words]) == 0
    assert main(["report", str(run), str(tmp_path / "gradcam"), f"out={tmp_path / 'out'}", "protocol=choe2020"]) == 0
    first, second = content(tmp_path / "out")["runs"]
    assert first["name"] != second["name"]
    assert (first["facts"]["maps"], second["facts"]["maps"]) == ("the network's own", "gradcam")
    assert first["predicted"] == second["predicted"]


def test_maps_of_another_map_maker_are_not_taken_for_the_runs_own(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("eval", "report", "again"))
    words = ["explainer=gradcam", "save_maps=true", "trainer.accelerator=cpu", *QUICK, f"out={copy / 'eval' / 'z'}"]
    assert main(["eval", f"run={copy}", *words]) == 0
    assert main(["report", str(copy), f"out={tmp_path / 'out'}", *QUICK]) == 0
    assert content(tmp_path / "out")["runs"][0]["facts"]["maps"] == "the network's own"
    assert len(list((copy / "eval").iterdir())) == 2


def test_some_images_of_the_val_split(run: Path, tmp_path: Path) -> None:
    assert main(["report", str(run), "split=val", "limit=5", "picture_side=32", f"out={tmp_path}", *QUICK]) == 0
    found = content(tmp_path)
    assert found["split"] == "val"
    assert found["whole"] == 16
    assert len(found["images"]["ids"]) == len(list((tmp_path / "pictures").iterdir())) == 5
    assert len(found["runs"][0]["predicted"]) == 5


def test_a_report_is_replaced_by_force_only(run: Path, tmp_path: Path, capsys) -> None:
    words = ["report", str(run), f"out={tmp_path / 'out'}"]
    assert main(words) == 0
    before = (tmp_path / "out" / "index.html").stat().st_mtime_ns
    assert main(words) == 2
    assert "an earlier output of `wsol report`; replace it with force=true" in capsys.readouterr().err
    assert (tmp_path / "out" / "index.html").stat().st_mtime_ns == before
    assert main([*words, "--force"]) == 0
    assert (tmp_path / "out" / "index.html").stat().st_mtime_ns > before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert main(["report", str(run), f"out={tmp_path / 'mine'}", "force=true"]) == 2
    assert "not an earlier output of `wsol report`" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_runs_of_different_data_are_refused(run: Path, tmp_path: Path, data_dir: Path, capsys) -> None:
    other = tmp_path / "other"
    words = [*SMALL_RUN, f"data_dir={data_dir}", f"run_dir={other}", "data.seed=5", "trainer.max_epochs=1"]
    assert main(["train", *words]) == 0
    assert main(["report", str(run), str(other), f"out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert "runs of different data" in error
    assert str(other) in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which runs?"),
        (["/nowhere"], "/nowhere: no such folder"),
        (["{tmp}"], "not a run"),
        (["{run}", "{run}"], "named twice"),
        (["{run}", "split=tset"], "expected test or val"),
        (["{run}", "limit=0"], "limit: expected a number from 1"),
        (["{run}", "picture_side=5"], "picture_side: expected pixels"),
        (["{run}", "protocol=cam2106"], "did you mean 'cam2016'"),
        (["{run}", "protocol=[cam2016,choe2020]"], "protocol: expected one"),
        (["{run}", "limti=3"], "no config key 'limti'"),
        (["{run}", "--fource"], "unknown option '--fource'"),
        (["{run}", "out={run}"], "not an earlier output of `wsol report`"),
        (["{run}", "out={run}/config.yaml"], "not a folder"),
    ],
)
def test_bad_input_is_one_clear_message(run: Path, tmp_path: Path, capsys, words, message) -> None:
    assert main(["report", *(word.format(run=run, tmp=tmp_path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_help_names_runs_keys_and_protocols(capsys) -> None:
    assert main(["report", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("RUN ...", "--force", "picture_side=320", "choe2020-v2", "save_maps=true"):
        assert word in text


def test_a_run_whose_seed_is_no_number_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: abc", 1))
    assert main(["report", str(tmp_path / "run"), *QUICK, f"out={tmp_path / 'page'}"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wsol: error")]
    assert len(said) == 1
    assert "config.yaml" in said[0]
