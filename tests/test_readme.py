"""What the README shows runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.conftest import SMALL_RUN
from tests.pages import ROOT, blocks, check_command, commands

PAGE = ROOT / "README.md"


SUBSTITUTES = {
    '"resnet50", method="acol_1x1", num_classes=200, pretrained=True, output_stride=8': (
        '"tiny", method="acol_1x1", num_classes=8'
    ),
    'data="cub", data_dir="data", max_epochs=50': 'data="creatures", data_dir=DATA, max_epochs=1, overrides=SMALL',
}
"""What is large in the first block, and what the test takes in its place."""


def test_python_runs(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The blocks, beside a photograph, on the embedded dataset."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (70, 50), "teal").save("photo.jpg")
    small = [word.partition("=")[::2] for word in SMALL_RUN if "epochs" not in word]
    names = {"DATA": str(data_dir), "SMALL": {key: yaml.safe_load(value) for key, value in small}}
    first, *others = (block.text for block in blocks(PAGE) if block.language == "python")
    for large, substitute in SUBSTITUTES.items():
        assert first.count(large) == 1
        first = first.replace(large, substitute)
    for text in (first, *others):
        exec(compile(text, "README.md", "exec"), names)
    assert names["found"].map.shape == (50, 70)
    assert {row["protocol"] for row in names["results"]["localization"]} == {"choe2020"}
    assert re.fullmatch(r"\d+\.\d %\n", capsys.readouterr().out)


@pytest.mark.parametrize("command", commands(PAGE.read_text(encoding="utf-8")))
def test_commands_are_understood(command: str) -> None:
    check_command(command)
