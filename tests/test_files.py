"""Files and folders are whole or not there, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from wsol import files
from wsol.files import atomic_file, atomic_folder


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(file) as temporary:  # noqa: PT012
        temporary.write_text("ne")
        raise RuntimeError
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep" / "made") as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a.txt").write_text("a")
        assert not (tmp_path / "deep" / "made").exists()
    assert (tmp_path / "deep" / "made" / "sub" / "a.txt").read_text() == "a"
    assert os.listdir(tmp_path / "deep") == ["made"]


def test_a_folder_with_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("a")
    with pytest.raises(OSError), atomic_folder(tmp_path / "mine") as temporary:
        (temporary / "b.txt").write_text("b")
    assert os.listdir(tmp_path / "mine") == ["a.txt"]
    assert os.listdir(tmp_path) == ["mine"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    program = f"""
import os, signal
from pathlib import Path
from wsol.files import atomic_{kind}
with atomic_{kind}(Path({str(target)!r})) as temporary:
    (temporary if {kind!r} == "file" else temporary / "a").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    left = os.listdir(tmp_path)
    assert len(left) == 1
    assert left[0].startswith(".target.partial-")
    if kind == "file":
        with atomic_file(target) as temporary:
            temporary.write_text("whole")
    else:
        with atomic_folder(target) as temporary:
            (temporary / "a").write_text("whole")
    assert os.listdir(tmp_path) == ["target"]


def test_windows_processes_get_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(files, "os", SimpleNamespace(name="nt", kill=lambda *signal: sent.append(signal)))
    assert files.is_alive(2**22 + 1)
    assert sent == []
