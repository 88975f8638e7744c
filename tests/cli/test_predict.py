"""`wsol predict` on a small finished run and pictures of all kinds."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from wsol.cli import main
from wsol.data.datasets.creatures import Creatures
from wsol.data.images import read_image
from wsol.data.transforms import ResizeSquare
from wsol.engine.module import LocalizerModule
from wsol.functional.geometry import Geometry
from wsol.functional.maps import place
from wsol.interop.coco import HEADER
from wsol.protocols import protocol
from wsol.runs import checkpoints


@pytest.fixture(scope="module")
def photos(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five test images of several sizes, in folders."""
    data = OmegaConf.load(finished_run / "config.yaml").data
    split = Creatures(**{key: value for key, value in data.items() if key != "_target_"}).split("test")
    folder = tmp_path_factory.mktemp("photos")
    for i, size in enumerate([(32, 32), (50, 40), (21, 90), (64, 64), (33, 20)]):
        file = folder / ("a" if i < 3 else "b") / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(split.image(i)).resize(size).save(file)
    return folder


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "predictions.csv").read_text())))


def predict(run: Path, out: Path, *words: str) -> int:
    return main(["predict", f"run={run}", f"out={out}", "device=cpu", *words])


def test_every_file_says_the_same_as_the_network(finished_run: Path, photos: Path, tmp_path: Path, capsys) -> None:
    assert predict(finished_run, tmp_path, f"images={photos}", "maps=npy") == 0
    rows = table(tmp_path)
    assert tuple(rows[0]) == HEADER
    assert [Path(row["image"]).name for row in rows] == [f"{i}.png" for i in range(5)]
    checkpoint = finished_run / "checkpoints" / "best.ckpt"
    localizer, _ = checkpoints.load_localizer(checkpoints.read(checkpoint), checkpoint)
    module, rule, transform = LocalizerModule(localizer).eval(), protocol("cam2016"), ResizeSquare(32)
    for row in rows:
        image = read_image(row["image"])
        size = image.shape[1], image.shape[0]
        assert (int(row["width"]), int(row["height"])) == size
        with torch.no_grad():
            logits, maps = module.maps(torch.from_numpy(transform(image).copy())[None], lambda x: x.argmax(1)[:, None])
        label = int(logits.argmax())
        assert (row["class"], int(row["index"])) == (localizer.classes[label], label)
        assert float(row["score"]) == pytest.approx(logits.softmax(1)[0, label].item(), rel=1e-3)
        view = Geometry.square(size, 32)
        box = rule.predict(maps[0, 0, 0].numpy(), view)[0]
        assert [float(row[key]) for key in ("x0", "y0", "x1", "y1")] == pytest.approx(box, abs=1.01)
        whole = place(maps[0, 0, 0].numpy(), view, Geometry.whole(size), scaling=rule.scaling)
        name = Path(row["image"]).relative_to(photos)
        np.testing.assert_allclose(np.load(tmp_path / "maps" / f"{name}.npy"), whole, atol=1e-3)
        shown = cv2.imread(str(tmp_path / "overlays" / f"{name}.png"))
        assert shown.shape == image.shape
        assert f"{row['image']}: {row['class']}" in capsys.readouterr().out or row is not rows[0]


def test_coco_files_fit_together(finished_run: Path, photos: Path, tmp_path: Path) -> None:
    assert predict(finished_run, tmp_path, f"images={photos}", "top=3", "maps=none", "overlays=false") == 0
    results = json.loads((tmp_path / "coco_results.json").read_text())
    images = json.loads((tmp_path / "coco_images.json").read_text())
    names = {image["id"]: image["file_name"] for image in images["images"]}
    classes = {category["id"]: category["name"] for category in images["categories"]}
    rows = table(tmp_path)
    assert len(results) == len(rows) == 15
    for result, row in zip(results, rows, strict=True):
        assert (names[result["image_id"]], classes[result["category_id"]]) == (row["image"], row["class"])
        x, y, width, height = result["bbox"]
        corners = [float(row[key]) for key in ("x0", "y0", "x1", "y1")]
        assert [x, y, x + width, y + height] == pytest.approx(corners, abs=1e-2)
    assert not (tmp_path / "maps").exists()
    assert not (tmp_path / "overlays").exists()


def test_no_batch_size_changes_a_prediction(finished_run: Path, photos: Path, tmp_path: Path) -> None:
    for size in (1, 2, 32):
        words = [f"images={photos}", f"batch_size={size}", "maps=none", "overlays=false"]
        assert predict(finished_run, tmp_path / str(size), *words) == 0
    read = {size: table(tmp_path / str(size)) for size in (1, 2, 32)}
    for row in (row for rows in read.values() for row in rows):
        row["score"] = f"{float(row['score']):.3f}"
    assert read[1] == read[2] == read[32]


def test_a_bad_file_is_reported_and_the_others_go_on(finished_run: Path, photos: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "in").mkdir()
    for file in photos.rglob("*.png"):
        (tmp_path / "in" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "in" / "0.png").write_bytes(b"")
    (tmp_path / "in" / "3.png").write_bytes((photos / "b" / "3.png").read_bytes()[:200])
    assert predict(finished_run, tmp_path / "out", f"images={tmp_path / 'in'}", "batch_size=2") == 1
    assert [Path(row["image"]).name for row in table(tmp_path / "out")] == ["1.png", "2.png", "4.png"]
    bad = (tmp_path / "out" / "bad_images.csv").read_text().splitlines()
    assert [Path(line.split(",")[0]).name for line in bad[1:]] == ["0.png", "3.png"]
    shown = capsys.readouterr()
    assert "0.png: the file is empty" in shown.err
    assert "3 of 5 images" in shown.out


def test_when_all_files_are_bad(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert predict(finished_run, tmp_path / "out", f"images={tmp_path / 'a.jpg'}") == 1
    assert json.loads((tmp_path / "out" / "coco_results.json").read_text()) == []


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("{photos}/a/0.png", 1),
        ("{photos}/*/*.png", 5),
        ("{photos}/**/[0-1].png", 2),
        ("[{photos}/a,{photos}/b/3.png]", 4),
    ],
)
def test_images_are_named_in_many_ways(
    finished_run: Path, photos: Path, tmp_path: Path, given: str, count: int
) -> None:
    given = given.format(photos=photos)
    word = f"images={given}" if given.startswith("[") else f"images='{given}'"
    assert predict(finished_run, tmp_path, word, "maps=none", "overlays=false") == 0
    assert len(table(tmp_path)) == count


def test_paths_come_from_standard_input(finished_run: Path, photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{photos}/a/1.png\n\n{photos}/none.png\n{photos}/b/4.png\n"))
    assert predict(finished_run, tmp_path, "images=-", "maps=none", "overlays=false") == 1
    assert [Path(row["image"]).name for row in table(tmp_path)] == ["1.png", "4.png"]


def test_true_boxes_are_compared_with(finished_run: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\na/0.png,0,0,16,32\na/0.png,30,30,32,32\n4.png,3,3,20,18\n")
    words = [f"images={photos}", f"boxes={tmp_path / 'boxes.csv'}", "maps=none"]
    assert predict(finished_run, tmp_path / "out", *words) == 0
    for row in table(tmp_path / "out"):
        name = Path(row["image"]).name
        if name not in ("0.png", "4.png"):
            assert row["iou"] == ""
            continue
        x0, y0, x1, y1 = (float(row[key]) for key in ("x0", "y0", "x1", "y1"))
        overlaps = []
        for a0, b0, a1, b1 in [(0, 0, 16, 32), (30, 30, 32, 32)] if name == "0.png" else [(3, 3, 20, 18)]:
            inter = max(min(x1, a1) - max(x0, a0), 0) * max(min(y1, b1) - max(y0, b0), 0)
            overlaps.append(inter / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - inter))
        assert float(row["iou"]) == pytest.approx(max(overlaps), abs=1e-3)
    shown = cv2.imread(str(tmp_path / "out" / "overlays" / "b" / "4.png.png"))
    assert (shown[3, 5] == 255).all(), "the true box is drawn white"


def test_asked_classes_have_their_own_maps(finished_run: Path, photos: Path, tmp_path: Path) -> None:
    checkpoint = checkpoints.read(finished_run / "checkpoints" / "best.ckpt")
    names = checkpoint["wsol"]["classes"]
    words = [f"images={photos}/a/0.png", f"classes=[{names[2]},5]", "maps=png", "explainer=gradcam"]
    assert predict(finished_run, tmp_path, *words) == 0
    assert [int(row["index"]) for row in table(tmp_path)] == [2, 5]
    maps = [cv2.imread(str(tmp_path / "maps" / f"0.png.{label}.png"), cv2.IMREAD_UNCHANGED) for label in (2, 5)]
    assert maps[0].dtype == np.uint16
    assert not np.array_equal(*maps)


def test_a_plain_classifier_predicts(photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["model=torchvision", "name=squeezenet1_1", "image_size=64", "explainer=gradcam", f"images={photos}/a"]
    assert main(["predict", *words, "device=cpu"]) == 0
    (folder,) = (tmp_path / "runs").glob("*/predict/*")
    assert len(table(folder)) == 3


def test_ten_views_are_merged(finished_run: Path, photos: Path, tmp_path: Path) -> None:
    assert predict(finished_run, tmp_path, f"images={photos}", "transform=ten_crop", "image_size=28") == 0
    assert len(table(tmp_path)) == 5


def test_nothing_is_overwritten_without_force(finished_run: Path, photos: Path, tmp_path: Path, capsys) -> None:
    """What an earlier command wrote goes, also the maps and the bad images that the second one has none of."""
    out = tmp_path / "out"
    (photos / "bad.png").write_bytes(b"no image")
    assert predict(finished_run, out, f"images={photos}") == 1
    (photos / "bad.png").unlink()
    assert {"maps", "overlays", "bad_images.csv"} < {file.name for file in out.iterdir()}
    words = [f"images={photos}", "maps=none", "overlays=false"]
    capsys.readouterr()
    assert predict(finished_run, out, *words) == 2
    assert "replace it with force=true" in capsys.readouterr().err
    assert predict(finished_run, out, *words, "force=true") == 0
    files = {".wsol-output.json", "coco_images.json", "coco_results.json", "predictions.csv"}
    assert {file.name for file in out.iterdir()} == files


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["images=/nowhere/*.jpg"], "matches nothing"),
        ([], "which images?"),
        (["images={tmp}"], "no image files in this folder"),
        (["images={photos}", "classes=[99]"], "class 99: expected a class of the network, 0..7"),
        (["images={photos}", "classes=[dargon]"], "unknown class 'dargon'"),
        (["images={photos}", "maps=jpg"], "unknown maps 'jpg'"),
        (["images={photos}", "protocol=choe2020"], "set threshold="),
        (["images={photos}", "protocol=[cam2016,ilsvrc]"], "protocol: expected one"),
        (["images={photos}", "threshold=1.5"], "threshold: expected a number"),
        (["images={photos}", "batch_size=0"], "batch_size, top: expected"),
        (["images={photos}", "explainer=gradcam", "explainer.layer=conv9"], "unknown layer 'conv9'"),
        (["images={photos}", "boxes=/nowhere.csv"], "/nowhere.csv"),
        (["images={photos}", "iamges=x"], "did you mean 'images'"),
    ],
)
def test_bad_input_is_one_clear_message(
    finished_run: Path, photos: Path, tmp_path: Path, capsys, words, message
) -> None:
    (tmp_path / "in").mkdir()
    words = [word.format(photos=photos, tmp=tmp_path / "in") for word in words]
    assert predict(finished_run, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_no_run_is_one_clear_message(photos: Path, capsys) -> None:
    assert main(["predict", f"images={photos}"]) == 2
    assert "which run? wsol predict <run>" in capsys.readouterr().err
