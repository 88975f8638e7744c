"""What the README shows runs."""

from __future__ import annotations

import re

import pytest

from tests.pages import ROOT, blocks, check_command, commands

PAGE = ROOT / "README.md"


@pytest.mark.parametrize("block", [block.text for block in blocks(PAGE) if block.language == "python"])
def test_python_runs(block: str, capsys) -> None:
    exec(compile(block, "README.md", "exec"), {})
    assert re.fullmatch(r"\d+\.\d %\n", capsys.readouterr().out)


@pytest.mark.parametrize("command", commands(PAGE.read_text(encoding="utf-8")))
def test_commands_are_understood(command: str) -> None:
    check_command(command)
