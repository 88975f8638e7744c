"""A watched place for one try: captured output, limits, an audit hook and a comparison of the files before and after."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsol.cli import main
from wsol.errors import InputError

if TYPE_CHECKING:
    from scripts.robustness.runner import Place

MEMORY = 3 << 30
"""Bytes that a try may take beyond what the process has."""

FILE_SIZE = 256 << 20
"""Bytes of the largest file that a try may write."""

HARMLESS = {"git", "uname", "lscpu", "ldconfig", "gcc", "cc"}
"""Programs that the package and its libraries ask about the machine."""

STARTS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn"}
CONNECTS = {"socket.connect", "socket.getaddrinfo", "urllib.Request"}
CHANGES = {
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "shutil.rmtree": 1,
}
"""Events that change files, and how many paths they begin with."""

BAD_IMAGE = re.compile(r"^wsol: bad image: (.*)", re.MULTILINE)
ERROR_LINE = re.compile(r"^wsol[\w -]*: error: ", re.MULTILINE)


@dataclasses.dataclass
class Outcome:
    """What a try did."""

    code: int | None = None
    trace: str | None = None
    said: str = ""
    """Standard output and standard error."""
    message: str = ""
    """What follows ``wsol: error:``."""
    errors: int = 0
    """How many such lines there are."""
    harm: list[str] = dataclasses.field(default_factory=list)
    value: bool | None = None
    """Whether the result is the right one, where the input was accepted and its value is known."""
    hung: bool = False

    @classmethod
    def read(cls, folder: Path, hung: bool) -> Outcome:
        """What the process of a try left in its folder."""
        file = folder / "outcome.json"
        if file.is_file():
            return cls(**json.loads(file.read_text()))
        said = (folder / "said.txt").read_text(errors="replace") if (folder / "said.txt").is_file() else ""
        harm = ["the canary file was made"] if os.path.lexists(folder / "CANARY") else []
        broken = folder / "broken.txt"
        why = broken.read_text() if broken.is_file() else "the process died"
        return cls(trace=None if hung else why, said=said, harm=harm, hung=hung)


def run_in_sandbox(
    action: Sequence[str] | Callable[[], Any], place: Place, value: Callable[[Place, Outcome], bool] | None
) -> None:
    """Run the words of a command, or a call, and write ``outcome.json``; never returns an error of theirs."""
    before = snapshot(place.folder)
    _limit()
    harm = _watch(place)
    said = os.open(place.folder / "said.txt", os.O_RDWR | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False, errors="backslashreplace")
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="backslashreplace")
    os.environ["TMPDIR"] = tempfile.tempdir = str(place.folder / "tmp")
    os.chdir(place.out)
    outcome = _call(action)
    harm.done = True
    sys.stdout.flush()
    sys.stderr.flush()
    text = (place.folder / "said.txt").read_text(errors="replace")
    outcome.said = (text + outcome.said)[-20_000:]
    if not outcome.message and ERROR_LINE.search(text):
        outcome.errors = len(ERROR_LINE.findall(text))
        outcome.message = ERROR_LINE.split(text)[-1].strip()
    elif not outcome.message and outcome.code == 1 and (bad := BAD_IMAGE.findall(text)):
        outcome.errors, outcome.message = len(bad), f"expected an image: {bad[-1]}"  # the others were judged
    elif not outcome.message and outcome.code == 2 and " problem" in text:  # the report of `wsol data verify`
        outcome.errors, outcome.message = 1, "expected none: " + text[text.index(" problem") :]
    outcome.harm = harm.seen + changed(before, snapshot(place.folder))
    if outcome.code == 0 and value:
        try:
            outcome.value = bool(value(place, outcome))
        except Exception as error:
            outcome.value, outcome.said = False, f"{outcome.said}\nwhile comparing: {error!r}"
    for name in ("outcome.part", "outcome.json"):
        if name.endswith("part"):
            (place.folder / name).write_text(json.dumps(dataclasses.asdict(outcome)))
        else:
            (place.folder / "outcome.part").replace(place.folder / name)


def _call(action: Sequence[str] | Callable[[], Any]) -> Outcome:
    outcome = Outcome()
    try:
        if callable(action):
            outcome.said = repr(action())[:2000]
            outcome.code = 0
        else:
            outcome.code = main(list(action))
    except InputError as error:
        outcome.code, outcome.message, outcome.errors = 2, str(error), 1
    except SystemExit as error:
        outcome.code = error.code if isinstance(error.code, int) else (1 if error.code else 0)
    except BaseException:
        outcome.code, outcome.trace = 1, traceback.format_exc()
    return outcome


def _limit() -> None:
    statm = Path("/proc/self/statm")
    if statm.exists():
        now = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Seen:
    """What the audit hook saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.done = False


def _watch(place: Place) -> _Seen:
    """Note every program started, connection made, and file changed outside of the try's own output."""
    harm = _Seen()
    allowed = [str(place.folder), os.path.realpath(place.folder), "/dev/null", "/dev/tty", "/proc/", "/dev/shm/"]
    busy = False

    def inside(path: object) -> bool:
        if isinstance(path, int) or path is None:
            return True
        text = os.path.realpath(os.fsdecode(path))  # type: ignore[arg-type]
        return any(text == root or text.startswith(root.rstrip("/") + "/") for root in allowed) or "__pycache__" in text

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal busy
        if busy or harm.done:
            return
        busy = True
        try:
            if event == "subprocess.Popen" and os.path.basename(str(arguments[0])) not in HARMLESS:
                harm.seen.append(f"started {arguments[0]}")
            elif event in STARTS and os.path.basename(str(arguments[0])) not in HARMLESS:
                harm.seen.append(f"{event} {arguments[0]!r}"[:200])
            elif event in CONNECTS:
                harm.seen.append(f"{event} {arguments[-1]!r}"[:200])
            elif event == "open" and _for_writing(arguments) and not inside(arguments[0]):
                harm.seen.append(f"opened {arguments[0]} for writing")
            elif event in CHANGES:
                harm.seen += [f"{event} {path}" for path in arguments[: CHANGES[event]] if not inside(path)]
        except (TypeError, ValueError, OSError):
            pass
        finally:
            busy = False

    sys.addaudithook(hook)
    return harm


def _for_writing(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Mode, size and time of every file in a try's folder, its output and temporary files left out."""
    found = {}
    own = {folder / name for name in ("out", "tmp")}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) not in own]
        for name in (*folders, *names):
            status = os.lstat(os.path.join(parent, name))
            is_folder = os.path.isdir(os.path.join(parent, name))
            size, time = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
            found[os.path.relpath(os.path.join(parent, name), folder)] = (status.st_mode, size, time)
    return {name: value for name, value in found.items() if not name.startswith(("said.txt", "outcome"))}


def changed(before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]]) -> list[str]:
    """What differs between two snapshots."""
    return [
        f"{'made' if name not in before else 'removed' if name not in after else 'changed'} {name!a}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
