"""The report's benchmark runs, at its smallest, and its figures can be true."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "scripts" / "benchmarks"


def test_the_benchmark_of_the_report_prints_its_numbers(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["report.py", "--images", "60", "--runs", "1", "--screens", "2"])
    runpy.run_path(str(FOLDER / "report.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert float(re.findall(r"written in ([\d.]+) s", out)[0]) > 0
    if shutil.which("chromium") and shutil.which("chromedriver"):
        seconds, work = map(float, re.findall(r"answers after ([\d.]+) s, ([\d.]+) s", out)[0])
        assert seconds > 0
        assert work > 0
        memory = [int(size) for size in re.findall(r"(\d+) MB in the page's process", out)]
        assert len(memory) == 3
        assert all(size > 0 for size in memory)
