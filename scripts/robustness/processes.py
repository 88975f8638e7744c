"""Commands as processes that start at once: forks of one process that has imported the package."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.robustness.runner import with_children


@dataclass
class Running:
    """A command that was started."""

    pid: int
    log: Path
    code: int | None = None
    """As a shell has it: 128 and the signal where one ended it."""
    by_signal: bool = False
    """Whether a signal ended it, so that it had no say."""

    def poll(self) -> bool:
        """Whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.by_signal = os.WIFSIGNALED(status)
                self.code = 128 + os.WTERMSIG(status) if self.by_signal else os.WEXITSTATUS(status)
        return self.code is not None

    def wait(self, seconds: float = 120) -> int:
        """Its exit code; it is killed, and the code is -1, where it does not end in time."""
        end = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.code = -1
            time.sleep(0.005)
        assert self.code is not None
        return self.code

    def send(self, number: int, group: bool = True) -> None:
        """Send a signal to it, and to what it started."""
        if group:
            with_children(self.pid, number)
        else:
            os.kill(self.pid, number)

    @property
    def said(self) -> str:
        """What it printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def start(words: list[str], cwd: Path, temporary: Path, log: Path) -> Running:
    """Start ``wsol WORDS`` in a process group of its own.

    Args:
        words: of the command line.
        cwd: working directory; made if need be.
        temporary: becomes ``TMPDIR``; made if need be.
        log: file that takes what it prints.
    """
    for folder in (cwd, temporary, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Running(pid, log)
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(file, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        os.chdir(cwd)
        sys.argv = ["wsol", *words]
        code = _main(words)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _main(words: list[str]) -> int:
    from wsol.cli import main

    try:
        return main(words)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else (1 if error.code else 0)
    except KeyboardInterrupt:
        print("Traceback: KeyboardInterrupt left the program", file=sys.stderr)
        return 1
