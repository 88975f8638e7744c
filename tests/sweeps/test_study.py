"""The study of a sweep: who owns a trial, what is drawn, and what is refused."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from optuna.trial import TrialState

from tests.sweeps.fake_trials import NoLock, study
from wsol.errors import InputError
from wsol.sweeps import attempts
from wsol.sweeps.attempts import Attempts
from wsol.sweeps.study import LostTrialError, best_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_each_trial_is_claimed_once_and_there_are_no_more_than_asked_for(tmp_path: Path, storage: str) -> None:
    one, other = (study(tmp_path / "s", storage=storage, trials=3) for _ in range(2))
    claims = [one.claim(), other.claim(), one.claim()]
    assert [claim.number for claim in claims] == [0, 1, 2]
    assert other.claim() is None
    assert not other.is_done()
    one.tell(claims[0], 5.0, TrialState.COMPLETE)
    other.tell(claims[1], None, TrialState.PRUNED)
    one.tell(claims[2], None, TrialState.FAIL, "why")
    assert other.is_done()
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert [trial.state for trial in other.results().values()] == states
    assert other.best()[0] == 0
    assert study(tmp_path / "s", storage=storage, trials=4).claim().number == 3


@pytest.mark.parametrize(
    ("what", "storage"), [("open", "sqlite"), ("open", "journal"), ("open_without_locks", "sqlite")]
)
def test_eight_processes_started_at_once_join_one_study(tmp_path: Path, what: str, storage: str) -> None:
    command = [sys.executable, "-m", "tests.sweeps.fake_trials", "8", what, str(tmp_path / "s"), storage]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert len(names) == 8
    assert {json.loads((tmp_path / "s" / "study.json").read_text())["study"]} == set(names)


def test_random_draws_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    def drawn(name: str, **changes) -> list[list[str]]:
        made = study(tmp_path / name, **changes)
        return [made.claim().overrides for _ in range(3)]

    first = drawn("a")
    assert drawn("b") == first
    assert drawn("c", seed=1) != first
    assert drawn("d", seed=123_456_789) != drawn("e", seed=-1)
    assert len({tuple(each) for each in first}) == 3


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_trial_that_was_left_keeps_its_draws_and_values(tmp_path: Path, sampler: str) -> None:
    made = study(tmp_path / "s", sampler=sampler)
    claim = made.claim()
    made.report(claim, 0, 7.0)
    made.report(claim, 1, math.nan)
    claim.attempt.end("left")
    again = study(tmp_path / "s", sampler=sampler, seed=5).claim()
    assert (again.number, again.overrides) == (0, claim.overrides)
    assert again.values[0] == 7.0
    assert math.isnan(again.values[1])
    assert again.trial.number == 1
    made.tell(again, 7.0, TrialState.COMPLETE)
    assert list(made.results()) == [0]


def test_two_folders_of_one_name_on_one_server_never_mix(tmp_path: Path) -> None:
    server = f"sqlite:///{tmp_path / 'server.db'}"
    alice, bob = (study(tmp_path / name / "s1", storage=server) for name in ("alice", "bob"))
    alice.tell(alice.claim(), 1.0, TrialState.COMPLETE)
    assert bob.results() == {}
    assert bob.claim().number == 0
    assert len(alice.study.get_trials()) == 1


@pytest.mark.parametrize("storage", ["sqlite", "journal", "sqlite:///{tmp}/server.db"])
def test_a_moved_folder_goes_on(tmp_path: Path, storage: str) -> None:
    storage = storage.format(tmp=tmp_path)
    made = study(tmp_path / "s", storage=storage)
    made.tell(made.claim(), 1.0, TrialState.COMPLETE)
    shutil.move(tmp_path / "s", tmp_path / "elsewhere")
    moved = study(tmp_path / "elsewhere", storage=storage)
    assert moved.best()[0] == 0
    assert moved.claim().number == 1


def test_a_folder_whose_study_is_not_in_the_storage_is_refused(tmp_path: Path) -> None:
    study(tmp_path / "s", storage=f"sqlite:///{tmp_path / 'one.db'}")
    with pytest.raises(InputError, match=r"contains no study 's-.*use the storage that the search began with"):
        study(tmp_path / "s", storage=f"sqlite:///{tmp_path / 'other.db'}")
    (tmp_path / "s" / "study.json").write_text("{")
    with pytest.raises(InputError, match=r"study\.json: unreadable"):
        study(tmp_path / "s")


def test_a_study_whose_space_changed_is_refused_and_left_alone(tmp_path: Path) -> None:
    for _ in range(2):
        study(tmp_path / "s", identity={"space": {"a": (1,)}, "seed": 0})
    before = (tmp_path / "s" / "study.json").read_bytes()
    with pytest.raises(InputError, match=r"with other settings \(space differ\)"):
        study(tmp_path / "s", identity={"space": {"a": (2,)}, "seed": 0})
    assert (tmp_path / "s" / "study.json").read_bytes() == before


# -- who owns a trial --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_two_machines_without_working_locks_never_run_the_same_trial(tmp_path: Path, monkeypatch, storage: str) -> None:
    monkeypatch.setattr("wsol.sweeps.storage.FileLock", NoLock)
    claimed: dict[str, list[int]] = {"one": [], "other": []}

    def take(machine: str) -> None:
        made = study(tmp_path / "s", machine, storage=storage, trials=12)
        while (claim := made.claim()) is not None:
            claimed[machine].append(claim.number)

    study(tmp_path / "s", storage=storage)
    threads = [threading.Thread(target=take, args=(machine,)) for machine in claimed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed["one"] + claimed["other"]) == list(range(12))


def test_another_machine_takes_over_when_signs_of_life_end_and_not_before(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(attempts, "INTERVAL", 0.02)
    alive, watcher = study(tmp_path / "s", "one", trials=1), study(tmp_path / "s", "other", trials=1)
    claim = alive.claim()
    now = [0.0]
    monkeypatch.setattr("wsol.sweeps.attempts.time.monotonic", lambda: now[0])
    assert watcher.claim() is None
    changed = claim.attempt.file.stat().st_mtime_ns  # what the watcher has read, or later
    while claim.attempt.file.stat().st_mtime_ns == changed:
        threading.Event().wait(0.01)
    now[0] += attempts.GRACE + 1
    assert watcher.claim() is None, "its owner gave a sign of life meanwhile"
    claim.attempt._stop.set()  # as if the machine had died
    threading.Event().wait(0.1)
    assert watcher.claim() is None
    now[0] += attempts.GRACE / 2
    assert watcher.claim() is None
    now[0] += attempts.GRACE
    taken = watcher.claim()
    assert taken.overrides == claim.overrides
    with pytest.raises(LostTrialError):
        alive.report(claim, 0, 1.0)
    with pytest.raises(LostTrialError):
        alive.tell(claim, 1.0, TrialState.COMPLETE)
    watcher.tell(taken, 2.0, TrialState.COMPLETE)
    assert alive.best()[1].value == 2.0


def test_a_process_of_this_machine_that_is_gone_frees_its_trial_at_once(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from wsol.sweeps.attempts import Attempts\n"
        "assert Attempts(Path(sys.argv[1])).take('0000'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=ROOT).returncode == -9
    here, elsewhere = Attempts(tmp_path), Attempts(tmp_path, "another machine")
    assert elsewhere.take("0000") is None
    taken = here.take("0000")
    assert here.take("0000") is None
    assert here.crashes("0000", 0) == 2, "one that is still alive counts until it ends"
    taken.end("left")
    assert here.crashes("0000", 0) == 1


def test_a_reused_process_number_is_not_taken_for_the_worker(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "0000-1.json").write_text(
        json.dumps({"machine": "m", "process": os.getpid(), "process_started": "12345678901", "progress": 0})
    )
    monkeypatch.setattr(attempts, "process_start", lambda process: "777")
    assert Attempts(tmp_path, "m").take("0000")


# -- the storage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage": "sqlite:///{tmp}/no/such/folder/study.db"}, "cannot be used"),
        ({"storage": "postgresql://nobody@127.0.0.1:1/none"}, "Nothing is lost: repeat the command"),
        ({"storage": "memory"}, "expected sqlite, journal, or the URL"),
        ({"sampler": "grid"}, "unknown sweep.sampler 'grid'"),
        ({"pruner": "median_"}, "did you mean 'median'"),
    ],
)
def test_storage_out_of_reach_and_unknown_names_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        study(tmp_path / "s", **{key: value.format(tmp=tmp_path) for key, value in changes.items()})
    assert message in str(caught.value)


def test_a_locked_database_is_one_message_and_left_as_it_is(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}?timeout=0.1"
    made = study(tmp_path / "s", storage=storage)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        for do in (lambda: study(tmp_path / "s", storage=storage), made.results, made.claim):
            with pytest.raises(InputError, match=r"cannot be used \(.*database is locked"):
                do()
    assert made.claim().number == 0


def test_a_study_that_another_worker_does_not_let_go_of_is_one_message(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("wsol.sweeps.storage.PATIENCE", 0.1)
    study(tmp_path / "s")
    with FileLock(tmp_path / "s" / "study.lock"), pytest.raises(InputError, match="Is it locked by another"):
        study(tmp_path / "s")
    assert study(tmp_path / "s").claim().number == 0


@pytest.mark.parametrize(("storage", "file"), [("sqlite", "study.db"), ("journal", "study.log")])
def test_a_corrupt_storage_is_one_message(tmp_path: Path, storage: str, file: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / file).write_bytes(b"this is no database\n" * 100)
    with pytest.raises(InputError, match="cannot be used"):
        study(tmp_path / "s", storage=storage)


def test_a_folder_of_any_name_holds_a_study(tmp_path: Path) -> None:
    made = study(tmp_path / "my drive (1), 50% #? [ü] a=b")
    assert made.claim().number == 0
    assert (made.folder / "study.db").exists()


def test_not_a_number_is_never_the_best() -> None:
    assert best_of([float("nan"), 3.0, 2.0, float("inf")], "min") == 2.0
    assert best_of([float("nan"), 3.0, 2.0], "max") == 3.0
    assert best_of([float("nan")], "min") is None
