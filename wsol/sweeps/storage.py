"""The storage of a study: a database or a journal in the sweep's folder, or a database server."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from wsol.errors import InputError, first_line

PATIENCE = 120.0
"""Seconds that a worker waits while others open the study."""


class StorageError(InputError):
    """The study cannot be read or written at present; nothing is lost."""


@contextlib.contextmanager
def reachable(storage: str) -> Iterator[None]:
    """Convert errors of the storage to one that explains them.

    Raises:
        StorageError: it cannot be used.
    """
    try:
        yield
    except (
        SQLAlchemyError,
        OSError,
        optuna.exceptions.StorageInternalError,
        ImportError,
        json.JSONDecodeError,
    ) as error:
        cause = error.__cause__ or error
        if isinstance(cause, NoSuchModuleError):
            raise InputError(
                f"sweep.storage={storage}: no such kind of storage ({first_line(cause)}); expected journal, sqlite, or "
                "the URL of a database that SQLAlchemy knows, such as postgresql://user@host/name"
            ) from error
        raise StorageError(
            f"sweep.storage={storage}: cannot be used ({first_line(cause)}). Is it locked by another program, full, or "
            "unreachable? Nothing is lost: repeat the command when it is available again"
        ) from error


@contextlib.contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Exclude other processes inside the block, if the file system has locks."""
    lock = FileLock(file, timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()


def publish(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file unless another process, perhaps on another machine, has written it."""
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    try:
        os.link(temporary, file)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileExistsError), file.open("x", encoding="utf-8") as stream:
            stream.write(temporary.read_text(encoding="utf-8"))
    finally:
        temporary.unlink()


def read_about(file: Path) -> dict[str, Any]:
    """Return what the folder records about its study."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: unreadable ({first_line(error)}); choose another sweep.folder") from error
    if not isinstance(content, dict) or not isinstance(content.get("study"), str) or "search" not in content:
        raise InputError(f"{file}: expected the name of a study and its search; choose another sweep.folder")
    return content


def connect(name: str, folder: Path) -> BaseStorage:
    """Open the storage, and create its tables if necessary."""
    if name == "journal":
        return JournalStorage(JournalFileBackend(str(folder / "study.log")))
    if name != "sqlite" and "://" not in name:
        raise InputError(f"sweep.storage={name}: expected sqlite, journal, or the URL of a database server")
    for attempt in range(5):
        try:
            return _database(name, folder)
        except SQLAlchemyError as error:  # another machine creates the tables at the same time
            said = str(error).lower()
            if attempt == 4 or not any(word in said for word in ("already exists", "unique", "duplicate")):
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError


def _database(name: str, folder: Path) -> RDBStorage:
    if name != "sqlite":
        return RDBStorage(name)
    file = str(folder / "study.db")  # not in the URL, where some characters of a path have a meaning

    def open_file() -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=60, check_same_thread=False)

    return RDBStorage("sqlite:///study.db", engine_kwargs={"creator": open_file})
