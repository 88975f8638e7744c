"""`wsol units` on a small run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.data.datasets.creatures import Creatures
from wsol.data.transforms import ResizeSquare
from wsol.engine.module import LocalizerModule
from wsol.functional.drawing import CAPTION, GAP, TILE
from wsol.runs import checkpoints


def units(*words: str) -> int:
    return main(["features", "units", "num_workers=0", "device=cpu", *words])


def test_every_class_has_its_sheet_and_its_numbers(finished_run: Path, tmp_path: Path, capsys) -> None:
    assert units(f"run={finished_run}", "units=3", "images=4", f"out={tmp_path}", "batch_size=5") == 0
    content = json.loads((tmp_path / "units.json").read_text())
    rows = list(csv.DictReader((tmp_path / "units.csv").open()))
    file = finished_run / "checkpoints" / "best.ckpt"
    localizer, _ = checkpoints.load_localizer(checkpoints.read(file), file)
    module = LocalizerModule(localizer).eval()
    data = OmegaConf.load(finished_run / "config.yaml").data
    split = Creatures(**{key: value for key, value in data.items() if key != "_target_"}).split("test")
    pixels = np.stack([ResizeSquare(32)(split.image(i)) for i in range(len(split))])
    with torch.no_grad():
        _, output, _ = module.scores(torch.from_numpy(pixels))
    strongest = output.state["features"].amax((2, 3))
    assert list(content["classes"]) == list(localizer.classes)
    assert len(rows) == 8 * 3 * 4
    for label, of_class in enumerate(content["classes"].values()):
        weights = localizer.head.classifier.weight[label].detach()
        assert [one["unit"] for one in of_class] == weights.topk(3).indices.tolist()
        for one in of_class:
            assert one["weight"] == pytest.approx(float(weights[one["unit"]]))
            values = [image["activation"] for image in one["images"]]
            np.testing.assert_allclose(values, strongest[:, one["unit"]].topk(4).values.tolist(), rtol=1e-4)
            for image in one["images"]:
                x0, y0, x1, y1 = image["box"]
                assert 0 <= x0 < x1 <= 32
                assert 0 <= y0 < y1 <= 32
    sheets = sorted(tmp_path.glob("*.png"))
    assert [file.name[:5] for file in sheets] == [f"{label:04d}-" for label in range(8)]
    shown = cv2.imread(str(sheets[0]))
    assert shown.shape == (CAPTION + GAP + 3 * (CAPTION + TILE + GAP), 4 * (TILE + GAP) + GAP, 3)
    assert (shown[CAPTION * 2 + GAP + TILE // 2, GAP + TILE // 2] < 250).any(), "a picture lies in the first tile"
    assert "8 classes, 24 images searched" in capsys.readouterr().out


def test_some_classes_of_another_split(finished_run: Path, tmp_path: Path) -> None:
    names = json.loads((finished_run / "results.json").read_text())["data"]
    assert names["classes"] == 8
    assert units(f"run={finished_run}", "classes=[species3,0]", "split=val", f"out={tmp_path}") == 0
    assert [file.name for file in sorted(tmp_path.glob("*.png"))] == ["0000-species0.png", "0003-species3.png"]
    content = json.loads((tmp_path / "units.json").read_text())
    assert content["split"] == "val"
    assert list(content["classes"]) == ["species3", "species0"]


def test_ten_crops_show_regions_of_the_whole_image(finished_run: Path, tmp_path: Path) -> None:
    """A transform may be chosen without data, as in `wsol eval`."""
    words = ["transform=ten_crop", "transform.eval.resize=30", "image_size=24", "classes=[1]", "units=2"]
    assert units(f"run={finished_run}", *words, f"out={tmp_path}") == 0
    boxes = [
        image["box"]
        for one in json.loads((tmp_path / "units.json").read_text())["classes"]["species1"]
        for image in one["images"]
    ]
    assert len(boxes) == 12
    assert all(0 <= x0 < x1 <= 32 and 0 <= y0 < y1 <= 32 for x0, y0, x1, y1 in boxes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("units=0",), "units, images: expected numbers from 1"),
        (("threshold=1.5",), "threshold: expected a number in [0, 1)"),
        (("classes=[species9]",), "unknown class 'species9': did you mean"),
        (("classes=[8]",), "class 8: expected a class of the network, 0..7"),
        (("split=tset",), "split 'tset': the dataset has train, val, test only"),
        (("out={run}",), "is not an empty folder"),
    ],
)
def test_bad_input_is_one_clear_message(
    finished_run: Path, tmp_path: Path, capsys, words: tuple[str, ...], message: str
) -> None:
    given = [word.format(run=finished_run) for word in words]
    out = [] if any(word.startswith("out=") for word in given) else [f"out={tmp_path / 'out'}"]
    assert units(f"run={finished_run}", *given, *out) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_run_and_no_linear_head(tmp_path: Path, data_dir: Path, capsys) -> None:
    assert units() == 2
    assert "which network? wsol features units <run>\n" in capsys.readouterr().err
    words = [*SMALL_RUN, f"data_dir={data_dir}", "method=acol", "method.head.width=8", "trainer.max_epochs=1"]
    assert main(["train", *words, f"run_dir={tmp_path / 'run'}"]) == 0
    assert units(f"run={tmp_path / 'run'}") == 2
    assert "AcolHead has no linear classifier on its features" in capsys.readouterr().err


def test_the_runs_dataset_may_lie_elsewhere(finished_run: Path, data_dir: Path, tmp_path: Path) -> None:
    words = [f"run={finished_run}", "classes=[0]", "units=1", "images=1", "num_workers=0", "device=cpu"]
    assert main(["features", "units", *words, f"out={tmp_path / 'here'}"]) == 0
    assert main(["features", "units", *words, f"out={tmp_path / 'there'}", f"data_dir={tmp_path / 'made'}"]) == 0
    assert (tmp_path / "made" / "creatures").is_dir()  # drawn again where it was asked for
    assert (tmp_path / "there" / "units.csv").read_text() == (tmp_path / "here" / "units.csv").read_text()
