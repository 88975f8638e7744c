"""A small part of the robustness campaign (scripts/robustness): malformed input, killed processes, full disks."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.robustness import base, runner, sandbox, tables

FOLDER = Path(__file__).parent.parent / "scripts" / "robustness"


def run_program(name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    command = [sys.executable, str(FOLDER / name), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_a_sample_of_malformed_inputs_is_refused_clearly_or_accepted_rightly(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run_program("malformed.py", "--sample", "40", "--report", str(report), cwd=tmp_path)
    assert report.exists(), done.stderr
    content = json.loads(report.read_text())
    assert content["tries"] == 40
    wrong = [one for one in content["failing"] if one["verdict"] in runner.BAD]
    assert not wrong, "\n".join(f"{one['verdict']}: {one['input']}: {one['why']}" for one in wrong)
    assert done.returncode == 0


def test_killed_commands_end_as_if_never_killed(tmp_path: Path) -> None:
    words = ["--kills", "3", "--signals", "1", "--only", "train", "--only", "convert"]
    done = run_program("kills.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "| train |" in done.stdout


def test_there_are_600_distinct_inputs_of_every_kind() -> None:
    names = ("checkpoints", "archives", "images", "annotations", "maps", "runs", "configs", "api")
    tries = [t for name in names for t in importlib.import_module(f"scripts.robustness.{name}").tries()]
    assert len(tries) >= 700
    assert tables.distinct(tries) >= 600
    labels = [(one.kind, one.input, one.act) for one in tries]
    assert len(labels) == len(set(labels)), "the same try twice"


@pytest.mark.parametrize(
    ("right", "outcome", "verdict"),
    [
        ("refused", sandbox.Outcome(code=2, message="x.ckpt: expected a checkpoint", errors=1), "clear"),
        ("refused", sandbox.Outcome(code=2, message="x.ckpt: broken", errors=1), "unclear"),
        ("refused", sandbox.Outcome(code=2, message="expected a checkpoint", errors=1), "unclear"),
        ("refused", sandbox.Outcome(code=2, message="x.ckpt: expected a checkpoint", errors=2), "unclear"),
        ("refused", sandbox.Outcome(code=2), "unclear"),
        ("refused", sandbox.Outcome(code=0), "silent"),
        ("refused", sandbox.Outcome(code=1, trace="Traceback\nKeyError: 'a'"), "trace"),
        ("refused", sandbox.Outcome(code=1), "trace"),
        ("refused", sandbox.Outcome(hung=True), "hang"),
        (
            "refused",
            sandbox.Outcome(code=2, message="x.ckpt: expected", errors=1, harm=["made 'CANARY'"]),
            "ran or wrote",
        ),
        ("accepted", sandbox.Outcome(code=0), "accepted"),
        ("accepted", sandbox.Outcome(code=2, message="x.ckpt: expected another", errors=1), "silent"),
        ("either", sandbox.Outcome(code=0, value=False), "silent"),
        ("either", sandbox.Outcome(code=0, value=True), "accepted"),
        ("noted", sandbox.Outcome(code=0, said="all well"), "silent"),
        ("noted", sandbox.Outcome(code=0, said="note: one was dropped"), "accepted"),
    ],
)
def test_each_outcome_has_its_verdict(right: str, outcome: sandbox.Outcome, verdict: str, tmp_path: Path) -> None:
    one = runner.Try("kind", "input", runner.nothing, "predict", right, ("x.ckpt",))
    place = runner.Place(tmp_path, base.Base(tmp_path))
    assert runner.judge(one, place, outcome)[0] == verdict


def test_the_sandbox_sees_code_that_runs_files_that_change_and_what_hangs(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import sys, time, subprocess
sys.path.insert(0, {str(FOLDER.parent.parent)!r})
from pathlib import Path
from scripts.robustness import base, runner
outside = Path({str(tmp_path / "outside.txt")!r})
acts = {{
    "canary": lambda p: p.canary.touch(),
    "input": lambda p: (p.inputs / "x").write_text("changed"),
    "outside": lambda p: outside.write_text("x"),
    "program": lambda p: subprocess.run(["true"]),
    "endless": lambda p: time.sleep(60),
    "memory": lambda p: len(bytes(8 << 30)),
    "output": lambda p: (p.out / "x").write_text("x"),
}}
write = lambda p: (p.inputs / "x").write_text("input")
tries = [runner.Try("k", name, write, act, "either") for name, act in acts.items()]
folder = Path({str(tmp_path / "tries")!r})
for one in runner.run_all(tries, base.Base(folder), folder, seconds=3):
    print(one.which.input, one.verdict, sep=": ")
"""
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        "canary: ran or wrote",
        "input: ran or wrote",
        "outside: ran or wrote",
        "program: ran or wrote",
        "endless: hang",
        "memory: trace",
        "output: accepted",
    ], done.stderr


def test_the_block_of_a_page_is_rewritten(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin a -->\nold\n<!-- end a -->\nafter\n")
    tables.write_block(page, "a", "new")
    assert page.read_text() == "before\n<!-- begin a -->\n\nnew\n\n<!-- end a -->\nafter\n"
    with pytest.raises(SystemExit):
        tables.write_block(page, "b", "new")


def test_no_file_of_the_campaign_is_long() -> None:
    assert all(len(file.read_text().splitlines()) < 400 for file in FOLDER.glob("*.py"))
