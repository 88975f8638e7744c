"""The guard of tests/guard.py fails what leaves files in the working directory or the checkout, and names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.guard import ROOT

CONFTEST = """
from pathlib import Path
from tests.guard import Guard

def pytest_configure(config):
    config.pluginmanager.register(Guard(Path(__file__).parent))
"""
TESTS = """
import os
from pathlib import Path

HERE = Path(__file__).parent

def test_a_relative_path():
    Path("runs").mkdir()

def test_that_is_clean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()

def test_in_the_checkout():
    (HERE / "runs").mkdir()

def test_deep_in_the_checkout():
    (HERE / "docs" / "made").write_text("")
"""


def test_what_a_test_leaves_fails_it_and_is_named(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "docs").mkdir(parents=True)
    (checkout / "pytest.ini").write_text("[pytest]\n")
    (checkout / "conftest.py").write_text(CONFTEST)
    (checkout / "test_planted.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout
    assert done.returncode == 1, said + done.stderr
    assert "4 passed, 2 errors" in said
    assert "test_a_relative_path left files outside its temporary folder: " + str(tmp_path / "base") in said
    assert f"test_in_the_checkout left files outside its temporary folder: {checkout / 'runs'}" in said
    (listed,) = said.split("new in the checkout since the tests began")[1:]
    assert str(checkout / "docs" / "made") in listed
    assert str(checkout / "runs") not in listed.splitlines()[1], "it has been named"
