"""What the README shows runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.pages import ROOT, blocks, check_command, commands

PAGE = ROOT / "README.md"


def test_python_runs(finished_run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """The blocks, beside a run folder of the name they have and a photograph."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run, "runs/demo-cam/<date>")
    Image.new("RGB", (70, 50), "teal").save("photo.jpg")
    for block in (block.text for block in blocks(PAGE) if block.language == "python"):
        exec(compile(block, "README.md", "exec"), {})
    assert re.fullmatch(r"species\d \d\.\d+ \[.*\] \(50, 70\)\n\d+\.\d %\n", capsys.readouterr().out)


@pytest.mark.parametrize("command", commands(PAGE.read_text(encoding="utf-8")))
def test_commands_are_understood(command: str) -> None:
    check_command(command)
