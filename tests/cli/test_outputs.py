"""Every verb that writes a folder decides by one rule what it may write over, and leaves no half of anything."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import left_behind
from wsol.cli import main
from wsol.runs import MARKER, OutputFolder

MADE = {
    "eval": ("config.yaml", "image_results.npz", "maps", "per_image.csv", "pictures.png", "results.json"),
    "predict": ("bad_images.csv", "coco_images.json", "coco_results.json", "maps", "overlays", "predictions.csv"),
    "score": ("per_image.csv", "results.json"),
    "report": ("data", "index.html", "page", "pictures"),
    "features svm": ("config.yaml", "predictions.csv", "results.json"),
    "features units": ("0000-species0.png", "config.yaml", "units.csv", "units.json"),
    "features concept": ("concept.npz", "config.yaml", "overlays", "results.json", "scores.csv", "sheet.png"),
    "convert": ("checkpoints", "config.yaml"),
}
"""What each verb writes here, beside the marker."""


@pytest.fixture(scope="module")
def words(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """A command line for each verb, without ``out``."""
    place = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for name in ("photos", "with", "without"):
        (place / name).mkdir()
        for i in range(4):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / name / f"{i}.png")
    (place / "photos" / "bad.png").write_bytes(b"no image")
    evaluated, weights = place / "evaluated", place / "net.safetensors"
    evaluating = [f"run={finished_run}", "save_maps=true", "num_workers=0", "trainer.accelerator=cpu"]
    assert main(["eval", *evaluating, f"out={evaluated}"]) == 0
    assert main(["convert", f"weights={finished_run / 'checkpoints' / 'best.ckpt'}", f"out={weights}"]) == 0
    looking = [f"run={finished_run}", "num_workers=0", "device=cpu"]
    return {
        "eval": evaluating,
        "predict": [f"run={finished_run}", f"images={place / 'photos'}", "device=cpu"],
        "score": [f"maps={evaluated}"],
        "report": [str(evaluated)],
        "features svm": looking,
        "features units": [*looking, "classes=[0]"],
        "features concept": [*looking, f"positives={place / 'with'}", f"negatives={place / 'without'}"],
        "convert": [f"weights={weights}"],
    }


def made(out: Path) -> tuple[str, ...]:
    return tuple(sorted(name for name in os.listdir(out) if name != MARKER))


@pytest.mark.parametrize("verb", MADE)
def test_nothing_of_anybody_else_is_touched(verb: str, words: dict, tmp_path: Path, capsys, monkeypatch) -> None:
    """A foreign file or folder of each name that the verb writes, and of any other name, in the working directory."""
    code = 1 if verb == "predict" else 0  # a bad image among the others
    for number, name in enumerate((*MADE[verb], "notes")):
        folder = tmp_path / str(number)
        mine = folder / name / "mine.txt" if number % 2 else folder / name
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        monkeypatch.chdir(folder)
        assert main([*verb.split(), *words[verb], "out=.", "force=true"]) == 2
        assert f"not an earlier output of `wsol {verb}`" in capsys.readouterr().err
        assert [file for file in folder.rglob("*") if file.is_file()] == [mine]
        assert mine.read_text() == "mine"
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    assert main([*verb.split(), *words[verb], f"out={out}"]) == code
    assert made(out) == MADE[verb]
    (out / "notes").write_text("mine")
    assert main([*verb.split(), *words[verb], f"out={out}", "force=true"]) == 2
    assert "wrote it, but not notes; move what is yours elsewhere" in capsys.readouterr().err
    assert made(out) == tuple(sorted((*MADE[verb], "notes")))


@pytest.mark.parametrize("verb", MADE)
def test_a_command_that_failed_or_was_killed_can_be_given_again(
    verb: str, words: dict, tmp_path: Path, capsys, monkeypatch
) -> None:
    """The disk is full when all is written; or the process is gone, and its hidden folder is left. Then all is well."""
    code = 1 if verb == "predict" else 0
    out = tmp_path / "out"
    command = [*verb.split(), *words[verb], f"out={out}"]
    publish = OutputFolder._publish

    def full(self: OutputFolder, prepared: Path, *_: object) -> None:
        assert made(prepared) == MADE[verb]
        raise OSError(28, "No space left on device", str(prepared))

    monkeypatch.setattr(OutputFolder, "_publish", full)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "Traceback" not in error
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(OutputFolder, "_publish", publish)
    (left_behind(out) / "checkpoints").mkdir(parents=True)
    assert main(command) == code
    assert os.listdir(tmp_path) == ["out"]
    assert made(out) == MADE[verb]
    marker = json.loads((out / MARKER).read_text())
    assert marker["verb"] == verb
    assert {Path(name).parts[0] for name in marker["files"]} == set(MADE[verb])
    before = (out / MARKER).stat().st_mtime_ns
    assert main(command) == 2
    assert "replace it with force=true" in capsys.readouterr().err
    assert main([*command, "force=true"]) == code
    assert made(out) == MADE[verb]
    assert (out / MARKER).stat().st_mtime_ns > before
    assert os.listdir(tmp_path) == ["out"]


def test_unfinished_evaluations_are_not_read(finished_run: Path, words: dict, tmp_path: Path, capsys) -> None:
    """Maps and results in a hidden folder below a run, as `wsol eval` leaves them when it is killed."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run, ignore=shutil.ignore_patterns("eval"))  # of other tests
    evaluated = Path(words["report"][0])
    shutil.copytree(evaluated, hidden := left_behind(run / "eval" / "output"))
    results = json.loads((hidden / "results.json").read_text())
    for row in results["localization"]:
        row["protocol"] = "half"
    (hidden / "results.json").write_text(json.dumps(results))
    from wsol.tables.collect import collect

    (found,) = collect(tmp_path)
    assert "half" not in {row["protocol"] for row in found.results()["localization"]}
    assert main(["report", str(run), "num_workers=0", f"out={tmp_path / 'page'}"]) == 0
    assert "no saved maps or boxes of the test split" in capsys.readouterr().err
    assert not hidden.exists(), "the evaluation that makes the maps removes it"
