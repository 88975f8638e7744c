"""Vision transformers from the command line: TS-CAM trained and evaluated, and sizes of images that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

VIT = ["backbone=deit_t", "backbone.width=24", "backbone.depth=2", "backbone.heads=2"]
SHORT = ["trainer.max_epochs=1", "protocol=tscam2021", "topk=[1]"]


def test_tscam_is_trained_evaluated_and_evaluated_again(wsol, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    assert wsol("train", *VIT, *SHORT, "method=tscam", "optim=adamw", f"run_dir={run}") == 0
    assert wsol("eval", f"run={run}", f"out={out}", "num_workers=0") == 0
    first, again = (json.loads((folder / "results.json").read_text()) for folder in (run, out))
    assert any(row["maps"] == "localizer" and row["protocol"] == "tscam2021" for row in first["localization"])
    assert again["localization"] == first["localization"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*VIT, "image_size=40"], "multiples of 16 pixels"),
        (["backbone=timm", "backbone.name=vit_tiny_patch16_224"], "built for images of 224x224 pixels, got 32x32"),
        (
            ["method=tscam", "backbone=tiny"],
            "Choose a backbone that has it (backbone=deit_b, deit_s, deit_s_gated, deit_t,",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_training(wsol, tmp_path: Path, capsys, words, message) -> None:
    folder = tmp_path / "run"
    assert wsol("train", *SHORT, *words, f"run_dir={folder}") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not folder.exists()
