"""A method that learns without classes, from the command line: trained, evaluated, predicted, exported."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.runs import checkpoints

SMALL = [word for word in SMALL_RUN if "max_epochs" not in word]
QUICK = ["num_workers=0", "trainer.accelerator=cpu"]
METHOD = ["method=c2am", "protocol=choe2020", "trainer.max_epochs=1"]


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("c2am") / "run"
    assert main(["train", *SMALL, *METHOD, f"data_dir={data_dir}", f"run_dir={folder}"]) == 0
    return folder


def test_the_last_checkpoint_is_evaluated_and_no_top_k_reported(run: Path) -> None:
    found = results_of(run)
    assert found["checkpoint"] == {"file": "checkpoints/last.ckpt", "monitor": None}
    assert found["classification"] == {"val": {}, "test": {}}
    own = [row for row in found["localization"] if row["maps"] == "localizer"]
    assert all(row["class_agnostic"] is True and "top1_error" not in row for row in own)
    assert "the network does not classify, so the last checkpoint is evaluated" in (run / "run.log").read_text()
    with (run / "metrics.csv").open() as lines:
        assert not [name for name in csv.DictReader(lines).fieldnames or () if "top1" in name]
    localizer, _ = checkpoints.load_localizer(checkpoints.read(run / "checkpoints" / "last.ckpt"), run)
    assert localizer.head.border.abs() > 0


def test_evaluated_predicted_and_exported(wsol, run: Path, data_dir: Path, finished_run: Path, tmp_path) -> None:
    words = [str(run), f"data_dir={data_dir}", *QUICK]
    assert wsol("eval", *words, "save_maps=true", f"out={tmp_path / 'own'}") == 0
    kinds = results_of(tmp_path / "own")["error_kinds"]["choe2020"]
    assert all(shares["right box, wrong class"] == 0 for shares in kinds.values())
    assert wsol("eval", *words, f"classes={finished_run}", "topk=[1]", f"out={tmp_path / 'borrowed'}") == 0
    top1 = results_of(finished_run)["classification"]["test"]["top1_error"]
    assert results_of(tmp_path / "borrowed")["classification"]["test"]["top1_error"] == top1
    image = tmp_path / "own" / "pictures.png"
    assert wsol("predict", str(run), f"images={image}", "threshold=0.5", f"out={tmp_path / 'found'}") == 0
    with (tmp_path / "found" / "predictions.csv").open() as lines:
        assert [row["class"] for row in csv.DictReader(lines)] == ["object"]
    assert wsol("export", str(run), "format=torch_export", f"out={tmp_path / 'a.pt2'}") == 0
    assert wsol("export", str(run), "format=torch_export", "top=2", f"out={tmp_path / 'b.pt2'}") == 2


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("train", ["label_smoothing=0.1"], "label_smoothing=0.1: the network learns without classes"),
        ("train", ["class_weights=auto"], "class_weights: C2amHead learns without classes"),
        ("train", ["monitor=val/top5_error"], "unknown monitor 'val/top5_error'"),
        ("ae", ["rounds=2"], "method=c2am: does not classify; wsol ae hides from a classifier"),
    ],
)
def test_what_is_about_classes_is_refused(data_dir, tmp_path, capsys, verb, words, message) -> None:
    assert main([verb, *SMALL, *METHOD, f"data_dir={data_dir}", f"run_dir={tmp_path / 'run'}", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
