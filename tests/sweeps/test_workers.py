"""Workers of a sweep: trials that fail, are interrupted, or die with their worker."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from tests.sweeps.fake_trials import EPOCHS, quick, study, sweep
from wsol.errors import InputError, Terminated
from wsol.sweeps.attempts import process_start
from wsol.sweeps.worker import work

ROOT = Path(__file__).parents[2]


def start(what: str, folder: Path, train: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.sweeps.fake_trials", what, str(folder), train]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def owners(folder: Path) -> list[int]:
    """Processes that are at a trial."""
    records = [json.loads(file.read_text() or "{}") for file in folder.glob("attempts/*.json")]
    return [record["process"] for record in records if record and "ended" not in record]


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def check_complete(folder: Path, trials: int = 4) -> None:
    """Exactly so many trials are complete, each with one run folder, one line an epoch and the same draws in all."""
    made = study(folder)
    assert {number: trial.state for number, trial in made.results().items()} == dict.fromkeys(
        range(trials), TrialState.COMPLETE
    )
    assert sorted(run.name for run in (folder / "trials").iterdir()) == [f"{number:04d}" for number in range(trials)]
    drawn = study(folder.with_name("undisturbed"))
    for number in range(trials):
        lines = (made.run_dir(number) / "epochs.txt").read_text().splitlines()
        assert sorted({int(line.split(" ", 1)[0]) for line in lines}) == list(range(EPOCHS))
        assert {line.split(" ", 1)[1] for line in lines} == {" ".join(drawn.claim().overrides)}
    complete = [trial for trial in made.study.get_trials() if trial.state == TrialState.COMPLETE]
    assert len(complete) == trials


def failing(errors: dict[int, BaseException]):
    def train(sweep, study, claim) -> None:
        if error := errors.pop(claim.number, None):
            raise error
        quick(sweep, study, claim)

    return train


def test_whatever_a_trial_raises_is_recorded_and_the_next_one_runs(tmp_path: Path, capsys) -> None:
    errors = [
        ValueError("optimizer got an empty parameter list"),
        KeyError("label"),
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
        InputError("momentum: expected a positive number"),
    ]
    train = failing({number + 1: error for number, error in enumerate(errors)})
    work(sweep(tmp_path / "s", train, trials=6))
    results = study(tmp_path / "s", trials=6).results()
    assert [results[0].state, *(results[number].state for number in range(1, 6))] == [
        TrialState.COMPLETE,
        *[TrialState.FAIL] * 5,
    ]
    assert [results[number].user_attrs["error"] for number in range(1, 6)] == [
        "ValueError: optimizer got an empty parameter list",
        "KeyError: 'label'",
        "MemoryError: MemoryError",
        "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "momentum: expected a positive number",
    ]
    assert "in train" in (tmp_path / "s" / "trials" / "0001" / "error.txt").read_text()
    assert "trial 2: KeyError: 'label'" in capsys.readouterr().err


def test_three_failures_stop_a_search_without_a_complete_trial_and_the_same_command_goes_on(tmp_path: Path) -> None:
    train = failing({number: ValueError(f"bad {number}") for number in range(3)})
    with pytest.raises(InputError, match=r"3 trials failed one after another.*ValueError: bad 2"):
        work(sweep(tmp_path / "s", train))
    work(sweep(tmp_path / "s", train))
    states = [trial.state for trial in study(tmp_path / "s").results().values()]
    assert states == [*[TrialState.FAIL] * 3, TrialState.COMPLETE]


def test_two_trials_that_fail_end_the_search(tmp_path: Path) -> None:
    work(sweep(tmp_path / "s", failing({0: ValueError("a"), 1: ValueError("b")}), trials=2))
    assert study(tmp_path / "s", trials=2).is_done()


def test_a_metric_that_is_never_a_number_is_a_failure(tmp_path: Path) -> None:
    work(sweep(tmp_path / "s", lambda sweep, study, claim: study.report(claim, 0, float("nan")), trials=1))
    (result,) = study(tmp_path / "s").results().values()
    assert result.user_attrs["error"] == "val/top1_error was never a finite number"


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_an_interrupted_trial_is_taken_up_again_however_often(tmp_path: Path, how: str) -> None:
    def interrupted(sweep, study, claim) -> None:
        if claim.number == 1:
            if how == "Ctrl-C":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        quick(sweep, study, claim)

    before = signal.getsignal(signal.SIGTERM)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt if how == "Ctrl-C" else Terminated):
            work(sweep(tmp_path / "s", interrupted))
    assert signal.getsignal(signal.SIGTERM) == before
    work(sweep(tmp_path / "s", quick))
    check_complete(tmp_path / "s")


def test_a_trial_that_ends_the_program_by_itself_fails_in_the_end(tmp_path: Path) -> None:
    def exits(sweep, study, claim) -> None:
        sys.exit("give up")

    for _ in range(3):
        with pytest.raises(SystemExit):
            work(sweep(tmp_path / "s", exits, trials=1))
    work(sweep(tmp_path / "s", exits, trials=1))
    (result,) = study(tmp_path / "s").results().values()
    assert "its worker died 3 times at the same epoch without an error" in result.user_attrs["error"]


def test_a_storage_that_fails_in_a_trial_stops_the_worker_and_not_the_trial(tmp_path: Path, monkeypatch) -> None:
    def out_of_reach(sweep, study, claim) -> None:
        def report(*_) -> None:
            raise OperationalError("insert", {}, OSError("disk I/O error"))

        monkeypatch.setattr(claim.trial, "report", report)
        quick(sweep, study, claim)

    with pytest.raises(InputError, match=r"cannot be used .*Nothing is lost"):
        work(sweep(tmp_path / "s", out_of_reach))
    assert study(tmp_path / "s").results() == {}
    work(sweep(tmp_path / "s", quick))
    check_complete(tmp_path / "s")


def test_a_full_disk_stops_the_worker_and_not_the_trial(tmp_path: Path) -> None:
    def full(sweep, study, claim) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "last.ckpt")
        except OSError as error:
            raise RuntimeError("the checkpoint cannot be written") from error

    with pytest.raises(InputError, match=r"last\.ckpt: No space left on device\. Nothing is lost: free some space"):
        work(sweep(tmp_path / "s", full))
    assert study(tmp_path / "s").results() == {}
    work(sweep(tmp_path / "s", quick))
    check_complete(tmp_path / "s")


def test_pruned_trials_have_ended_and_are_not_ranked(tmp_path: Path) -> None:
    work(sweep(tmp_path / "s", quick, trials=8, pruner="median"))
    made = study(tmp_path / "s", trials=8)
    states = [trial.state for trial in made.results().values()]
    assert states == [*[TrialState.COMPLETE] * 5, *[TrialState.PRUNED] * 3]
    assert made.best()[0] == 0


def test_a_worker_killed_in_a_trial_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    first = start("one", folder, "slow")
    wait_for(lambda: (folder / "attempts" / "0001-1.json").exists())
    first.kill()
    first.communicate()
    second = start("one", folder, "slow")
    second.communicate(timeout=120)
    assert second.returncode == 0
    check_complete(folder)
    assert (folder / "attempts" / "0001-2.json").exists()
    assert not (folder / "attempts" / "0000-2.json").exists()


def test_workers_end_with_their_killed_parent_and_the_same_command_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    first = start("several", folder, "slow")
    wait_for(lambda: len(owners(folder)) == 2)
    workers = owners(folder)
    first.kill()
    first.communicate()
    wait_for(lambda: all(process_start(worker) is None for worker in workers), seconds=10)
    out, _ = (second := start("several", folder, "slow")).communicate(timeout=120)
    assert (second.returncode, out.strip()) == (0, "True")
    check_complete(folder)


def test_a_trial_that_kills_its_workers_fails_and_the_others_run(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    out, error = (process := start("several", folder, "second_kills")).communicate(timeout=240)
    assert (process.returncode, out.strip()) == (0, "True"), error
    assert error.count("was killed by signal 9") == 3
    results = study(folder).results()
    assert [trial.state.name for trial in results.values()] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "its worker died 3 times" in results[1].user_attrs["error"]


def test_workers_end_in_good_order_with_a_parent_that_is_asked_to_end(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    first = start("several", folder, "slow")
    wait_for(lambda: len(owners(folder)) == 2)
    workers = owners(folder)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM
    assert all(process_start(worker) is None for worker in workers)
    assert owners(folder) == []
