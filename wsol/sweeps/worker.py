"""One worker of a sweep: runs one trial after another until none is left, and records how each ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import optuna
from optuna.trial import TrialState

from wsol import runs
from wsol.errors import InputError, Terminated, first_line
from wsol.files import UNWRITABLE
from wsol.sweeps.attempts import Attempt
from wsol.sweeps.storage import StorageError
from wsol.sweeps.study import Claim, LostTrialError, SweepStudy, best_of

PATIENCE = 1.0
"""Seconds between two checks for a trial while others run the last ones."""
FAILURES = 3
"""Number of consecutive failed trials that stop a worker while no trial of the study is complete."""


@dataclass(frozen=True)
class Sweep:
    """The settings that every worker receives."""

    folder: str
    settings: Mapping[str, Any]
    overrides: tuple[str, ...]
    """Overrides of `wsol train`, the same for all trials."""
    config_dirs: tuple[str, ...]
    mode: str
    """``min`` or ``max``."""
    max_epochs: int
    train: Callable[[Sweep, SweepStudy, Claim], None] | None = None
    """Runs a trial and reports its metric to the study; None: `wsol.sweeps.trial.train`."""

    def study(self, identity: Mapping[str, Any] | None = None) -> SweepStudy:
        """Open the study."""
        return SweepStudy(Path(self.folder), self.settings, self.mode, self.max_epochs, identity)


class CurrentAttempt:
    """The current attempt of this process, for the thread that watches it."""

    attempt: Attempt | None = None


def work(sweep: Sweep, study: SweepStudy | None = None) -> None:
    """Run trials until all have ended.

    Args:
        sweep: the sweep.
        study: its study, if it is already open.

    Raises:
        InputError: the first trials failed one after another; the message is that of the last one.
    """
    study, failed = study or sweep.study(), 0
    with terminable():
        while not study.is_done():
            claim = study.claim()
            if claim is None:
                if not study.is_done():
                    time.sleep(PATIENCE)
                continue
            error = run_trial(sweep, study, claim)
            failed = failed + 1 if error else 0
            if failed >= FAILURES and study.best() is None and not study.is_done():
                raise InputError(
                    f"{FAILURES} trials failed one after another and none is complete; the last error was: {error}. "
                    "Repeat the command to continue with the others"
                )


def run_trial(sweep: Sweep, study: SweepStudy, claim: Claim) -> str | None:
    """Train one trial, or resume it, and record how it ended; returns the error of a failed one."""
    started, metric = time.perf_counter(), sweep.settings["metric"]
    try:
        CurrentAttempt.attempt = claim.attempt
        value, state, error = _outcome(sweep, study, claim)
        study.tell(claim, value, state, error)
        said = error or (f"{metric} {value:.4g}" if value is not None else "pruned")
    except LostTrialError:
        error, said = None, "sent no heartbeat for a while, and was taken over by another worker"
        claim.attempt.end("left")
    except (StorageError, KeyboardInterrupt):
        claim.attempt.end("left")
        raise
    except BaseException:
        claim.attempt.end("crashed")
        raise
    finally:
        CurrentAttempt.attempt = None
    seconds = time.perf_counter() - started
    drawn = " ".join(claim.overrides)
    print(f"trial {claim.number}: {said}   {drawn}   {seconds:.1f} s", file=sys.stderr, flush=True)
    return error


def _outcome(sweep: Sweep, study: SweepStudy, claim: Claim) -> tuple[float | None, TrialState, str | None]:
    """Run the trial; return its value, its state, and its error."""
    try:
        (sweep.train or _training())(sweep, study, claim)
    except optuna.TrialPruned:
        return None, TrialState.PRUNED, None
    except (LostTrialError, StorageError):
        raise
    except InputError as caught:
        _stop_on_full_disk(caught)
        return None, TrialState.FAIL, first_line(caught)
    except Exception as caught:
        _stop_on_full_disk(caught)
        with contextlib.suppress(OSError):  # the study still has the first line
            study.run_dir(claim.number).mkdir(parents=True, exist_ok=True)
            runs.write_text(study.run_dir(claim.number) / "error.txt", traceback.format_exc())
        return None, TrialState.FAIL, f"{type(caught).__name__}: {first_line(caught)}"
    value = best_of(list(claim.values.values()), sweep.mode)
    if value is None:
        return None, TrialState.FAIL, f"{sweep.settings['metric']} was never a finite number"
    return value, TrialState.COMPLETE, None


def _stop_on_full_disk(error: BaseException) -> None:
    """Stop the worker instead of the trial if the disk cannot be written.

    Raises:
        StorageError: the error, or its cause, is that of a full or broken disk.
    """
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno in UNWRITABLE:
            file = f"{at.filename}: " if at.filename else ""
            raise StorageError(
                f"{file}{os.strerror(at.errno or 0)}. Nothing is lost: free some space and repeat the command"
            ) from error
        at = at.__cause__ or at.__context__


def _training() -> Callable[[Sweep, SweepStudy, Claim], None]:
    from wsol.sweeps.trial import train

    return train


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM raise `Terminated` inside the block, so that trials end properly."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
