"""One try: an input, a command or a call, and what is right; and the judgement of what came of it.

Each try runs in a process of its own, forked from one that has imported the package, so that it starts in milliseconds,
leaves nothing behind in the next one, and can be killed where it hangs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.robustness.base import Base
from scripts.robustness.sandbox import Outcome, run_in_sandbox

VERDICTS = ("accepted", "clear", "unclear", "trace", "silent", "hang", "ran or wrote")
BAD = ("trace", "silent", "hang", "ran or wrote")
"""What must not happen."""

REMEDY = re.compile(
    r"expect|try |choose|choices|did you mean|\buse |\bgive|again|delete|remove|must|needs?\b|free|save |larger|smaller"
    r"|such as|no valid YAML|is not a |for field of type|is not Optional|Cannot assign|could not be converted|\bno such|Allowed|\bwrite |\bare they |\bpass |\bleave |\bcheck |move |which |required|check it|has the |has no |above|below|available|instead|keep |only|at most|at least|see |fix |set |with |rename|convert|download|lacks|outside|unknown",
    re.IGNORECASE,
)
"""Words of a message that says what was expected, or what to do."""

NOTE = re.compile(
    r"note:|passed over|left out|warning|not finite|\bNaN\b|alike|NFC|normali|ignored|dropped|left out|skipped|stay missing",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Place:
    """The folders of a try."""

    folder: Path
    base: Base

    @property
    def inputs(self) -> Path:
        """Where the malformed input lies; nothing may write there."""
        return self.folder / "in"

    @property
    def out(self) -> Path:
        """Where the command may write; the working directory."""
        return self.folder / "out"

    @property
    def canary(self) -> Path:
        """Made by input that is executed."""
        return self.folder / "CANARY"


Make = Callable[[Place], Any]
Act = str | Callable[[Place], Any]


@dataclass(frozen=True)
class Try:
    """An input and what is done with it.

    Args:
        kind: row of the table.
        input: name of the input, distinct within the kind.
        make: writes the input into the folders of the try.
        act: the words of a command, with ``{inputs}``, ``{out}`` and attributes of the base in braces, or a call.
        right: ``refused``, ``accepted``, ``noted`` (accepted, and something is said about it) or ``either``
            (refused, or accepted with the value of ``value``).
        names: a refusal names one of these: a file, a key, a class.
        value: whether the result of an accepted input is the right one.
    """

    kind: str
    input: str
    make: Make
    act: Act
    right: str = "refused"
    names: tuple[str, ...] = ()
    value: Callable[[Place, Outcome], bool] | None = None

    @property
    def verb(self) -> str:
        """What is tried: a verb, or a call."""
        return self.act.split()[0] if isinstance(self.act, str) else "python"

    @property
    def label(self) -> str:
        """Name in reports."""
        return f"{self.kind} | {self.input} | {self.verb}"


@dataclass
class Judged:
    """What came of a try."""

    which: Try
    verdict: str
    why: str
    outcome: Outcome = field(repr=False)


def nothing(place: Place) -> None:
    """The input is in the words of the command."""


def words_of(act: str, place: Place) -> list[str]:
    """Fill in the folders, word by word."""
    names = {"inputs": place.inputs, "out": place.out, "canary": place.canary, **place.base.names()}
    return [re.sub(r"\{(\w+)\}", lambda m: str(names.get(m[1], m[0])), word) for word in act.split()]


def judge(one: Try, place: Place, outcome: Outcome) -> tuple[str, str]:
    """The verdict on an outcome, and why."""
    if outcome.harm:
        return "ran or wrote", "; ".join(outcome.harm[:3])
    if outcome.hung:
        return "hang", "no end within the time allowed"
    if outcome.trace is not None:
        return "trace", _last_line(outcome.trace)
    if outcome.code == 0:
        return _of_accepted(one, outcome)
    partly = outcome.code == 1 and outcome.message  # done in part, or a training that diverged
    if outcome.code != 2 and not partly:
        return "trace", f"exit code {outcome.code}"
    if one.right in ("accepted", "noted"):
        return "silent", f"refused, though it is right: {outcome.message[:200]}"
    return _of_refusal(one, outcome)


def _last_line(trace: str) -> str:
    """The line of a trace that names the error."""
    lines = [line for line in trace.splitlines() if line[:1].strip()]
    return lines[-1][:300] if lines else "no exit code"


def _of_accepted(one: Try, outcome: Outcome) -> tuple[str, str]:
    if one.right == "refused":
        return "silent", "accepted without a word"
    if one.right == "noted" and not NOTE.search(outcome.said):
        return "silent", "accepted, but nothing is said about it"
    if outcome.value is False:
        return "silent", "accepted with another result than the right one"
    return "accepted", ""


def _of_refusal(one: Try, outcome: Outcome) -> tuple[str, str]:
    if not outcome.message:
        return "unclear", "exit code 2 without an error line"
    if outcome.errors != 1:
        return "unclear", f"{outcome.errors} error lines"
    if one.names and not any(name.lower() in outcome.message.lower() for name in one.names):
        return "unclear", f"names none of {', '.join(one.names)}: {outcome.message[:200]}"
    if not REMEDY.search(outcome.message):
        return "unclear", f"no expectation or remedy: {outcome.message[:200]}"
    return "clear", ""


def run_all(
    tries: Sequence[Try],
    base: Base,
    folder: Path,
    *,
    jobs: int = 2,
    seconds: float = 30,
    tell: Callable[[int, Judged], None] = lambda done, judged: None,
) -> list[Judged]:
    """Run the tries, ``jobs`` at a time, each in a fork of this process.

    Args:
        tries: in order.
        base: the good files they start from.
        folder: for their files; each try's are removed when it is done.
        jobs: how many at a time.
        seconds: after which a try hangs.
        tell: called after each.
    """
    waiting, running, done = list(enumerate(tries))[::-1], {}, {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, one = waiting.pop()
            place = Place(folder / f"try-{number}", base)
            running[_start(one, place)] = (number, one, place, time.monotonic() + seconds)
        for pid in _ended(running):
            number, one, place, end = running.pop(pid)
            outcome = Outcome.read(place.folder, hung=time.monotonic() > end)
            done[number] = Judged(one, *judge(one, place, outcome), outcome)
            _clear(place.folder)
            tell(len(done), done[number])
        time.sleep(0.005)
    return [done[number] for number in sorted(done)]


def _start(one: Try, place: Place) -> int:
    for part in (place.inputs, place.out, place.folder / "tmp"):
        part.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        one.make(place)
        action = words_of(one.act, place) if isinstance(one.act, str) else lambda: one.act(place)  # type: ignore[operator]
        run_in_sandbox(action, place, one.value)
        code = 0
    except BaseException as error:
        (place.folder / "broken.txt").write_text(f"the try itself failed: {error!r}")
    finally:
        os._exit(code)


def _ended(running: dict[int, tuple[int, Try, Place, float]]) -> Iterable[int]:
    """Processes that have ended; those out of time are killed, with what they started."""
    ended = []
    for pid, (_, _, _, end) in running.items():
        if time.monotonic() > end:
            with_children(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            ended.append(pid)
        elif os.waitpid(pid, os.WNOHANG)[0]:
            ended.append(pid)
    return ended


def with_children(pid: int, number: int) -> None:
    """Send a signal to a process that leads a group, and to the group."""
    for send, target in ((os.killpg, pid), (os.kill, pid)):
        try:
            send(target, number)
        except (ProcessLookupError, PermissionError):
            continue


def _clear(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def as_json(judged: Sequence[Judged]) -> str:
    """Every try that is not in order, with what was said."""
    failing = [
        {
            "kind": one.which.kind,
            "input": one.which.input,
            "verb": one.which.verb,
            "right": one.which.right,
            "verdict": one.verdict,
            "why": one.why,
            "said": one.outcome.said[-1500:],
            "trace": (one.outcome.trace or "")[-1500:],
        }
        for one in judged
        if one.verdict in (*BAD, "unclear")
    ]
    return json.dumps({"tries": len(judged), "failing": failing}, indent=2, ensure_ascii=True)
