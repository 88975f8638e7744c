"""What the README shows runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from wsol.cli import help_text
from wsol.cli.compose import compose
from wsol.cli.verbs import VERBS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.partition(" #")[0].strip() for line in README.splitlines() if line.startswith("wsol ")]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_runs(block: str, capsys) -> None:
    exec(compile(block, "README.md", "exec"), {})
    assert re.fullmatch(r"\d+\.\d %\n", capsys.readouterr().out)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    words = shlex.split(re.sub(r"<[^>]*>", "x", command))[1:]
    if words == ["--help"]:
        assert all(verb in help_text.overview() for verb in VERBS)
        return
    verb = next(name for name in (" ".join(words[:2]), words[0]) if name in VERBS)
    swept = [word for word in words if word == "-m" or "," in word.partition("[")[0]]
    rest = [word for word in words[len(verb.split()) :] if word not in swept]
    if (config := VERBS[verb].config) is not None:
        compose(config, rest)
