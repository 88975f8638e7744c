"""Processes that tests kill: each starts from a server that has imported the program already, so it costs little."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["wsol.engine.training", "wsol.cli.verbs.train", "wsol.cli.verbs.eval"])
LIMIT = 120
"""Seconds."""


def _begin(folder: Path, prepare: Callable[..., None] | None, arguments: tuple, words: list[str]) -> None:
    os.chdir(folder)
    for name, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    import torch

    from tests.conftest import flush_nothing
    from wsol.cli import main

    torch.set_num_threads(1)
    flush_nothing()
    if prepare is not None:
        prepare(*arguments)
    sys.argv = ["wsol", *words]
    sys.exit(main(words))


def start(folder: Path, words: list[str], prepare: Callable[..., None] | None = None, *arguments) -> BaseProcess:
    """Start the command line in a folder, after ``prepare(*arguments)``; what it says goes into files there."""
    process = CONTEXT.Process(target=_begin, args=(folder, prepare, arguments, words))
    process.start()
    return process


def ended(process: BaseProcess) -> int:
    """Wait for the end of a process; returns its exit code, negative after a signal."""
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        raise AssertionError(f"still running after {LIMIT} s")
    assert process.exitcode is not None
    return process.exitcode


def run(folder: Path, words: list[str], prepare: Callable[..., None] | None = None, *arguments) -> tuple[int, str]:
    """Run the command line to its end; returns the exit code and what it said on standard error."""
    code = ended(start(folder, words, prepare, *arguments))
    return code, (folder / "stderr").read_text()
