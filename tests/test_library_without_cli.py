"""What the verbs do, from Python: results come back, nothing is printed, and `wsol.cli` is not imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import SMALL_RUN

PROGRAM = """
import json, sys
from pathlib import Path

from wsol.config.compose import compose
from wsol.engine import challenge_kit, conversion, map_scoring, network_export, prediction_files, run_evaluation
from wsol.engine import training
from wsol.features import svm_evaluation
from wsol.patterns import concept_learning, unit_sheets
from wsol.report.report_runs import report
from wsol.tables.layout import find_layout, read_layout
from wsol.tables.paper_table import PaperTable

words, told, found = json.loads(sys.argv[1]), set(), {}


def progress(what, done, total):
    assert 0 < done <= total, (what, done, total)
    told.add(what)


quick = ["num_workers=0", "device=cpu"]
run = training.run(compose("train", [*words, "experiment=demo", "run_dir=runs/one", "trainer.max_epochs=1"]))
found["train"] = str(run)
saved = ["save_maps=true", "out=eval", "num_workers=0", "trainer.accelerator=cpu"]
found["eval"] = str(run_evaluation.run(compose("eval", [f"run={run}", *saved])))
scored = compose("score", ["maps=eval/maps/test", "protocol=cam2016", "out=score"])
scored.data, scored.data_dir = compose("train", [*words, "experiment=demo"]).data, None
found["score"] = str(map_scoring.run(scored, progress))

names = []
predicted = prediction_files.run(
    compose("predict", [f"run={run}", "images=photos", "out=predict", "device=cpu"]),
    progress=progress,
    on_prediction=lambda prediction, name: names.append(name),
)
found["predict"] = [str(predicted.folder), predicted.images, names, [image.file.name for image in predicted.unreadable]]
svm = svm_evaluation.run(compose("svm", [f"run={run}", "crops=[whole,box]", "out=svm", *quick]), progress)
found["svm"] = [str(svm.folder), svm.results["svm"]]
units = unit_sheets.run(compose("units", [f"run={run}", "units=2", "images=2", "out=units", *quick]), progress)
found["units"] = [str(units.folder), units.units, units.images]
examples = ["positives=with", "negatives=without", "C=100", "out=concept", *quick]
concept = concept_learning.run(compose("concept", [f"run={run}", *examples]), progress)
found["concept"] = [str(concept.folder), concept.results["held out"]]
converted = conversion.run(compose("convert", [f"weights={run}/checkpoints/last.ckpt", "out=one.safetensors"]))
found["convert"] = [str(converted.path), len(converted.network.checkpoint["state_dict"])]
exported = network_export.run(compose("export", [f"run={run}", "format=torch_export", "out=model.pt2"]))
found["export"] = [str(exported.file), exported.difference]
Path("guesses.txt").write_text("1 0 0 9 9\\n")
try:
    challenge_kit.run(compose("kit", ["predictions=guesses.txt"]))
except Exception as error:
    found["kit"] = str(error)
written = report([run], compose("report", ["limit=5", "out=report", "num_workers=0"]), progress)
found["report"] = [str(written.folder), written.images]
table = PaperTable(read_layout(find_layout("mine.yaml")), [*words, "trainer.max_epochs=1"], Path("runs"), [])
found["table"] = [[value.measured for value in table.values()], table.missing()]

found["told"] = sorted(told)
found["cli"] = sorted(name for name in sys.modules if name.startswith("wsol.cli"))
Path("found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The folder in which a program without the command line did all of it."""
    folder = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(0)
    for i in range(4):
        for name in ("with", "without", "photos"):
            image = rng.integers(80, 176, (32, 32, 1)).repeat(3, 2).astype(np.uint8)
            if name == "with":
                image[2:14, 2:14] = (250, 10, 10)
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / name / f"{i}.png")
    (folder / "photos" / "broken.png").write_bytes(b"no image")
    (folder / "mine.yaml").write_text(
        "title: t\nsource: s\nseeds: [0, 1]\n"
        "columns: {GT-known: {metric: gt_known_error, protocol: cam2016, threshold: fixed}}\n"
        "rows: [{label: CAM, experiment: demo}]\n"
    )
    words = [*(word for word in SMALL_RUN if "max_epochs" not in word), f"data_dir={data_dir}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(words)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    (folder / "stdout.txt").write_text(ended.stdout)
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, Any]:
    return json.loads((place / "found.json").read_text())


def localization(folder: Path) -> list[float]:
    rows = json.loads((folder / "results.json").read_text())["localization"]
    chosen = [row for row in rows if (row["split"], row["protocol"], row["maps"]) == ("test", "cam2016", "localizer")]
    return [row["gt_known_error"] for row in chosen if row["threshold_origin"] == "fixed"]


def test_the_command_line_is_not_imported_and_nothing_is_printed(place: Path, found: dict[str, Any]) -> None:
    assert found["cli"] == []
    assert (place / "stdout.txt").read_text() == ""


def test_training_evaluation_and_saved_maps_agree(place: Path, found: dict[str, Any]) -> None:
    own = localization(place / found["train"])
    assert len(own) == 1
    assert localization(place / found["eval"]) == localization(place / found["score"]) == own
    assert found["table"][0] == pytest.approx(own)


def test_a_table_knows_what_is_missing(found: dict[str, Any]) -> None:
    (missing,) = found["table"][1]
    assert missing[0] == "train"
    assert "seed=1" in missing


def test_predictions_come_back_and_unreadable_images_are_named(place: Path, found: dict[str, Any]) -> None:
    folder, images, names, unreadable = found["predict"]
    assert (images, len(names), unreadable) == (5, 4, ["broken.png"])
    assert len((place / folder / "predictions.csv").read_text().splitlines()) == 5


def test_features_units_and_concepts_come_back_as_numbers(place: Path, found: dict[str, Any]) -> None:
    folder, accuracies = found["svm"]
    assert list(accuracies) == ["whole", "box"]
    assert json.loads((place / folder / "results.json").read_text())["svm"] == accuracies
    folder, units, images = found["units"]
    content = json.loads((place / folder / "units.json").read_text())["classes"]
    assert {name: [one["unit"] for one in of_class] for name, of_class in content.items()} == units
    assert images == 24
    folder, held_out = found["concept"]
    assert json.loads((place / folder / "results.json").read_text())["held out"] == held_out


def test_networks_are_converted_and_exported(place: Path, found: dict[str, Any]) -> None:
    path, tensors = found["convert"]
    assert tensors
    assert (place / path).stat().st_size
    path, difference = found["export"]
    assert (place / path).stat().st_size
    assert 0 <= difference < 1e-3


def test_a_report_is_written(place: Path, found: dict[str, Any]) -> None:
    folder, images = found["report"]
    assert images == 5
    assert (place / folder / "index.html").is_file()


def test_an_error_is_the_same_message(found: dict[str, Any]) -> None:
    assert found["kit"].startswith("which devkit_synsets?")


def test_progress_is_told_of_all_that_takes_long(found: dict[str, Any]) -> None:
    told = " / ".join(found["told"])
    for what in ("predict", "units, test", "maps, ", "pictures", "image by image"):
        assert what in told
