"""The attempts at each trial: one file per attempt shows which worker runs it and whether that worker is alive.

The file of an attempt is created exclusively, which is atomic on local and network file systems, so an attempt has one
owner even where file locks do not work between machines. The owner renews the file's time while it is alive. Others
take the next attempt when the owner has recorded that it stopped, when its process is gone (on the same machine), or
when the file's time has not changed for `GRACE` seconds of their own clock (on another machine: clocks need not agree).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Literal

from wsol.files import atomic_file, is_alive

INTERVAL = 10.0
"""Seconds between two heartbeats."""
GRACE = 120.0
"""Seconds without a heartbeat after which the owner of an attempt on another machine counts as dead."""

Ending = Literal["finished", "left", "crashed"]
"""``left``: interrupted externally, not because of the trial."""


class Attempt:
    """One attempt, owned by this process; heartbeats are sent until `end`.

    Args:
        file: file of the attempt, just created.
        following: file of the next attempt; if it exists, another worker has taken over.
        record: content of the file.
    """

    def __init__(self, file: Path, following: Path, record: dict[str, Any]) -> None:
        self.file, self._following, self._record = file, following, record
        self._stop = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def is_mine(self) -> bool:
        """Return whether no other worker has taken over."""
        return not self._following.exists()

    def end(self, how: Ending) -> None:
        """Stop the heartbeats and record the reason."""
        self._stop.set()
        self._record["ended"] = how
        with contextlib.suppress(OSError), atomic_file(self.file) as temporary:
            temporary.write_text(json.dumps(self._record), encoding="utf-8")

    def _beat(self) -> None:
        while not self._stop.wait(INTERVAL):
            with contextlib.suppress(OSError):
                os.utime(self.file)


class Attempts:
    """The attempts in a folder.

    Args:
        folder: folder of the files; it is created.
        machine: name of this machine; default `this_machine`.
    """

    def __init__(self, folder: Path, machine: str | None = None) -> None:
        self.folder, self.machine = folder, machine or this_machine()
        self._seen: dict[Path, tuple[tuple[str, int], float]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, name: str, progress: int = 0) -> Attempt | None:
        """Own the next attempt at ``name``; None while another worker may be running it.

        Args:
            name: name of the trial.
            progress: progress of earlier attempts; see `crashes`.
        """
        last = self._count(name)
        if last and not self._is_over(self._file(name, last)):
            return None
        file = self._file(name, last + 1)
        record = {
            "machine": self.machine,
            "process": os.getpid(),
            "process_started": process_start(os.getpid()),
            "progress": progress,
            "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        try:
            with file.open("x", encoding="utf-8") as stream:
                stream.write(json.dumps(record))
                stream.flush()
                os.fsync(stream.fileno())
        except FileExistsError:  # another worker was faster
            return None
        return Attempt(file, self._file(name, last + 2), record)

    def crashes(self, name: str, progress: int) -> int:
        """Return how many attempts at ``name`` began with this progress and ended with the death of their worker."""
        records = [_read(self._file(name, number))[0] for number in range(1, self._count(name) + 1)]
        return sum(
            record.get("progress") == progress and record.get("ended", "crashed") == "crashed" for record in records
        )

    def _count(self, name: str) -> int:
        count = 0
        while self._file(name, count + 1).exists():
            count += 1
        return count

    def _file(self, name: str, number: int) -> Path:
        return self.folder / f"{name}-{number}.json"

    def _is_over(self, file: Path) -> bool:
        record, state = _read(file)
        if "ended" in record:
            return True
        if record.get("machine") == self.machine:
            started = process_start(record["process"])
            if started is None:
                return True
            if started and record["process_started"]:
                return started != record["process_started"]
        before = self._seen.get(file)
        if before is None or before[0] != state:
            self._seen[file] = (state, time.monotonic())
            return False
        return time.monotonic() - before[1] > GRACE


def _read(file: Path) -> tuple[dict[str, Any], tuple[str, int]]:
    """Return the record, and the values that a heartbeat changes; a file being created has an empty record."""
    with file.open(encoding="utf-8", errors="replace") as stream:  # opening fetches the newest state from a file server
        text, changed = stream.read(), os.fstat(stream.fileno()).st_mtime_ns
    try:
        record = json.loads(text)
    except ValueError:
        record = {}
    return record if isinstance(record, dict) else {}, (text, changed)


def this_machine() -> str:
    """Return the name of the scope in which process numbers are unique: host, its boot, and the container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def process_start(process: int) -> str | None:
    """Return when a process of this machine was started, empty if the system does not say; None if it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = stat.rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except (OSError, IndexError):
        return "" if is_alive(process) else None
