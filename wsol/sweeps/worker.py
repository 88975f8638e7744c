"""One worker of a sweep: takes trial after trial until none is left, each an ordinary resumable run of `wsol train`."""

from __future__ import annotations

import contextlib
import csv
import io
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
import torch
from optuna.trial import Trial, TrialState

from wsol.config.compose import compose
from wsol.engine import training
from wsol.errors import InputError, first_line
from wsol.sweeps.search_space import read_space
from wsol.sweeps.study import Claim, SweepStudy, best_of

PATIENCE = 1.0
"""Seconds between two looks for a trial while others run the last ones."""
FAILURES = 3
"""So many failed trials in a row stop a worker."""


@dataclass(frozen=True)
class Sweep:
    """What every worker is told."""

    folder: str
    settings: Mapping[str, Any]
    words: tuple[str, ...]
    """Of `wsol train`, the same for all trials."""
    config_dirs: tuple[str, ...]
    mode: str
    """``min`` or ``max``."""
    max_epochs: int

    def study(self) -> SweepStudy:
        """Open the study."""
        return SweepStudy(Path(self.folder), self.settings, self.mode, self.max_epochs)


class Pruning(pl.Callback):
    """Reports the metric after each validation, and ends a trial that is not worth going on with.

    Args:
        trial: to report to.
        metric: that decides.
    """

    def __init__(self, trial: Trial, metric: str) -> None:
        self.trial, self.metric = trial, metric
        frozen = next(each for each in trial.study.get_trials(deepcopy=False) if each.number == trial.number)
        self._reported = set(frozen.intermediate_values)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report, and raise `optuna.TrialPruned` where the pruner says so."""
        if not trainer.is_global_zero or self.metric not in trainer.callback_metrics:
            return
        if trainer.current_epoch not in self._reported:  # a resumed trial repeats an epoch at most
            self.trial.report(float(trainer.callback_metrics[self.metric]), trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def process(sweep: Sweep, threads: int) -> None:
    """A worker in a process of its own, which ends with the process that started it."""
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    try:
        work(sweep)
    except InputError as error:
        print(f"wsol: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def work(sweep: Sweep) -> None:
    """Run trials until none waits or runs.

    Raises:
        InputError: several trials failed one after another; the message is that of the last.
    """
    study, failed = sweep.study(), 0
    while not study.is_done():
        claim = study.claim()
        if claim is None:
            time.sleep(PATIENCE)
            continue
        error = run_trial(sweep, study, claim)
        failed = failed + 1 if error else 0
        if failed == FAILURES:
            raise InputError(f"{FAILURES} trials failed one after another, the last with: {error}")


def run_trial(sweep: Sweep, study: SweepStudy, claim: Claim) -> str | None:
    """Train one trial, or go on with it, and record how it ended; returns the error of a failed one."""
    number, started, metric = claim.trial.number, time.perf_counter(), sweep.settings["metric"]
    drawn = [each.suggest(claim.trial) for each in read_space(sweep.settings["space"])]
    folder = study.run_dir(number)
    own = [f"monitor={metric}", f"run_dir={folder}", "resume=true"]
    try:
        config = compose("train", [*sweep.words, *drawn, *own], sweep.config_dirs)
        with _quiet():
            training.run(config, callbacks=[Pruning(claim.trial, metric)], splits=("val",))
        value = best_of(read_metric(folder / "metrics.csv", metric), sweep.mode)
        error = None if value is not None else f"{metric} was never a finite number"
        state = TrialState.FAIL if error else TrialState.COMPLETE
    except optuna.TrialPruned:
        value, error, state = None, None, TrialState.PRUNED
    except (InputError, RuntimeError) as caught:
        value, error, state = None, first_line(caught), TrialState.FAIL
    study.tell(claim, value, state, error)
    said = error or (f"{metric} {value:.4g}" if value is not None else "pruned")
    seconds = time.perf_counter() - started
    print(f"trial {number}: {said}   {' '.join(drawn)}   {seconds:.1f} s", file=sys.stderr, flush=True)
    return error


def read_metric(file: Path, metric: str) -> list[float]:
    """The values of a metric by epoch, from metrics.csv."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [float(row[metric]) for row in csv.DictReader(lines) if row.get(metric)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep a trial's epoch lines and tables off the screen; run.log has the lines."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
