"""Fails a test that leaves files outside its temporary folder: in its working directory or in the checkout.

Each process runs its tests from an empty folder below pytest's base temp, so a relative path never leads into the
checkout, and what appears there was written by the test that has just ended. The checkout is looked at after each test
(the folders where a run's files would go) and at the end (all of it).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CACHES = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", "wsol.egg-info"}
"""Folders that tools write, or that are no part of the checkout."""
WATCHED = ("", "runs", "data", "configs", "tests", "wsol")
"""Folders of the checkout whose names are compared after each test."""


def _is_cache(name: str) -> bool:
    return name in CACHES or name.startswith(".coverage")


def names(folder: Path) -> set[str]:
    """Return the paths of a folder's entries, caches aside; none if there is no such folder."""
    with contextlib.suppress(FileNotFoundError):
        return {str(folder / name) for name in os.listdir(folder) if not _is_cache(name)}
    return set()


def tree(folder: Path) -> set[str]:
    """Return the paths of all files and folders below a folder, caches aside."""
    found = set()
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_cache(name)]
        found |= {os.path.join(parent, name) for name in (*folders, *files) if not _is_cache(name)}
    return found


class Guard:
    """A plugin of pytest; see the head of this file.

    Args:
        watched: folder that no test may write to.
    """

    def __init__(self, watched: Path = ROOT) -> None:
        self.watched = watched
        self.home = Path.cwd()
        self.empty: Path | None = None
        self.all: set[str] = set()
        self.near: set[str] = set()
        self.left: list[str] = []

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember what the checkout holds."""
        self.all = tree(self.watched)
        self.near = self._nearby()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Go to the empty folder before the first fixture."""
        if self.empty is None:
            self.empty = item.session.config._tmp_path_factory.mktemp("cwd")  # type: ignore[attr-defined]
        os.chdir(self.empty)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        """Fail a test that left something."""
        result = yield
        assert self.empty is not None
        left = sorted(names(self.empty))
        for path in map(Path, left):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        near = self._nearby()
        left += sorted(near - self.near)
        self.near |= near
        self.all |= near
        if left:
            pytest.fail(
                f"{item.nodeid} left files outside its temporary folder: {', '.join(left)}; write below tmp_path "
                "(in the checkout it may also be a test that ran at the same time)",
                pytrace=False,
            )
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        """Report from where pytest was started, so that the paths of failures are short."""
        try:
            here: str | None = os.getcwd()
        except FileNotFoundError:  # a test removed it
            here = None
        os.chdir(self.home)
        try:
            return (yield)
        finally:
            if here:
                os.chdir(here)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look through the whole checkout."""
        os.chdir(self.home)
        if hasattr(session.config, "workerinput"):
            return
        self.left = sorted(tree(self.watched) - self.all)
        if self.left and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what was found in the checkout."""
        if self.left:
            terminalreporter.section("new in the checkout since the tests began", red=True)
            terminalreporter.line("\n".join(self.left[:20]))

    def _nearby(self) -> set[str]:
        return set().union(*(names(self.watched / folder) for folder in WATCHED))
