"""Watch what a file from a stranger does to a folder, and the words that feed it to each verb."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wsol.cli import main

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.fork")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")

seen: list[str] | None = None
"""What the audit hook notes; None while nobody watches."""


def _hook(event: str, args: tuple) -> None:
    if seen is None:
        return
    if event == "open" and isinstance(args[2], int) and args[2] & WRITES and isinstance(args[0], str | bytes):
        path = os.fsdecode(args[0])
        if "__pycache__" not in path and not path.startswith("/dev/"):
            seen.append(f"open {path} {args[2]:o}")
    elif event in FORBIDDEN or (event in CHANGES and "__pycache__" not in str(args[0])):
        seen.append(f"{event} {args}")


sys.addaudithook(_hook)


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Fail if anything is opened for writing, started, or changed in a folder."""
    global seen
    before, seen = snapshot(folder), []
    try:
        yield
    finally:
        noted, seen = seen, None
    assert not noted
    assert snapshot(folder) == before


def snapshot(folder: Path) -> dict[str, tuple]:
    files = sorted(folder.rglob("*"))
    return {
        str(file): (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "")
        for file in files
    }


VERBS = ("predict", "eval", "units", "svm", "export", "concept")


def verb_words(verb: str, file: Path) -> list[str]:
    words = {
        "predict": [f"run={file}", "images=pictures", "device=cpu", "out=out"],
        "eval": [f"run={file}", "num_workers=0", "trainer.accelerator=cpu", "out=out"],
        "export": [f"run={file}", "format=torch_export", "out=out.pt2"],
        "units": [f"run={file}", "num_workers=0", "device=cpu", "out=out"],
        "svm": [f"run={file}", "num_workers=0", "device=cpu", "out=out"],
        "concept": [f"run={file}", "positives=pictures", "negatives=others", "num_workers=0", "device=cpu", "out=out"],
        "convert": [f"weights={file}", f"out=out{'' if file.suffix == '.safetensors' else '.safetensors'}"],
    }
    family = ["features"] if verb in ("units", "svm", "concept") else []
    return [*family, verb, *words[verb]]


def refused(room: Path, capsys: pytest.CaptureFixture, words: list[str], file: Path) -> str:
    """Run a command on a hostile file; return the one line that it says."""
    capsys.readouterr()
    with watched(room):
        assert main(words) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wsol: error")]
    assert len(said) == 1, said
    assert file.name in said[0], said[0]
    return said[0]


class Reduced:
    """Pickles as a call."""

    def __init__(self, *called: object) -> None:
        self.called = called

    def __reduce__(self) -> tuple:
        return self.called[0], self.called[1:]
