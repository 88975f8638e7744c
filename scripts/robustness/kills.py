"""Kill commands at random moments, give them again, and compare what they made with what an uninterrupted run makes.

    python scripts/robustness/kills.py [--kills 100] [--signals 3] [--seed N] [--only COMMAND]... [--docs FILE.md]

Half of the commands have their temporary folder on another file system. Exit code 1 if anything was lost, differs or
is left behind, or if SIGTERM or SIGINT does not end a command with 143 or 130 and one line.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True
os.environ.update(OMP_NUM_THREADS="1", WANDB_MODE="offline", MPLBACKEND="agg", COLUMNS="200")

from scripts.robustness import base as base_files  # noqa: E402
from scripts.robustness import tables  # noqa: E402
from scripts.robustness.base import Base  # noqa: E402
from scripts.robustness.commands import COMMANDS, Command, differences, tree  # noqa: E402
from scripts.robustness.processes import Running, start  # noqa: E402

SHM = Path("/dev/shm")
WEIGHTS = {"train": 34, "eval save_maps=true": 14, "table make_missing=true": 12, "data prepare": 12, "convert": 10, "report": 8,
           "creatures": 8, "sweep": 6}  # fmt: skip
"""Parts of the kills."""

PARTIAL = re.compile(r"(^\.|\.part$|\.tmp$|\.ckpt)")
"""Names that say that something is being written, a checkpoint among them."""

LARGE = 20_000
"""Bytes of a file in the temporary folder that count as left behind."""


@dataclass
class Tally:
    """What came of the kills of one command."""

    name: str
    kills: int = 0
    rounds: int = 0
    whole: int = 0
    faults: list[str] = field(default_factory=list)


class Campaign:
    """Runs commands in folders of their own.

    Args:
        folder: for everything.
        base: the good files.
        draw: of moments.
    """

    def __init__(self, folder: Path, base: Base, draw: random.Random) -> None:
        self.folder, self.base, self.draw = folder, base, draw
        self._number = 0
        self._shm = Path(tempfile.mkdtemp(prefix="wsol-robustness-", dir=SHM)) if SHM.is_dir() else None

    def close(self) -> None:
        """Remove the temporary folder on the other file system."""
        if self._shm:
            shutil.rmtree(self._shm, ignore_errors=True)

    def reference(self, command: Command) -> tuple[dict[str, Any], float]:
        """What the command makes, and how long it takes."""
        place, temporary = self._place(command, other=False)
        begun = time.monotonic()
        run = start(command.line(place, self.base), place.parent, temporary, place.parent / "log.txt")
        if code := run.wait(300):
            raise SystemExit(f"{command.name}: exit code {code} without any kill:\n{run.said[-1500:]}")
        seconds = time.monotonic() - begun
        return self._results(command, place), seconds

    def round(self, command: Command, tally: Tally, expected: dict[str, Any], seconds: float, kills: int) -> None:
        """Kill a command some times, then let it end, and compare."""
        place, temporary = self._place(command, other=self.draw.random() < 0.5)
        landed = 0
        for _ in range(kills):
            run = start(command.line(place, self.base), place.parent, temporary, place.parent / "log.txt")
            landed += self._kill(run, command, place, temporary, seconds)
        tally.kills += landed
        tally.rounds += 1
        run = start(command.line(place, self.base), place.parent, temporary, place.parent / "log.txt")
        code = run.wait(300)
        last = (run.said.strip().splitlines() or [""])[-1]
        whole = code == 2 and "contains an earlier output" in last  # the kill came behind the last file
        faults = [f"exit code {code}: {last[:200]}"] if code and not whole else []
        faults = faults or differences(expected, self._results(command, place))
        faults += [f"left in TMPDIR: {path.name}" for path in self._large(temporary)]
        tally.whole += not faults
        tally.faults += faults[:5]
        shutil.rmtree(place.parent)
        shutil.rmtree(temporary, ignore_errors=True)

    def _kill(self, run: Running, command: Command, place: Path, temporary: Path, seconds: float) -> bool:
        """Whether the kill came before the end. Every other one waits for a file that is being written."""
        end = time.monotonic() + self.draw.uniform(0.05, 1.0) * seconds
        watch = self.draw.random() < 0.5
        while time.monotonic() < end and not run.poll():
            if watch and time.monotonic() > end - 0.7 * seconds and any(self._writing(place, temporary)):
                break
            time.sleep(0.002)
        if run.poll():
            return False
        worker = self._children(run.pid) if command.name == "sweep" else []
        choice = self.draw.choice(["all", "parent", "worker"]) if worker else "all"
        if choice == "worker":
            os.kill(self.draw.choice(worker), signal.SIGKILL)
        elif choice == "parent":
            run.send(signal.SIGKILL, group=False)
        else:
            run.send(signal.SIGKILL)
        run.wait(120)
        for pid in worker:  # orphans end by themselves, or with this
            _quietly_kill(pid)
        return True

    @staticmethod
    def _writing(place: Path, temporary: Path) -> Iterator[Path]:
        for folder in (place, temporary):
            for parent, _, names in os.walk(folder):
                for name in names:
                    path = Path(parent, name)
                    if PARTIAL.search(name) and name != ".unpacked.json" and _age(path) < 0.01:
                        yield path

    @staticmethod
    def _children(pid: int) -> list[int]:
        file = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(word) for word in file.read_text().split()] if file.exists() else []

    def signals(self, command: Command, seconds: float, number: int) -> list[str]:
        """Send SIGTERM or SIGINT at random moments; returns what was wrong."""
        faults = []
        for kind in (signal.SIGTERM, signal.SIGINT):
            for _ in range(number):
                place, temporary = self._place(command, other=False)
                run = start(command.line(place, self.base), place.parent, temporary, place.parent / "log.txt")
                time.sleep(0.05 + self.draw.uniform(0, 0.9) * seconds)
                if not run.poll():
                    run.send(kind, group=False)
                    faults += _of_signal(run, kind, run.wait(60))
                _quietly_kill(-run.pid)
                shutil.rmtree(place.parent)
        return faults

    def _place(self, command: Command, other: bool) -> tuple[Path, Path]:
        self._number += 1
        place = self.folder / f"{self._number}" / "work"
        place.mkdir(parents=True)
        command.prepare(place, self.base)
        temporary = self._shm / f"{self._number}" if other and self._shm else place.parent / "tmp"
        return place, temporary

    @staticmethod
    def _results(command: Command, place: Path) -> dict[str, Any]:
        return command.results(place) if command.results else tree(place)

    @staticmethod
    def _large(temporary: Path) -> list[Path]:
        return [path for path in temporary.rglob("*") if path.is_file() and path.stat().st_size > LARGE]


def _of_signal(run: Running, kind: int, code: int) -> list[str]:
    name, lines = signal.Signals(kind).name, [line for line in run.said.splitlines() if line.startswith("wsol: ")]
    if code == 0:
        finished = "Traceback" not in run.said and not lines
        return [] if finished and "interrupted" not in run.said else [f"{name}: exit code 0"]
    if code != 128 + kind:
        return [f"{name}: exit code {code}: {(run.said.strip().splitlines() or [''])[-1][:150]}"]
    if run.by_signal or "Traceback" in run.said or len(lines) != 1:
        return [f"{name}: exit code {code}, but {len(lines)} lines say so"]
    return []


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 1e9


def _quietly_kill(pid: int) -> None:
    try:
        os.killpg(-pid, signal.SIGKILL) if pid < 0 else os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def main() -> int:
    """Kill, compare, print the table."""
    arguments = parser().parse_args()
    chosen = [c for c in COMMANDS if not arguments.only or any(word in c.name for word in arguments.only)]
    total = sum(WEIGHTS[c.name] for c in chosen)
    base_files.warm()
    rows = [("command", "kills", "rounds", "whole and equal", "signals", "faults")]
    bad = kills = 0
    with tempfile.TemporaryDirectory(prefix="wsol-robustness-") as name:
        folder = Path(name).resolve()
        campaign = Campaign(folder, base_files.make(folder / "base"), random.Random(arguments.seed))
        try:
            for command in chosen:
                wanted = -(-arguments.kills * WEIGHTS[command.name] // total)
                tally, sent, wrong = _one(campaign, command, wanted, arguments.signals)
                faults = [*dict.fromkeys([*tally.faults, *wrong])]
                print(f"{command.name}: {tally.kills} kills, {tally.whole} of {tally.rounds} whole", file=sys.stderr)
                print("".join(f"  {fault}\n" for fault in faults), end="", file=sys.stderr, flush=True)
                count = f"{sent - len(wrong)} of {sent}"
                numbers = map(str, (tally.kills, tally.rounds, tally.whole))
                rows.append((command.name, *numbers, count, str(len(faults))))
                bad, kills = bad + len(faults), kills + tally.kills
        finally:
            campaign.close()
    table = tables.markdown([*rows, ("**all**", str(kills), "", "", "", str(bad))])
    print(table)
    if arguments.docs:
        tables.write_block(arguments.docs, "kills", table)
    return 1 if bad else 0


def _one(campaign: Campaign, command: Command, kills: int, signals: int) -> tuple[Tally, int, list[str]]:
    """Kills and signals of one command."""
    tally = Tally(command.name)
    expected, seconds = campaign.reference(command)
    for _ in range(4 * kills):
        if tally.kills >= kills:
            break
        campaign.round(command, tally, expected, seconds, min(campaign.draw.choice([1, 2, 3]), kills - tally.kills))
    few = min(signals, 1) if command.name == "sweep" else signals
    return tally, 2 * few, campaign.signals(command, seconds, few)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--kills", type=int, default=100)
    made.add_argument("--signals", type=int, default=3, help="of each sort for each command")
    made.add_argument("--seed", type=int, default=0, help="of the moments")
    made.add_argument("--only", action="append", default=[], help="commands whose name has this in it")
    made.add_argument("--docs", type=Path, help="Markdown file whose block `kills` becomes the table")
    return made


if __name__ == "__main__":
    sys.exit(main())
