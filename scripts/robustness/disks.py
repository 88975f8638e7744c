"""Full, read-only and vanished output disks: one clear line, and the same command ends well once there is space.

    python scripts/robustness/disks.py [--only COMMAND]... [--docs FILE.md]

Small file systems in memory are mounted for it, which takes root; without it only the vanished folder is tried.
Exit code 1 if a command ended otherwise than by one line and exit code 2, or did not end well afterwards.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True
os.environ.update(OMP_NUM_THREADS="1", WANDB_MODE="offline", MPLBACKEND="agg", COLUMNS="200")

from scripts.robustness import base as base_files  # noqa: E402
from scripts.robustness import tables  # noqa: E402
from scripts.robustness.base import Base  # noqa: E402
from scripts.robustness.commands import COMMANDS, TRAIN, Command, differences, tree  # noqa: E402
from scripts.robustness.processes import Running, start  # noqa: E402

PREDICT = Command("predict", "predict run={run} images={image} out={f}/prediction device=cpu")
EXPORT = Command("export safetensors", "export run={run} format=safetensors out={f}/export/x.safetensors")
SCORE = Command("score", "score maps={evaluation}/maps out={f}/score data_dir={data}")
AE = Command("ae", TRAIN.replace("train ", "ae ", 1) + " rounds=2", runs=2)
OTHERS = (PREDICT, EXPORT, SCORE, AE)
SHARES = (0.0, 0.3, 0.8)
"""Of what the command writes: the space that is free."""

ERROR = re.compile(r"^wsol[\w -]*: error: |^\d+ problems?:$", re.MULTILINE)
"""Of any verb, and of the report of `wsol data verify`."""


class Disks:
    """Runs commands on disks that fail them.

    Args:
        folder: for everything.
        base: the good files.
    """

    def __init__(self, folder: Path, base: Base) -> None:
        self.folder, self.base, self._number = folder, base, 0

    def full(self, command: Command, size: int, share: float, expected: dict[str, object]) -> list[str]:
        """A disk with ``share`` of the needed space; returns what was wrong."""
        with self._mounted("64m") as place:
            command.prepare(place, self.base)
            used = sum(file.stat().st_size + 4096 for file in place.rglob("*"))
            _remount(place, f"size={used + int(share * size) + 8192}")
            run = self._run(command, place)
            if run.code == 0:  # it needed less than in the reference, or passed over what it could not write
                return [f"full at {share}: exit code 0, {d}" for d in differences(expected, _results(command, place))]
            faults = [f"full at {share}: {fault}" for fault in one_line(run, command.runs)]
            _remount(place, "size=256m")
            return faults + self._again(command, place, expected, f"after a full disk at {share}")

    def read_only(self, command: Command, expected: dict[str, object]) -> list[str]:
        """A disk that cannot be written."""
        with self._mounted("256m") as place:
            command.prepare(place, self.base)
            _remount(place, "ro")
            faults = [f"read-only: {fault}" for fault in one_line(self._run(command, place), command.runs)]
            _remount(place, "rw")
            return faults + self._again(command, place, expected, "after a read-only disk")

    def vanished(self, command: Command, seconds: float, share: float) -> list[str]:
        """A folder that is renamed while the command runs."""
        place = self._folder()
        command.prepare(place, self.base)
        run = self._start(command, place)
        time.sleep(share * seconds)
        if run.poll():
            return []
        place.rename(place.with_name("gone"))
        code = run.wait()
        faults = [] if code == 0 else one_line(run, command.runs)
        return [f"vanished: {fault}" for fault in faults]

    def reference(self, command: Command) -> tuple[dict[str, object], int, float]:
        """What the command makes, how many bytes, how many seconds."""
        place = self._folder()
        command.prepare(place, self.base)
        before = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        begun = time.monotonic()
        run = self._run(command, place)
        if run.code:
            raise SystemExit(f"{command.name}: exit code {run.code} on a good disk:\n{run.said[-1500:]}")
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) - before
        return _results(command, place), size, time.monotonic() - begun

    def _again(self, command: Command, place: Path, expected: dict[str, object], when: str) -> list[str]:
        run = self._run(command, place)
        if run.code:
            return [f"{when}: exit code {run.code}: {run.said.strip().splitlines()[-1][:160]}"]
        return [f"{when}: {difference}" for difference in differences(expected, _results(command, place))[:2]]

    def _folder(self) -> Path:
        self._number += 1
        place = self.folder / f"{self._number}" / "work"
        place.mkdir(parents=True)
        return place

    @contextmanager
    def _mounted(self, size: str) -> Iterator[Path]:
        place = self._folder()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False)

    def _start(self, command: Command, place: Path) -> Running:
        outside = place.parent / f"log-{time.monotonic_ns()}.txt"
        return start(command.line(place, self.base), place.parent, place.parent / "tmp", outside)

    def _run(self, command: Command, place: Path) -> Running:
        run = self._start(command, place)
        run.wait()
        return run


def one_line(run: Running, most: int = 1) -> list[str]:
    """What is wrong about the end of a command that could not write, of which so many runs may each have a line."""
    if run.code == 0:
        return ["exit code 0"]
    if "Traceback" in run.said or run.code != 2:
        last = (run.said.strip().splitlines() or [""])[-1]
        return [f"exit code {run.code}: {last[:160]}"]
    lines = len(ERROR.findall(run.said))
    return [] if 1 <= lines <= most else [f"{lines} error lines"]


def can_mount(folder: Path) -> bool:
    """Whether this user may mount a file system."""
    if os.geteuid() or not shutil.which("mount"):
        return False
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode == 0:
        subprocess.run(["umount", str(folder)], check=False)
    return made.returncode == 0


def _remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)


def _results(command: Command, place: Path) -> dict[str, object]:
    return command.results(place) if command.results else tree(place)


def main() -> int:
    """Try every command on every disk, print the table."""
    arguments = parser().parse_args()
    commands = [c for c in (*COMMANDS, *OTHERS) if not arguments.only or any(word in c.name for word in arguments.only)]
    draw = random.Random(arguments.seed)
    base_files.warm()
    rows, bad = [("command", "disks", "in order", "faults")], 0
    with tempfile.TemporaryDirectory(prefix="wsol-robustness-") as name:
        folder = Path(name).resolve()
        disks = Disks(folder, base_files.make(folder / "base"))
        mounts = can_mount(folder / "mount")
        if not mounts:
            print("file systems cannot be mounted here: full and read-only disks are left out", file=sys.stderr)
        for command in commands:
            if command.name == "sweep":  # its trials record their error and the search goes on
                continue
            expected, size, seconds = disks.reference(command)
            results = [disks.vanished(command, seconds, draw.uniform(0.2, 0.9))]
            if mounts:
                results += [disks.full(command, size, share, expected) for share in SHARES]
                results.append(disks.read_only(command, expected))
            faults = [fault for of_disk in results for fault in of_disk]
            print(f"{command.name}: {sum(not r for r in results)} of {len(results)} disks in order", file=sys.stderr)
            print("".join(f"  {fault}\n" for fault in faults), end="", file=sys.stderr, flush=True)
            rows.append((command.name, str(len(results)), str(sum(not r for r in results)), str(len(faults))))
            bad += len(faults)
    table = tables.markdown(rows)
    print(table)
    if arguments.docs:
        tables.write_block(arguments.docs, "disks", table)
    return 1 if bad else 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seed", type=int, default=0, help="of the moments")
    made.add_argument("--only", action="append", default=[], help="commands whose name has this in it")
    made.add_argument("--docs", type=Path, help="Markdown file whose block `disks` becomes the table")
    return made


if __name__ == "__main__":
    sys.exit(main())
