"""Networks that do not classify, and explainers fitted on a dataset, from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

OPTIONS = "{num_classes: 0, img_size: 48, patch_size: 16, embed_dim: 24, depth: 2, num_heads: 2}"
VIT = ["model=timm", "name=vit_tiny_patch16_224", f"model.options={OPTIONS}", "image_size=48"]
DATA = ["data=creatures", "data.train_images=24", "data.val_images=16", "data.test_images=24", "data.size=32"]
EVAL = [*VIT, *DATA, "num_workers=0", "trainer.accelerator=cpu", "protocol=[choe2020]"]


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_a_network_that_does_not_classify_is_evaluated_gt_known(wsol, data_dir, tmp_path: Path, capsys) -> None:
    words = [*EVAL, f"data_dir={data_dir}", "explainer=lost"]
    assert wsol("eval", *words, "save_maps=true", f"out={tmp_path / 'out'}") == 0
    assert "localizer, class-agnostic" in capsys.readouterr().out
    found = results_of(tmp_path / "out")
    own = [row for row in found["localization"] if row["maps"] == "localizer"]
    assert own
    assert all(row["class_agnostic"] is True and "top1_error" not in row for row in own)
    assert found["classification"] == {"val": {}, "test": {}}
    assert not list((tmp_path / "out" / "maps" / "test").glob("classes-*"))
    assert wsol("score", f"maps={tmp_path / 'out'}", "protocol=[choe2020]", f"out={tmp_path / 'score'}") == 0
    again = [row for row in results_of(tmp_path / "score")["localization"] if row["maps"] == "localizer"]
    assert [row["gt_known_error"] for row in again] == [row["gt_known_error"] for row in own if row["split"] == "test"]
    assert all(row["class_agnostic"] is True for row in again)


def test_classes_from_elsewhere_give_top_1(wsol, data_dir, finished_run: Path, tmp_path: Path) -> None:
    words = [*EVAL, f"data_dir={data_dir}", "data.train_images=48", "explainer=tokencut", "topk=[1]"]
    assert wsol("eval", *words, f"classes={finished_run}", f"out={tmp_path / 'out'}") == 0
    found = results_of(tmp_path / "out")
    top1 = results_of(finished_run)["classification"]["test"]["top1_error"]
    assert found["classification"]["test"]["top1_error"] == top1
    row = next(row for row in found["localization"] if row["maps"] == "localizer" and row["split"] == "test")
    assert max(top1, row["gt_known_error"]) <= row["top1_error"] <= 100


def test_statistics_lie_beside_the_evaluation_and_are_loaded_again(wsol, data_dir, tmp_path: Path) -> None:
    words = [*EVAL, f"data_dir={data_dir}", "explainer=patch_pca", "explainer.fit_on=dataset", "weights=vit.pth"]
    (tmp_path / "vit.pth").write_bytes(_weights())
    assert wsol("eval", *words, "out=first") == 0
    assert (tmp_path / "first" / "explainer.safetensors").is_file()
    assert wsol("eval", *words, "explainer.state=first", "out=second") == 0
    first, second = results_of(tmp_path / "first"), results_of(tmp_path / "second")
    assert first["localization"] == second["localization"]
    assert first["explainer"]["sign"] == "border"
    assert first["explainer"]["images"] == 40
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    predict = [*VIT, "weights=vit.pth", "explainer=patch_pca", "explainer.fit_on=dataset", "images=a.png"]
    assert wsol("predict", *predict, "explainer.state=first", "out=found") == 0
    (row,) = csv.DictReader((tmp_path / "found" / "predictions.csv").open())
    assert (row["class"], float(row["score"])) == ("object", 1.0)


def _weights() -> bytes:
    import io

    import timm
    import torch
    import yaml

    torch.manual_seed(0)
    file = io.BytesIO()
    torch.save(timm.create_model("vit_tiny_patch16_224", **yaml.safe_load(OPTIONS)).state_dict(), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("eval", [*EVAL, "explainer=lost", "topk=[1]"], "topk=[1]: timm-vit_tiny_patch16_224-random does not classify"),
        ("eval", [*EVAL, "explainer=lost", "recognize=crop"], "recognize=crop: timm-vit_tiny_patch16_224-random does"),
        ("eval", [*EVAL, "explainer=cam"], "CAM explains class scores, but this network does not classify"),
        ("predict", [*VIT, "images=a.png", "explainer=lost", "top=5"], "top=5: timm-vit_tiny_patch16_224-random does"),
        (
            "predict",
            [*VIT, "images=a.png", "explainer=lost", "classes=[1]"],
            "no class scores; leave classes",
        ),
        (
            "predict",
            [*VIT, "images=a.png", "explainer=gradcam"],
            "GradCAM: its maps are of classes, but the network",
        ),
        (
            "predict",
            [*VIT, "images=a.png", "explainer=patch_pca", "explainer.fit_on=dataset"],
            "PatchPCA has no statistics of a dataset",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(wsol, data_dir, tmp_path: Path, capsys, verb, words, message) -> None:
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    extra = [f"data_dir={data_dir}"] if verb == "eval" else []
    assert wsol(verb, *words, *extra, f"out={tmp_path / 'out'}") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
