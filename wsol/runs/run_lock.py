"""One process at a time trains a run: a kernel lock on a file in the run folder, released when the process ends."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from wsol.errors import InputError, first_line
from wsol.files import is_alive, is_hidden

log = logging.getLogger("wsol")

LOCK_FILE = ".wsol-lock"
OWNER_FILE = ".wsol-owner.json"
"""Names the owner of the lock, for messages to other processes."""
PATIENCE = 15.0
"""Seconds for which the loading processes of a killed run may keep its lock."""

_held: dict[Path, BaseFileLock | None] = {}
_told: set[str] = set()


class RunInUse(InputError):
    """Another process is training the run."""


def lock(folder: Path) -> None:
    """Lock a run folder until `unlock` or the end of this process; does nothing if this process has the lock.

    If the file system has no locks, a warning is logged once, and the run continues without one.

    Raises:
        RunInUse: another process has it.
    """
    place = folder.resolve()
    if place in _held:
        return
    if not (folder / LOCK_FILE).exists():  # a new folder: counts as abandoned if this process is killed now
        _write_owner(folder)
    _held[place] = _acquired(folder)
    _write_owner(folder)


def unlock(folder: Path) -> None:
    """Release a run folder."""
    place = folder.resolve()
    if place in _held:
        (folder / OWNER_FILE).unlink(missing_ok=True)
        held = _held.pop(place)
        if held is not None:
            held.release()


def remove_abandoned(parent: Path) -> None:
    """Remove the folders in ``parent`` of runs that were killed before they recorded a config.

    Such a folder contains only the lock and the name of an ended process of this machine.
    """
    with contextlib.suppress(OSError):
        for folder in list(parent.iterdir()):
            if _is_abandoned(folder) and _file_lock(folder / LOCK_FILE).acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    if not (folder / OWNER_FILE).is_file() or (folder / "config.yaml").exists():
        return False
    own = all(path.name in (LOCK_FILE, OWNER_FILE) or is_hidden(path) for path in folder.iterdir())
    pid, host = _owner(folder)
    return own and pid is not None and host == socket.gethostname() and not is_alive(pid)


@contextlib.contextmanager
def exclusive(folder: Path, patience: float = 120.0) -> Iterator[None]:
    """Allow one process at a time to look for a run in a folder of runs, and to begin one."""
    guard = _file_lock(folder / LOCK_FILE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        guard.acquire(timeout=patience)
    except (Timeout, NotImplementedError, OSError) as error:
        if not isinstance(error, Timeout):
            _tell_once(folder, error)
    try:
        yield
    finally:
        guard.release()


def _acquired(folder: Path) -> BaseFileLock | None:
    """Return the lock, acquired; None if the file system has none."""
    wanted, until = _file_lock(folder / LOCK_FILE), time.monotonic() + PATIENCE
    while True:
        try:
            wanted.acquire(timeout=0)
            return wanted
        except Timeout:
            pid, host = _owner(folder)
            if time.monotonic() < until and host == socket.gethostname() and pid and not is_alive(pid):
                time.sleep(0.2)
                continue
            who = f"another process (pid {pid}, {host})" if pid is not None else "another process"
            raise RunInUse(
                f"{folder}: {who} is training this run; wait until it has ended, stop it, or choose another run_dir"
            ) from None
        except (NotImplementedError, OSError) as error:
            _tell_once(folder, error)
            return None


def _file_lock(file: Path) -> BaseFileLock:
    try:
        return FileLock(file, fallback_to_soft=False)
    except TypeError:  # versions of filelock that never fall back
        return FileLock(file)


def _tell_once(folder: Path, error: BaseException) -> None:
    if (what := first_line(error)) not in _told:
        _told.add(what)
        log.warning(
            "%s: files cannot be locked there (%s); do not train one run in two processes at once", folder, what
        )


def _write_owner(folder: Path) -> None:
    owner = {"pid": os.getpid(), "host": socket.gethostname()}
    with contextlib.suppress(OSError):
        (folder / OWNER_FILE).write_text(json.dumps(owner) + "\n", encoding="utf-8")


def _owner(folder: Path) -> tuple[int | None, str | None]:
    try:
        content = json.loads((folder / OWNER_FILE).read_text(encoding="utf-8"))
        return int(content["pid"]), str(content["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
