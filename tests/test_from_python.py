"""The Python blocks of docs/from-python.md and of the docs' start page run, on small networks and drawn images."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image

import wsol
from tests.pages import ROOT, blocks
from tests.test_extending import SECTIONS, place, write  # noqa: F401  # a fixture
from wsol.data.datasets.creatures import Creatures

DOCS = ROOT / "docs"


def test_the_page_runs(place: Path, finished_run: Path, data_dir: Path, monkeypatch, capsys) -> None:  # noqa: F811
    """All blocks, one after the other, in a folder with what the page says is there."""
    torch.save(torchvision.models.resnet18().state_dict(), "resnet18.pth")
    shutil.copytree(finished_run, "run")
    creatures = Creatures(data_dir / "small", train_images=16, val_images=8, test_images=8, num_classes=2)
    lines = ["image,x0,y0,x1,y1"]
    for split in ("train", "val", "test"):
        some = creatures.split(split)
        for i, label in enumerate(some.labels):
            file = Path("birds", split, ("finch", "heron")[label], f"{i}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(some.image(i)).save(file)
            lines.append(",".join([file.relative_to("birds").as_posix(), *map(str, some.boxes[i][0])]))
    write("\n".join(lines), "birds/boxes.csv")
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(some.image(0)).save(name)
    for block in blocks(SECTIONS["A backbone"]):
        if block.title:
            write(block.text, block.title)
    monkeypatch.syspath_prepend(str(place))
    scope: dict = {}
    for block in blocks(DOCS / "from-python.md"):
        if block.language == "python":
            offline = block.text.replace('"resnet18", pretrained=True', '"resnet18", weights="resnet18.pth"')
            exec(compile(offline, "docs/from-python.md", "exec"), scope)
    said = capsys.readouterr().out
    assert re.search(r"\w+ 0\.\d\d \[", said), said
    assert "torch.Size([2, 8]) torch.Size([2, 1, 16, 16])" in said
    assert scope["results"]["localization"][0]["protocol"] == "cam2016"
    assert Path("photos/a.found.png").is_file()
    assert np.load("maps.npy").shape == (2, 50, 70)


def test_the_example_of_the_start_page_fits_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls are held against signatures and lists of names; the training it shows takes hours on a GPU."""
    (code,) = (block.text for block in blocks(DOCS / "index.md") if block.language == "python")
    lists = {
        "backbone": [*wsol.list_backbones(), *timm.list_models()],
        "method": wsol.list_methods(),
        "data": wsol.list_datasets(),
        "protocol": wsol.list_protocols(),
    }
    called: list[str] = []

    def check(name: str, function: Callable) -> Callable:
        def call(*values: Any, **named: Any) -> SimpleNamespace:
            given = inspect.signature(function).bind(*values, **named).arguments
            assert all(given[key] in names for key, names in lists.items() if key in given)
            called.append(name)
            return SimpleNamespace(predict=lambda image: image)

        return call

    for name in ("create_localizer", "fit", "evaluate", "load"):
        monkeypatch.setattr(wsol, name, check(name, getattr(wsol, name)), raising=False)
    exec(compile(code, "docs/index.md", "exec"), {})
    assert called == ["create_localizer", "load", "create_localizer", "fit", "evaluate", "load"]
