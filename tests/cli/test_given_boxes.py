"""A network that learns from pseudo boxes and gives boxes, through every verb."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import SMALL_RUN
from wsol import load
from wsol.cli import main
from wsol.engine import run_evaluation

BOX = ["method=psol", "method.head.width=8", "trainer.max_epochs=1", "protocol=[cam2016,choe2020-v2,psol2020]"]
QUICK = ["num_workers=0"]
FAST = ["num_workers=0", "trainer.accelerator=cpu"]
REFUSAL = "a head without maps was asked for maps"

EXPERIMENT = """# @package _global_
defaults:
  - override /method: psol
  - override /protocol: [psol2020]
name: small-box
"""
TABLE = """title: Boxes
source: none
attributes: [classes]
columns:
  top-1: {metric: top1_error, accuracy: true, protocol: psol2020, threshold: none}
  GT-known: {metric: gt_known_error, accuracy: true, protocol: psol2020, threshold: none}
rows:
  - label: PSOL
    experiment: small_box
    published: {GT-known: psol2020/ResNet50-Sep/cub/2}
    classes: borrowed
    about: {classes: borrowed}
"""


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def own(folder: Path, split: str = "test") -> list[dict]:
    rows = results_of(folder)["localization"]
    return [row for row in rows if row["maps"] == "localizer" and row["split"] == split]


@pytest.fixture(scope="module")
def pseudo(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pseudo") / "boxes"
    words = [f"run={finished_run}", "split=train", "pseudo=boxes", "protocol=[cam2016]", f"out={folder}"]
    assert main(["eval", *words, *FAST]) == 0
    return folder


@pytest.fixture(scope="module")
def box_run(pseudo: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("box") / "run"
    words = [*SMALL_RUN, *BOX, f"data_dir={data_dir}", f"pseudo={pseudo}", f"run_dir={folder}"]
    assert main(["train", *words]) == 0
    return folder


def test_results_have_a_box_and_no_threshold(box_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = own(box_run)
    assert [row["protocol"] for row in rows] == ["cam2016", "choe2020-v2", "psol2020"]
    for row in rows:
        assert (row["threshold_origin"], row["threshold"], row["class_agnostic"]) == ("none", None, True)
        assert 0 <= row["gt_known_error"] <= 100
        assert "top1_error" not in row
    assert [part["iou"] for part in rows[1]["by_iou"]] == [0.3, 0.5, 0.7]
    assert results_of(box_run)["checkpoint"] == {"file": "checkpoints/last.ckpt", "monitor": None}
    assert results_of(box_run)["pixels"] == {}
    assert (box_run / "pictures.png").is_file()
    assert main(["show", str(box_run)]) == 0
    assert "none" in capsys.readouterr().out


def test_an_evaluation_borrows_classes_and_splits_errors(box_run: Path, finished_run: Path, tmp_path: Path) -> None:
    words = [f"run={box_run}", f"classes={finished_run}", f"out={tmp_path / 'out'}", *FAST]
    assert main(["eval", *words]) == 0
    found = results_of(tmp_path / "out")
    assert set(found["classification"]["test"]) == {"top1_error", "top5_error"}, "though the run had no classes"
    top1 = results_of(finished_run)["classification"]["test"]["top1_error"]
    assert found["classification"]["test"]["top1_error"] == top1
    for row, before in zip(own(tmp_path / "out"), own(box_run), strict=True):
        assert row["gt_known_error"] == before["gt_known_error"]
        assert max(top1, row["gt_known_error"]) <= row["top1_error"] + 1e-9 or row["protocol"] == "psol2020"
    shares = found["error_kinds"]["cam2016"]["none"]
    assert sum(shares.values()) == pytest.approx(100)
    lines = list(csv.DictReader((tmp_path / "out" / "per_image.csv").open()))
    assert len(lines) == 24 * 3
    assert {(line["threshold_origin"], line["threshold"]) for line in lines} == {("none", "")}
    wrong = np.mean([line["right"] == "0" for line in lines if line["protocol"] == "cam2016"])
    assert own(box_run)[0]["gt_known_error"] == pytest.approx(100 * wrong)


def test_predictions_and_files_for_other_programs(box_run: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "a.png")
    predict = ["predict", f"run={box_run}", f"images={tmp_path / 'a.png'}", "device=cpu"]
    assert main([*predict, f"out={tmp_path / 'out'}"]) == 0
    (row,) = csv.DictReader((tmp_path / "out" / "predictions.csv").open())
    assert (row["class"], float(row["score"])) == ("object", 1.0)
    assert not (tmp_path / "out" / "maps").exists()
    assert len(list((tmp_path / "out" / "overlays").rglob("*.png"))) == 1
    found = load(box_run, device="cpu").predict(tmp_path / "a.png")
    assert found.map is None
    np.testing.assert_allclose(found.box, [float(row[key]) for key in ("x0", "y0", "x1", "y1")], atol=1e-3)
    for name, options in (("a.pt2", ["format=torch_export"]), ("a.safetensors", ["format=safetensors"])):
        assert main(["export", f"run={box_run}", *options, f"out={tmp_path / name}"]) == 0
    again = load(tmp_path / "a.safetensors", device="cpu").predict(tmp_path / "a.png")
    np.testing.assert_allclose(again.box, found.box, atol=1e-4)


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("eval", ["save_maps=true"], f"save_maps=true: {REFUSAL}"),
        ("eval", ["explainer=cam"], "does not classify"),
        ("predict", ["images=a.png", "maps=npy"], f"maps=npy: {REFUSAL}"),
        ("predict", ["images=a.png", "threshold=0.3"], f"threshold=0.3: {REFUSAL}"),
        ("export", ["format=torch_export", "top=2"], f"top=2: {REFUSAL}"),
        ("score", [], f": {REFUSAL}"),
    ],
)
def test_what_needs_maps_is_refused(
    verb: str, words: list[str], message: str, box_run: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("a.png")
    run = f"maps={box_run}" if verb == "score" else f"run={box_run}"
    assert main([verb, run, *words, *(FAST if verb == "eval" else [])]) == 2
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said


def page_of(folder: Path) -> dict:
    text = (folder / "data" / "report.js").read_text(encoding="ascii")
    return json.loads(text.partition("(")[2].rpartition(")")[0])


def test_a_report_shows_the_boxes_of_the_training_and_the_classes_of_an_evaluation(
    box_run: Path, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(box_run, copy)

    def fail(*_) -> None:
        raise AssertionError("the network was asked again")

    with monkeypatch.context() as patch:
        patch.setattr(run_evaluation, "run", fail)
        assert main(["report", str(copy), f"out={tmp_path / 'first'}"]) == 0
    (alone,) = page_of(tmp_path / "first")["runs"]
    assert alone["gives_boxes"]
    assert alone["ranks"] is alone["predicted"] is None
    assert page_of(tmp_path / "first")["protocol"]["thresholds"] == []
    assert set(alone["correct"]) == {"cam2016", "choe2020-v2", "psol2020"}
    for row in own(copy):
        right = np.array(alone["correct"][row["protocol"]])
        wrong = 100 - 100 * (right[right >= 0] > 0).mean()
        if row["protocol"] == "cam2016":
            assert row["gt_known_error"] == pytest.approx(wrong)
        if row["protocol"] == "choe2020-v2":
            assert row["by_iou"][1]["gt_known_error"] == pytest.approx(wrong)
    assert main(["eval", f"run={copy}", f"classes={finished_run}", *FAST]) == 0
    shutil.copytree(finished_run, tmp_path / "cam", ignore=shutil.ignore_patterns("eval"))
    both = [str(copy), str(tmp_path / "cam")]
    assert main(["report", *both, "protocol=choe2020", f"out={tmp_path / 'second'}", *QUICK]) == 0
    boxes, maps = page_of(tmp_path / "second")["runs"]
    assert boxes["predicted"] == maps["predicted"]
    assert [min(rank, 1) for rank in boxes["ranks"]] == [min(abs(rank), 1) for rank in maps["ranks"]]
    assert boxes["facts"]["classes of"] == "creatures-cam-tiny"
    assert (boxes["gives_boxes"], maps["gives_boxes"]) == (True, False)
    assert len(boxes["curves"]["gt_known"][0]) == 1 < len(maps["curves"]["gt_known"][0])
    of_page = [row for row in boxes["localization"] if row["protocol"] == "choe2020"]
    assert [(row["threshold_origin"], row["threshold"]) for row in of_page] == [("none", None)]


def test_a_report_evaluates_a_run_that_kept_no_boxes(box_run: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "run"
    shutil.copytree(box_run, copy)
    (copy / "image_results.npz").unlink()
    assert main(["report", str(copy), f"out={tmp_path / 'out'}", "limit=5", *QUICK]) == 0
    (found,) = page_of(tmp_path / "out")["runs"]
    assert {len(right) for right in found["correct"].values()} == {5}
    (evaluation,) = (copy / "eval").iterdir()
    assert not (evaluation / "maps").exists()
    damaged = np.load(evaluation / "image_results.npz")
    arrays = {key: damaged[key] for key in damaged.files}
    np.savez(evaluation / "image_results.npz", **{**arrays, "test/views": arrays["test/views"] * 2})
    capsys.readouterr()
    assert main(["report", str(copy), f"out={tmp_path / 'again'}"]) == 2
    said = capsys.readouterr().err
    assert "image_results.npz: corrupt (test-000000: an image of 64 x 64 pixels)" in said
    assert "Traceback" not in said


def test_training_needs_pseudo_boxes_and_others_refuse_them(
    pseudo: Path, data_dir: Path, tmp_path: Path, capsys
) -> None:
    words = [*SMALL_RUN, f"data_dir={data_dir}", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", *words, *BOX]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "BoxHead learns from pseudo boxes, got none" in said
    assert "wsol eval <run> split=train pseudo=boxes" in said
    assert main(["train", *words, f"pseudo={pseudo}"]) == 2
    assert "GapHead learns without pseudo targets" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_classes_of_its_own(pseudo: Path, data_dir: Path, tmp_path: Path) -> None:
    words = [*SMALL_RUN, *BOX, "method.head.classify=true", f"data_dir={data_dir}", f"pseudo={pseudo}"]
    assert main(["train", *words, f"run_dir={tmp_path / 'run'}"]) == 0
    found = results_of(tmp_path / "run")
    top1 = found["classification"]["test"]["top1_error"]
    assert found["checkpoint"] == {"file": "checkpoints/best.ckpt", "monitor": "val/top1_error"}
    cam = own(tmp_path / "run")[0]
    assert max(top1, cam["gt_known_error"]) <= cam["top1_error"] <= 100
    explained = [f"run={tmp_path / 'run'}", "explainer=gradcam", "protocol=[cam2016]", f"out={tmp_path / 'out'}", *FAST]
    assert main(["eval", *explained]) == 0
    assert own(tmp_path / "out")[0]["threshold_origin"] == "fixed"


def test_a_table_shows_the_box_with_borrowed_classes_beside_the_published_number(
    pseudo: Path, finished_run: Path, data_dir: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "small_box.yaml").write_text(EXPERIMENT)
    (tmp_path / "boxes.yaml").write_text(TABLE)
    small = [word for word in SMALL_RUN if not word.startswith("trainer.accelerator")]
    always = ["--config-dir", "mine", *small, f"data_dir={data_dir}"]
    words = ["experiment=small_box", f"pseudo={pseudo}", "trainer.accelerator=cpu", "run_dir=runs/small-box/1"]
    assert main(["train", *always, *words]) == 0
    run = tmp_path / "runs" / "small-box" / "1"

    def cells() -> dict[str, dict]:
        capsys.readouterr()
        assert main(["table", "boxes.yaml", "format=json", *always]) == 0
        return {cell["column"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}

    found = cells()
    assert found["GT-known"]["measured"] == pytest.approx(100 - own(run)[0]["gt_known_error"])
    assert found["GT-known"]["threshold"] == "none"
    assert (found["top-1"]["measured"], found["top-1"]["measured_classes"]) == (None, None)
    assert main(["table", "boxes.yaml", *always]) == 0
    assert f"wsol eval {run.relative_to(tmp_path)} classes=" in capsys.readouterr().out
    assert main(["eval", str(run), f"classes={finished_run}", *FAST]) == 0
    (evaluation,) = (run / "eval").iterdir()
    found = cells()
    assert found["top-1"]["measured"] == pytest.approx(100 - own(evaluation)[0]["top1_error"])
    assert found["top-1"]["measured_classes"] == "borrowed, creatures-cam-tiny"
    assert found["GT-known"]["measured_classes"] is None
    assert main(["table", "boxes.yaml", "format=markdown", *always]) == 0
    assert "borrowed / borrowed, creatures-cam-tiny" in capsys.readouterr().out
