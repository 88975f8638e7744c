"""Failures of the command line: messages and exit codes.

====  ==================================================================================================
code  meaning
====  ==================================================================================================
0     done
1     partly done, or failed while running: some images could not be read, a training diverged (NaN), a backbone
      breaks the contract; also an error of the program itself, with a stack trace
2     something to correct: a command line, a config, data, a file that cannot be read or written, a full disk
130   Ctrl-C
143   SIGTERM
====  ==================================================================================================
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from wsol.errors import Diverged, InputError, Terminated, first_line, interruption

FAILED, BAD_INPUT, CTRL_C, TERMINATED = 1, 2, 130, 143
TRACEBACK_VARIABLE = "WSOL_TRACEBACK"
"""With this environment variable set to 1, every failure shows its stack trace."""

EXIT_CODES = f"""exit codes:
  0    done
  1    partly done, or failed while running: unreadable images were left out, a training diverged (NaN), ...
  2    something to correct: command line, config, data, a file that cannot be read or written, a full disk
  130  Ctrl-C       143  SIGTERM       {TRACEBACK_VARIABLE}=1 in the environment shows where an error occurred"""

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
FULL_IN_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|database or disk is full|PytorchStreamWriter failed writing"
    r"|\d+ requested and \d+ written"  # NumPy
)
OUT_OF_MEMORY = re.compile(r"^\w*MemoryError|OutOfMemoryError|DefaultCPUAllocator|CUDA out of memory")
REMEDIES = {
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose another folder, or have its permissions changed",
    errno.EPERM: "choose another folder, or have its permissions changed",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or use fewer workers",
    errno.ENOENT: f"check the path; {TRACEBACK_VARIABLE}=1 shows where it is used",
}
WITHOUT_FILE = {errno.EROFS, errno.EIO, errno.EMFILE}
"""Errors that are explained although they name no file."""


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return the message for an error that the user can do something about, and the exit code; None for others.

    Example:
        >>> explain(OSError(errno.ENOSPC, "No space left on device", "runs/a/last.ckpt"))
        ('runs/a/last.ckpt: No space left on device; free some space and give the same command again', 2)
        >>> explain(KeyError("x")) is None
        True
    """
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    if full := [each for each in _chain(error) if _is_full(each)]:
        said = os.strerror(
            next((each.errno for each in full if isinstance(each, OSError) and each.errno), errno.ENOSPC)
        )
        files = [each.filename for each in full if isinstance(each, OSError) and each.filename]
        files += [file for each in _chain(error) if (file := _named_by(each))]
        start = f"{_text(files[0])}: " if files else ""
        return f"{start}{said}; free some space and give the same command again{notes}", BAD_INPUT
    if isinstance(error, InputError):
        return f"{error}{notes}", BAD_INPUT
    if isinstance(error, Diverged):
        return f"{error}{notes}", FAILED
    if isinstance(error, MemoryError | RuntimeError) and OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"):
        said = first_line(error).removesuffix(".")
        return (
            f"not enough memory ({said}); try a smaller loader.batch_size, batch_size or image_size{notes}",
            BAD_INPUT,
        )
    if isinstance(error, OSError) and error.errno is not None and (error.filename or error.errno in WITHOUT_FILE):
        file = f"{_text(error.filename)}: " if error.filename else ""
        remedy = REMEDIES.get(error.errno, f"{TRACEBACK_VARIABLE}=1 shows where it is used")
        return f"{file}{os.strerror(error.errno)}; {remedy}{notes}", BAD_INPUT
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes."""
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def interruption_below(error: BaseException) -> KeyboardInterrupt | None:
    """Return the Ctrl-C or SIGTERM that led to an error; None if there was none.

    An interrupted library may fail in its clean-up, which hides the interruption.
    """
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        if isinstance(at, KeyboardInterrupt):
            return at
        seen.append(at)
        at = at.__context__
    return None


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return isinstance(error, Exception) and bool(FULL_IN_WORDS.search(str(error)))


def _named_by(error: BaseException) -> str | None:
    """Return the file that a message begins with."""
    start, colon, _ = first_line(error).partition(": ")
    return start if colon and isinstance(error, InputError) and " " not in start else None


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else str(name)


def interrupted(error: BaseException, remains: str) -> tuple[str, int] | None:
    """Return what to say after Ctrl-C or SIGTERM, and the exit code; None for other errors.

    Args:
        error: the error that ended the verb.
        remains: what the verb leaves, and how to continue.
    """
    found = interruption(error)
    if found is None:
        return None
    what, code = ("terminated", TERMINATED) if isinstance(found, Terminated) else ("interrupted", CTRL_C)
    notes = getattr(found, "__notes__", ())
    return f"{'; '.join([what, *notes])}; {remains}", code


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise `wsol.errors.Terminated` in the main thread within the block.

    Lightning calls an existing handler after its own, so its loops end at once, too. A handler of another program, and
    an ignored signal, are not changed.
    """
    owner, before = os.getpid(), signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        """Raise in this process; end a forked one as SIGTERM does by default."""
        if os.getpid() != owner:  # a process forked from this one
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def show_traceback() -> bool:
    """Return whether the user wants stack traces."""
    return os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")


def say(message: str, *, once: bool = False) -> None:
    """Print the last line of a verb on standard error; with ``once``, only in the first process of several."""
    from wsol.runs.folder import is_first_process

    if once and not is_first_process():
        return
    with contextlib.suppress(OSError):
        print(f"wsol: {message}", file=sys.stderr, flush=True)
