"""Fixtures of hostile files: a whole checkpoint, a watched folder, and a folder that the files come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from wsol import load


@pytest.fixture(scope="module")
def base(finished_run: Path) -> dict:
    """A whole checkpoint; read once by the verbs' own reader, so that no library's import is taken for a deed of it."""
    import pytorch_lightning.loggers  # noqa: F401

    import wsol.backbones.timm  # noqa: F401

    load(finished_run)
    return torch.load(finished_run / "checkpoints" / "best.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The watched folder: a file worth keeping, and pictures."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "notes.txt").write_text("nine bytes")
    (folder / "pictures").mkdir()
    for name in ("green", "yellow"):
        Image.new("RGB", (40, 30), name).save(folder / "pictures" / f"{name}.png")
    (folder / "others").mkdir()
    for name in ("red", "blue"):  # one to learn from and one held out
        Image.new("RGB", (40, 30), name).save(folder / "others" / f"{name}.png")
    return folder


@pytest.fixture
def post(tmp_path_factory: pytest.TempPathFactory, room: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hostile file lies; the current folder is the watched one."""
    monkeypatch.chdir(room)
    return tmp_path_factory.mktemp("post")
