"""Thresholds and checkpoints chosen with pseudo boxes: readers, choice, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wsol.cli import main
from wsol.data.datasets.creatures import Creatures
from wsol.data.source import Split
from wsol.engine.evaluation import SplitEvaluation
from wsol.engine.pseudo_boxes import read_pseudo_boxes
from wsol.engine.split_types import PseudoBoxes
from wsol.errors import InputError
from wsol.functional.geometry import Geometry
from wsol.metrics._curves import choose_thresholds
from wsol.protocols import protocol
from wsol.runs.recorded_config import read_config

DATA = ["data=creatures", "data.train_images=48", "data.val_images=16", "data.test_images=24", "data.size=32"]
OPTIONS = "{num_classes: 0, img_size: 48, patch_size: 16, embed_dim: 24, depth: 2, num_heads: 2}"
VIT = ["model=timm", "name=vit_tiny_patch16_224", f"model.options={OPTIONS}", "image_size=48"]


@pytest.fixture(scope="module")
def source(data_dir: Path, finished_run: Path):
    node = read_config(finished_run).data
    return Creatures(**{key: value for key, value in node.items() if key != "_target_"})


@pytest.fixture(scope="module")
def val(source) -> Split:
    return source.split("val")


def a_list(split: Split, box: str = "4,4,20,24") -> str:
    return "".join(f"{name},{box}\n" for name in split.ids)


def test_every_form_of_a_list_gives_the_same_boxes(val: Split, tmp_path: Path) -> None:
    (tmp_path / "localization.txt").write_text(a_list(val), encoding="utf-8")
    header = "image,class,x0,y0,x1,y1\n"
    lines = "".join(f"/photos/{name}.png,object,4,4,20,24\n" for name in val.ids)
    (tmp_path / "predictions.csv").write_text(header + lines, encoding="utf-8")
    coco = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(val.ids)],
        "annotations": [{"image_id": i, "bbox": [4, 4, 16, 20]} for i in range(len(val))],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(coco), encoding="utf-8")
    for file in ("localization.txt", "predictions.csv", "boxes.json"):
        found = read_pseudo_boxes(tmp_path / file, val)
        assert [found.boxes[i].tolist() for i in range(len(val))] == [[[4.0, 4.0, 20.0, 24.0]]] * len(val)
        assert found.about["images"] == len(val)


def test_a_box_of_zeros_is_none(val: Split, tmp_path: Path) -> None:
    """As in the lists that Murtaza et al. made by CLIP, where it found nothing."""
    (tmp_path / "boxes.txt").write_text(a_list(val).replace("4,4,20,24", "0,0,0,0", 3), encoding="utf-8")
    found = read_pseudo_boxes(tmp_path / "boxes.txt", val, inclusive=True)
    assert [len(found.boxes[i]) for i in range(len(val))] == [0, 0, 0, *[1] * (len(val) - 3)]
    assert found.about["images"] == len(val) - 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody,1,1,2,2\n", r"boxes\.txt: 1 images that the val split does not have.*such as nobody"),
        ("{first},1,1,2\n", r"boxes\.txt:1: expected 5 fields"),
        ("{first},1,1,two,2\n", r"boxes\.txt:1: "),
        ("{first},5,5,2,9\n", r"boxes\.txt: {first}: expected a box x0 < x1, y0 < y1, got \[5\.0, 5\.0, 2\.0, 9\.0\]"),
        ("", r"no box of an image of the val split"),
    ],
)
def test_faulty_lists_are_refused(val: Split, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "boxes.txt").write_text(text.format(first=val.ids[0]), encoding="utf-8")
    with pytest.raises(InputError, match=message.replace("{first}", val.ids[0])):
        read_pseudo_boxes(tmp_path / "boxes.txt", val)
    with pytest.raises(InputError, match="no such file or folder"):
        read_pseudo_boxes(tmp_path / "nowhere.txt", val)
    with pytest.raises(InputError, match="has no maps of the val split"):
        read_pseudo_boxes(tmp_path, val)


def test_the_threshold_is_the_best_by_pseudo_boxes_alone(val: Split, tmp_path: Path) -> None:
    """A map with two plateaus: the outer one is the pseudo box, the inner one the human box."""
    chosen = protocol("choe2020")
    size = val.size(0)
    score_map = np.zeros((size[1], size[0]), np.float32)
    truth = np.round(val.truth(0).half_open[0]).astype(int)
    x0, y0, x1, y1 = truth
    score_map[:] = 0.5  # of the whole image
    score_map[0, 0] = 0.0
    score_map[y0:y1, x0:x1] = 1.0
    (tmp_path / "whole.txt").write_text(f"{val.ids[0]},0,0,{size[0]},{size[1]}\n", encoding="utf-8")
    pseudo = read_pseudo_boxes(tmp_path / "whole.txt", val)
    one = val.subset([0])
    boxes = PseudoBoxes(pseudo.boxes.subset(np.array([0])), pseudo.about)
    evaluation = SplitEvaluation(one, lambda s: [Geometry.whole(s)], {"choe2020": chosen}, topk=(), pseudo=boxes)
    evaluation.evaluate([0], [{"mean": (score_map, Geometry.whole(size))}], None)
    found = evaluation.compute()
    curves = found.curves["choe2020"]["localizer"]
    positions = choose_thresholds(chosen, curves, pseudo=found.pseudo["choe2020"])
    assert set(positions) == {"pseudo", "oracle"}
    at = {origin: curves.thresholds[of_one[0]] for origin, of_one in positions.items()}
    area = (x1 - x0) * (y1 - y0) / (size[0] * size[1])
    assert area < 0.5, "the test needs a small object"
    assert at["pseudo"] < 0.45 < at["oracle"]
    scalars = evaluation.scalars()
    assert scalars["val/choe2020/pseudo/gt_known_error"] == 0  # by the pseudo box
    assert set(evaluation.names()) == set(scalars)
    assert curves.error("gt_known", positions["pseudo"]) == 100  # by the human box, at that threshold


def test_a_protocol_that_fixes_its_threshold_has_no_pseudo_one(val: Split, tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text(a_list(val), encoding="utf-8")
    pseudo = read_pseudo_boxes(tmp_path / "boxes.txt", val)
    protocols = {name: protocol(name) for name in ("cam2016", "choe2020")}
    evaluation = SplitEvaluation(val, lambda s: [Geometry.whole(s)], protocols, topk=(), pseudo=pseudo)
    assert list(evaluation.pseudo_protocols) == ["choe2020"]


def test_pseudo_boxes_of_an_explainer_choose_thresholds_and_checkpoints(
    wsol, data_dir: Path, finished_run: Path, tmp_path: Path, capsys
) -> None:
    common = [f"data_dir={data_dir}", "num_workers=0", "trainer.accelerator=cpu"]
    words = [*VIT, *DATA, *common, "explainer=lost", "protocol=[cam2016]", "split=val", "save_maps=true"]
    assert wsol("eval", *words, "out=pseudo") == 0
    assert wsol("eval", f"run={finished_run}", *common, "protocol=[choe2020]", "pseudo_boxes=pseudo", "out=out") == 0
    assert "(pseudo)" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    rows = [r for r in found["localization"] if r["maps"] == "localizer" and r["split"] == "test"]
    assert [row["threshold_origin"] for row in rows] == ["pseudo", "fullsup", "oracle"]
    assert rows[0]["gt_known_error"] >= rows[2]["gt_known_error"]
    assert found["pseudo_boxes"]["protocol"] == "cam2016"
    assert found["pseudo_boxes"]["threshold"] == 0.2
    monitor = "monitor=val/choe2020/pseudo/gt_known_error"
    run = tmp_path / "run"
    train = ["trainer.max_epochs=1", "protocol=[choe2020]", f"pseudo_boxes={tmp_path / 'pseudo'}", monitor]
    assert wsol("train", *train, f"run_dir={run}") == 0
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert "val/choe2020/pseudo/gt_known_error" in (run / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["protocol=[cam2016]", "pseudo_boxes=boxes.txt"], "no threshold is chosen under cam2016; add a protocol"),
        (
            ["protocol=[choe2020]", "pseudo_boxes=maps"],
            "its maps are of classes; pseudo boxes come",
        ),
    ],
)
def test_what_cannot_choose_is_refused(
    data_dir: Path, finished_run: Path, tmp_path: Path, monkeypatch, capsys, words, message
) -> None:
    monkeypatch.chdir(tmp_path)
    common = [f"run={finished_run}", f"data_dir={data_dir}", "num_workers=0", "trainer.accelerator=cpu"]
    (tmp_path / "boxes.txt").write_text("x,1,1,2,2\n")
    if "maps" in words[1]:
        assert main(["eval", *common, "protocol=[cam2016]", "split=val", "save_maps=true", "out=maps"]) == 0
    assert main(["eval", *common, *words, "out=out"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
