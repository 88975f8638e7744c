"""The notebooks run: the code of their cells, on small networks, drawn images and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pages import ROOT
from wsol.data.datasets.creatures import Creatures
from wsol.errors import InputError

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SMALL = {
    "compare-protocols": [("max_epochs=6", "max_epochs=1"), ("overrides={}", "overrides=SMALL")],
    "train-on-your-folder": [("max_epochs=8", "max_epochs=1"), ("train_images=160", "train_images=16")],
    "explain-a-pretrained-network": [
        ("pretrained=True", 'weights="lite0.pth"'),
        ("tf_efficientnet_lite0", "resnet10t"),
    ],
}
"""What is large, and what the test takes instead."""


def code(notebook: Path) -> list[str]:
    """The code cells."""
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks() -> None:
    assert {notebook.stem for notebook in NOTEBOOKS} == set(SMALL)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t").state_dict(), "lite0.pth")
    picture = Creatures(data_dir / "notebooks", train_images=1, val_images=1, test_images=1).split("test").image(0)
    Image.fromarray(picture).resize((120, 90)).save("photo.jpg")
    small = {"data.train_images": 32, "data.val_images": 16, "data.test_images": 16, "loader.num_workers": 0}
    scope: dict[str, Any] = {"SMALL": small | {"data_dir": str(data_dir)}}
    cells = code(notebook)
    for large, substitute in SMALL[notebook.stem]:
        assert any(large in cell for cell in cells), large
        cells = [cell.replace(large, substitute) for cell in cells]
    for cell in cells:
        exec(compile(cell, notebook.name, "exec"), scope)


def test_a_prediction_is_saved_as_an_image(finished_run: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    import wsol

    found = wsol.load(finished_run, device="cpu").predict(np.zeros((40, 60, 3), np.uint8))
    assert Image.open(found.save(tmp_path / "new" / "found.png")).size == (60, 40)
    with pytest.raises(InputError, match="expected the ending of an image format"):
        found.save(tmp_path / "found.text")
