"""What the README shows runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
import yaml
from PIL import Image

from tests.conftest import SMALL_RUN
from tests.pages import ROOT, blocks, check_command, commands

PAGE = ROOT / "README.md"


SUBSTITUTES = {
    '"tf_efficientnet_lite0", pretrained=True': '"resnet10t", weights="weights.pth"',
    '"resnet50", method="acol_1x1", num_classes=200, pretrained=True, output_stride=8': (
        '"tiny", method="acol_1x1", num_classes=8'
    ),
    'data="cub", data_dir="data", max_epochs=50': 'data="creatures", data_dir=DATA, max_epochs=1, overrides=SMALL',
}
"""What is large in the blocks, and what the test takes in its place."""


def test_python_runs(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The blocks, beside a photograph, on the built-in dataset."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (70, 50), "teal").save("photo.jpg")
    small = [word.partition("=")[::2] for word in SMALL_RUN if "epochs" not in word]
    names = {"DATA": str(data_dir), "SMALL": {key: yaml.safe_load(value) for key, value in small}}
    torch.save(timm.create_model("resnet10t").state_dict(), "weights.pth")
    text = "\n".join(block.text for block in blocks(PAGE) if block.language == "python")
    for large, substitute in SUBSTITUTES.items():
        assert text.count(large) == 1
        text = text.replace(large, substitute)
    exec(compile(text, "README.md", "exec"), names)
    assert Image.open("found.jpg").size == (70, 50)
    assert names["found"].map.shape == (50, 70)
    assert {row["protocol"] for row in names["results"]["localization"]} == {"choe2020"}
    assert re.fullmatch(r"\d+\.\d %", capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("command", commands(PAGE.read_text(encoding="utf-8")))
def test_commands_are_understood(command: str) -> None:
    check_command(command)
