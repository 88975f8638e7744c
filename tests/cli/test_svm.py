"""`wsol svm` on a small run, on a backbone without a head, and on data of other classes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from sklearn.svm import LinearSVC

from wsol.cli import main
from wsol.data.datasets.creatures import Creatures
from wsol.data.transforms import ResizeSquare
from wsol.engine.module import LocalizerModule
from wsol.engine.recognition import crop
from wsol.functional.geometry import Geometry
from wsol.protocols import protocol
from wsol.runs import checkpoints

SCENES = ("data=scene15", "data.root={colours}", "data.train_per_class=5")
QUICK = ("num_workers=0", "device=cpu")


def svm(*words: str) -> int:
    return main(["features", "svm", *QUICK, *words])


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of images of one class each, told by their colour."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for name, colour in (("red", (220, 40, 40)), ("green", (40, 220, 40)), ("blue", (40, 40, 220))):
        for k in range(8):
            noise = rng.integers(-40, 40, (24, 24, 3))
            (root / name).mkdir(exist_ok=True)
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(root / name / f"{k}.png")
    return root


def test_whole_images_and_crops_of_a_run(finished_run: Path, tmp_path: Path, capsys) -> None:
    assert svm(f"run={finished_run}", "crops=[whole,map,box]", f"out={tmp_path}") == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["svm"]) == ["whole", "map", "box"]
    assert (results["maps"], results["protocol"]["name"]) == ("localizer", "cam2016")
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert len(rows) == results["data"]["test"]["images"] == 24
    for crops, row in results["svm"].items():
        right = [line[crops] == line["class"] for line in rows]
        assert row["accuracy"] == pytest.approx(100 * np.mean(right))
        low, high = row["intervals"]["accuracy"]
        assert low <= row["accuracy"] <= high
        means = [
            np.mean([is_right for is_right, line in zip(right, rows, strict=True) if line["class"] == name])
            for name in {line["class"] for line in rows}
        ]
        assert row["mean_class_accuracy"] == pytest.approx(100 * np.mean(means))
    shown = capsys.readouterr().out
    assert "8 classes, 48 training and 24 test images" in shown
    assert "map (of the localizer)" in shown


@pytest.mark.parametrize("words", [(), ("train_on=whole",), ("maps=svm",)], ids=" ".join)
def test_predictions_are_those_of_a_slow_pipeline(finished_run: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Image by image: map, box, crop, features; then scikit-learn."""
    assert svm(f"run={finished_run}", "crops=[whole,map,box]", f"out={tmp_path}", *words) == 0
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    data = OmegaConf.load(finished_run / "config.yaml").data
    source = Creatures(**{key: value for key, value in data.items() if key != "_target_"})
    file = finished_run / "checkpoints" / "best.ckpt"
    module = LocalizerModule(checkpoints.load_localizer(checkpoints.read(file), file)[0]).eval()
    transform, rule = ResizeSquare(32), protocol("cam2016")

    def ask(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            _, output, logits = module.scores(torch.from_numpy(transform(image).copy())[None])
            own = module.localizer.maps(output, logits.argmax(1)[:, None])[0, 0].numpy()
        return output.state["features"][0].numpy(), own

    def described(images: list[np.ndarray]) -> np.ndarray:
        pooled = np.stack([ask(image)[0].mean((1, 2)) for image in images]).astype(np.float64)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    whole = {name: [source.split(name).image(i) for i in range(len(source.split(name)))] for name in ("train", "test")}
    labels = source.split("train").labels

    def learned(images: list[np.ndarray]) -> LinearSVC:
        return LinearSVC(dual="auto", max_iter=1_000, random_state=0).fit(described(images), labels)

    by_whole = learned(whole["train"])
    cut: dict[str, dict[str, list[np.ndarray]]] = {"whole": whole, "map": {}, "box": {}}
    for name, images in whole.items():
        split = source.split(name)
        cut["box"][name] = [crop(image, split.truth(i).half_open[0]) for i, image in enumerate(images)]
        cut["map"][name] = []
        for image in images:
            cells, score_map = ask(image)
            if "maps=svm" in words:
                weights = by_whole.coef_[by_whole.decision_function(described([image]))[0].argmax()]
                score_map = np.einsum("chw,c->hw", cells, weights)
            box = rule.predict(score_map, Geometry.square((32, 32), 32))[0]
            cut["map"][name].append(crop(image, box))
    for kind, of_kind in cut.items():
        fitted = by_whole if "train_on=whole" in words else learned(of_kind["train"])
        expected = [source.classes[label] for label in fitted.predict(described(of_kind["test"]))]
        same = np.mean([row[kind] == name for row, name in zip(rows, expected, strict=True)])
        assert same > 0.95, kind  # rounding may move a box, or a score that is nearly equal


def test_the_results_do_not_depend_on_the_batch_size(finished_run: Path, tmp_path: Path) -> None:
    for size in (5, 64):
        assert svm(f"run={finished_run}", "crops=[map]", f"batch_size={size}", f"out={tmp_path / str(size)}") == 0
    assert (tmp_path / "5/predictions.csv").read_text() == (tmp_path / "64/predictions.csv").read_text()


@pytest.mark.parametrize("words", [("train_on=whole",), ("maps=svm",), ("point=conv2",), ("C=[0.1,10]", "l2=false")])
def test_options_act_and_are_recorded(finished_run: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert svm(f"run={finished_run}", "crops=[whole,map]", f"out={tmp_path}", *words) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["train_on"] == ("whole" if "train_on=whole" in words else "same")
    assert results["maps"] == ("svm" if "maps=svm" in words else "localizer")
    assert results["features"] == (32 if "point=conv2" in words else 64)
    assert results["svm"]["whole"]["C"] in ((0.1, 10.0) if "C=[0.1,10]" in words else (1.0,))


def test_a_bare_backbone_on_drawn_folders(colours: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["data=caltech101", f"data.root={colours}", "data.train_per_class=5"]
    assert svm("backbone=tiny", *data, "image_size=32", "crops=[whole,map]", "C=100") == 0
    (folder,) = (tmp_path / "runs" / "features-tiny" / "svm").iterdir()
    results = json.loads((folder / "results.json").read_text())
    assert (results["classes"], results["maps"]) == (3, "svm")
    assert results["data"]["train"]["images"] == 15
    assert results["svm"]["whole"]["accuracy"] == 100, "even random weights tell red from green"


def test_a_run_describes_data_of_other_classes(finished_run: Path, colours: Path, tmp_path: Path) -> None:
    data = ["data=scene15", f"data.root={colours}", "data.train_per_class=5"]
    assert svm(f"run={finished_run}", *data, "image_size=32", f"out={tmp_path}", "C=100") == 0
    assert json.loads((tmp_path / "results.json").read_text())["classes"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "which network? wsol features svm <run>, or backbone=resnet50"),
        (("run={run}", "backbone=tiny"), "run=... or backbone=..., not both"),
        (("run={run}", "crops=[hole]"), "unknown crops 'hole': did you mean 'whole'"),
        (("run={run}", "crops=[]"), "crops: expected some of whole, map, box, got none"),
        (("run={run}", "train_on=crops"), "unknown train_on 'crops'"),
        (("run={run}", "crops=map", "maps=concept"), "unknown maps 'concept'"),
        (("run={run}", "crops=map", "threshold=1"), "threshold: expected a number in [0, 1)"),
        (("run={run}", "crops=map", "protocol=choe2020"), "protocol=choe2020 has no fixed threshold"),
        (("run={run}", "crops=map", "protocol=[cam2016,ilsvrc]"), "protocol: expected one"),
        (("run={run}", "batch_size=0"), "batch_size: expected at least 1"),
        (("run={run}", "point=conv9"), "unknown layer 'conv9': did you mean"),
        (("run={run}", "C=-1"), "C: expected a number above 0"),
        (("run={run}", "out={run}"), "is not an empty folder, and not an earlier output of `wsol features svm`"),
        (("backbone=tiny", *SCENES, "maps=localizer"), "maps=localizer: a backbone without a head has no classes"),
        (("backbone=tiny",), "no transform: choose transform=square, or a dataset"),
        (("run={run}", *SCENES, "crops=box"), "crops=box: image"),
        (("run={run}", "data=folder", "data.root={colours}"), "split 'test': the dataset has train only"),
    ],
)
def test_bad_input_is_one_clear_message(
    finished_run: Path, colours: Path, tmp_path: Path, capsys, words: tuple[str, ...], message: str
) -> None:
    given = [word.format(run=finished_run, colours=colours) for word in words]
    out = [] if any(word.startswith("out=") for word in given) else [f"out={tmp_path / 'out'}"]
    assert svm(*given, *out) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def test_a_bad_image_is_named(finished_run: Path, colours: Path, tmp_path: Path, capsys) -> None:
    for file in colours.rglob("*.png"):
        copy = tmp_path / "data" / file.relative_to(colours)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes() if file.name != "3.png" else b"")
    data = ["data=scene15", f"data.root={tmp_path / 'data'}", "data.train_per_class=5"]
    assert svm(f"run={finished_run}", *data, f"out={tmp_path / 'out'}") == 2
    assert "3.png" in capsys.readouterr().err
