"""Trials without training, so that studies and workers are tested in milliseconds; also a program for processes."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path

from wsol.errors import Terminated
from wsol.sweeps import storage
from wsol.sweeps.processes import run_workers
from wsol.sweeps.study import Claim, SweepStudy
from wsol.sweeps.worker import Sweep, work

SETTINGS = {
    "metric": "val/top1_error",
    "trials": 4,
    "workers": 1,
    "sampler": "random",
    "pruner": "none",
    "warmup_epochs": 1,
    "seed": 0,
    "storage": "sqlite",
    "space": {"optim.optimizer.lr": {"log": [1e-3, 1.0]}, "method": {"choice": ["cam", "gmp"]}},
}
EPOCHS = 3


def study(folder: Path, machine: str | None = None, identity: dict | None = None, **changes) -> SweepStudy:
    return SweepStudy(folder, {**SETTINGS, **changes}, "min", EPOCHS, identity, machine)


def sweep(folder: Path, train, **changes) -> Sweep:
    return Sweep(str(folder), {**SETTINGS, **changes}, (), (), "min", EPOCHS, train)


def quick(sweep: Sweep, study: SweepStudy, claim: Claim) -> None:
    """Each epoch writes the draws into the run folder and reports."""
    run = study.run_dir(claim.number)
    run.mkdir(parents=True, exist_ok=True)
    for epoch in range(EPOCHS):
        if epoch not in claim.values:
            with (run / "epochs.txt").open("a") as file:
                file.write(f"{epoch} {' '.join(claim.overrides)}\n")
            study.report(claim, epoch, float(epoch + claim.number))


def slow(sweep: Sweep, study: SweepStudy, claim: Claim) -> None:
    """The same, in the third of a second."""
    time.sleep(0.3)
    quick(sweep, study, claim)


def second_kills(sweep: Sweep, study: SweepStudy, claim: Claim) -> None:
    """Trial 1 kills its worker, every time."""
    if claim.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    quick(sweep, study, claim)


class NoLock:
    """A lock of a file system whose locks do not work between machines: everyone gets it."""

    def __init__(self, *args, **kwargs) -> None: ...

    def acquire(self) -> None: ...

    def release(self) -> None: ...


def at_once(number: int, what: str, folder: str, name: str) -> list[int]:
    """Run `main` in so many forks of this process; returns their exit codes."""
    children = []
    for _ in range(number):
        if (child := os.fork()) == 0:
            code = 1
            try:
                main(what, folder, name)
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main(what: str, folder: str, name: str) -> None:
    if what in ("open", "open_without_locks"):
        if what == "open_without_locks":
            storage.FileLock = NoLock  # type: ignore[misc, assignment]
        name = study(Path(folder), storage=name).study.study_name
        print(f"{name}\n", end="", flush=True)  # in one piece, as others print at the same time
        assert "torch" not in sys.modules
    elif what == "one":
        work(sweep(Path(folder), globals()[name]))
    else:
        print(run_workers(sweep(Path(folder), globals()[name]), 2))


if __name__ == "__main__":
    from tests.sweeps import fake_trials  # so that workers can import what they are told to run

    try:
        if sys.argv[1].isdigit():
            sys.exit(max(map(abs, fake_trials.at_once(int(sys.argv[1]), *sys.argv[2:]))))
        fake_trials.main(*sys.argv[1:])
    except KeyboardInterrupt as error:
        sys.exit(128 + signal.SIGTERM if isinstance(error, Terminated) else 0)
