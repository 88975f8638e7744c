"""Shell completion: what bash, zsh and fish are told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wsol.cli import main
from wsol.cli.completion import VARIABLE


def completed(words: str, monkeypatch: pytest.MonkeyPatch, capfd, shell: str = "zsh") -> list[str]:
    """The candidates for the last word, as the shell is told them."""
    parts = words.split(" ")
    monkeypatch.setenv(VARIABLE, f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", parts[-1] if shell == "fish" else str(len(parts) - 1))
    assert main([]) == 0
    lines = capfd.readouterr().out.splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [line.partition(",")[2] for line in lines]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("wsol tr", ["train"]),
        ("wsol data ", ["prepare", "verify"]),
        ("wsol train method=acol_", ["method=acol_1x1", "method=acol_chain"]),
        ("wsol eval protocol=[cam2016,choe2020-", ["protocol=[cam2016,choe2020-v2"]),
        ("wsol eval save", ["save_maps="]),
        ("wsol train debu", ["debug="]),
        ("wsol sweep experim", ["experiment="]),
        ("wsol sweep sweep=dem", ["sweep=demo"]),
        ("wsol train optim.optimizer.l", ["optim.optimizer.lr="]),
        ("wsol eval la", ["last"]),
        ("wsol eval birds", ["birds-cam"]),
        ("wsol table creatures_", ["creatures_hard"]),
        ("wsol train --conf", ["--config-dir"]),
    ],
)
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_words_are_completed(words: str, found: list[str], shell: str, tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "birds-cam").mkdir(parents=True)
    answers = [answer.partition("\t")[0] for answer in completed(words, monkeypatch, capfd, shell)]
    assert answers == found


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_puts_together_what_it_took_apart(tmp_path: Path) -> None:
    (tmp_path / "wsol").write_text(f'#!/bin/sh\nexec {sys.executable} -m wsol.cli "$@"\n')
    (tmp_path / "wsol").chmod(0o755)
    (tmp_path / "runs" / "my run (1)").mkdir(parents=True)
    script = """
    PATH=.:$PATH; eval "$(_WSOL_COMPLETE=bash_source wsol)"
    try() {
        COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=(); _wsol_completion wsol
        printf '[%s]' "${COMPREPLY[@]}"; echo
    }
    try wsol train backbone = tiny method = acol_
    try wsol eval my
    """
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[acol_1x1 ][acol_chain ]", r"[my\ run\ \(1\) ]"]


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o nosort -o nospace"), ("zsh", "compdef"), ("fish", "complete")]
)
def test_the_script_of_a_shell_is_printed(shell: str, word: str, monkeypatch, capfd) -> None:
    monkeypatch.setenv(VARIABLE, f"{shell}_source")
    assert main([]) == 0
    assert word in capfd.readouterr().out
