"""`wsol regress`: its stages, whose boxes and classes they take, and going on after an interruption."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import wsol.engine.training
from tests.conftest import SMALL_RUN
from wsol import load
from wsol.callbacks.progress import EpochLines
from wsol.cli import main
from wsol.runs.recorded_config import read_config

FLOAT = "trainer.precision=32-true"
STAGE = f"localizer.train=[image_size=32,loader.batch_size=16,loader.num_workers=0,trainer.max_epochs=2,{FLOAT}]"


def regress(*words: str) -> int:
    return main(["regress", *SMALL_RUN, FLOAT, *words])


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def own(content: dict) -> list[dict]:
    return [row for row in content["localization"] if row["maps"] == "localizer" and row["split"] == "test"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The folder of all stages."""
    folder = tmp_path_factory.mktemp("regress") / "run"
    assert regress(STAGE, f"data_dir={data_dir}", f"run_dir={folder}") == 0
    return folder


def test_the_stages_are_what_the_other_verbs_make(run: Path, data_dir: Path, tmp_path: Path) -> None:
    words = [*SMALL_RUN, FLOAT, f"data_dir={data_dir}"]
    assert main(["train", *words, f"run_dir={tmp_path / 'cam'}"]) == 0
    assert main(["eval", str(tmp_path / "cam"), "split=train", "pseudo=boxes", f"out={tmp_path / 'pseudo'}"]) == 0
    learned = [*words, "method=psol", f"pseudo={tmp_path / 'pseudo'}", f"run_dir={tmp_path / 'psol'}"]
    assert main(["train", *learned]) == 0
    assert (run / "pseudo" / "boxes.csv").read_text() == (tmp_path / "pseudo" / "boxes.csv").read_text()
    for stage, alone in (("localizer", "cam"), ("regressor", "psol")):
        for key, value in weights(tmp_path / alone).items():
            assert torch.equal(value, weights(run / stage)[key]), key
        assert results(run / stage)["localization"] == results(tmp_path / alone)["localization"]
    borrowed = [f"classes={tmp_path / 'cam'}", "topk=[1,5]", f"out={tmp_path / 'eval'}"]
    assert main(["eval", str(tmp_path / "psol"), *borrowed]) == 0
    assert own(results(run)) == own(results(tmp_path / "eval"))


def test_results_say_whose_boxes_and_classes_they_are(run: Path) -> None:
    content = results(run)
    assert content["stages"]["evaluation"] == "evaluation"
    assert content["stages"]["localizer"].startswith(str(run / "localizer"))
    assert content["pseudo"]["threshold_origin"] == "fixed"
    assert content["classes"]["name"] == "regress-creatures-psol-tiny-localizer"
    errors = {key: value for key, value in content["classification"].items() if value}
    assert errors["test"] == results(run / "localizer")["classification"]["test"]
    assert (run / "per_image.csv").exists()


def test_other_verbs_take_its_folder_for_the_regressor(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "a.png")
    (found, same) = (load(folder, device="cpu").predict(tmp_path / "a.png") for folder in (copy, copy / "regressor"))
    assert found.map is None
    assert found.box.tolist() == same.box.tolist()
    assert main(["predict", str(copy), f"images={tmp_path / 'a.png'}", "device=cpu"]) == 0
    assert list((copy / "regressor" / "predict").rglob("predictions.csv"))
    assert main(["report", str(copy), f"out={tmp_path / 'page'}"]) == 0
    text = (tmp_path / "page" / "data" / "report.js").read_text()
    (of_page,) = json.loads(text.partition("(")[2].rpartition(")")[0])["runs"]
    assert of_page["gives_boxes"]
    assert of_page["facts"]["classes of"] == results(run)["classes"]["name"]
    assert own(of_page) == own(results(run))
    assert not (copy / "eval").exists()


def test_an_existing_run_and_an_explainer_find_the_boxes(finished_run: Path, tmp_path: Path) -> None:
    """Its dataset has moved since then."""
    words = [f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}", "method.head.classify=true"]
    where = [f"localizer.run={finished_run}", "localizer.eval=[explainer=gradcam,protocol=choe2020]"]
    assert regress(*words, *where) == 0
    content = results(tmp_path / "run")
    assert content["pseudo"]["explainer"] == "gradcam"
    assert (content["pseudo"]["threshold_origin"], content["pseudo"]["human_boxes"]) == ("fullsup", True)
    assert content["stages"]["evaluation"] == "regressor"  # it has classes of its own
    assert content["classification"] == results(tmp_path / "run" / "regressor")["classification"]
    assert not (tmp_path / "run" / "localizer").exists()
    data = [read_config(tmp_path / "run" / stage).data for stage in ("pseudo", "regressor")]
    assert data[0] == data[1] != read_config(finished_run).data


class Stop(EpochLines):
    """Stands for Ctrl-C at step 4 of a training."""

    def on_train_batch_end(self, trainer, *rest) -> None:
        super().on_train_batch_end(trainer, *rest)
        if trainer.global_step == 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stopped_in", ["localizer", "regressor"])
def test_a_stopped_command_goes_on(run: Path, tmp_path: Path, data_dir: Path, monkeypatch, stopped_in: str) -> None:
    folder, words = tmp_path / "run", [STAGE, f"data_dir={data_dir}", f"run_dir={tmp_path / 'run'}"]
    if stopped_in == "regressor":
        folder.mkdir()
        shutil.copytree(run / "localizer", folder / "localizer")
        shutil.copy(run / "config.yaml", folder)
    monkeypatch.setattr(wsol.engine.training, "EpochLines", Stop)
    assert regress(*words, "resume=true") == 130
    assert (folder / stopped_in / "checkpoints" / "last.ckpt").exists()
    assert not (folder / stopped_in / "results.json").exists()
    made = (folder / "pseudo" / "about.json").stat().st_mtime_ns if stopped_in == "regressor" else None
    monkeypatch.setattr(wsol.engine.training, "EpochLines", EpochLines)
    assert regress(*words, "resume=true") == 0
    assert made is None or (folder / "pseudo" / "about.json").stat().st_mtime_ns == made
    for stage in ("localizer", "regressor"):
        for key, value in weights(run / stage).items():
            assert torch.equal(value, weights(folder / stage)[key]), key
    assert results(folder)["localization"] == results(run)["localization"]
    assert not list(folder.rglob("*.partial*"))


def test_a_finished_command_prints_its_results(run: Path, data_dir: Path, capsys) -> None:
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()}
    assert regress(STAGE, f"data_dir={data_dir}", f"run_dir={run}", "resume=true") == 0
    assert "regress-creatures-psol-tiny" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()} == before


BAD = [
    (["method=cam"], "GapHead learns without pseudo targets"),
    (["pseudo=somewhere"], "wsol regress makes the pseudo targets; to use existing ones, run wsol train"),
    (["localizer.train=[seed=1]"], "both networks share seed; set it outside"),
    (["localizer.train=[data.size=64]"], "both networks share data.size"),
    (["localizer.eval=[split=test]"], "wsol regress sets split itself"),
    (["localizer.run=runs/x", "localizer.train=[method=acol]"], "no localizer is trained if localizer.run"),
    (["localizer.runn=x"], "did you mean 'localizer.run'"),
    (["monitor=test/top1_error"], "nothing is chosen on the test split"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_words_are_refused_and_leave_nothing(tmp_path: Path, data_dir: Path, capsys, words, message) -> None:
    assert regress(f"data_dir={data_dir}", f"run_dir={tmp_path / 'run'}", *words) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists()


def test_processes_of_torchrun_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert regress(f"run_dir={tmp_path / 'run'}") == 2
    assert "trainer=ddp" in capsys.readouterr().err
