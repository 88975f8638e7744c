"""What a search adds to each trial beyond its training, seconds.

    python scripts/benchmarks/sweeps.py [--trials 8] [--storage sqlite] [--sampler tpe] [--pruner median]

One worker runs all trials of a small search, whole or pruned. Added is what it does outside of `wsol train` (taking a
trial, drawing, composing, recording) and, inside, the reports to the study and the pruner's decisions. The training
itself, as short as it is here, is the same without a search.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from measuring import machine, positive

from wsol.sweeps import trial
from wsol.sweeps import worker as sweep_worker
from wsol.sweeps.samplers import PRUNERS, SAMPLERS

WORDS = (
    *("data.train_images=64", "data.val_images=32", "data.test_images=16", "data.size=32", "image_size=32"),
    *("loader.batch_size=16", "loader.num_workers=0", "trainer.max_epochs=3"),
)
SPACE = {"optim.optimizer.lr": {"log": [1e-3, 0.3]}, "label_smoothing": {"range": [0.0, 0.2]}}


def now() -> np.ndarray:
    """Wall and processor time, seconds."""
    return np.array([time.perf_counter(), time.process_time()])


class Clock:
    """Seconds spent in functions, of the wall and of the processor."""

    def __init__(self) -> None:
        self.seconds = np.zeros(2)

    def around(self, do: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its seconds counted."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = now()
            try:
                return do(*args, **kwargs)
            finally:
                self.seconds += now() - started

        return timed


def main() -> None:
    """Search, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=positive, default=8)
    parser.add_argument("--storage", default="sqlite", choices=["sqlite", "journal"])
    parser.add_argument("--sampler", default="tpe", choices=SAMPLERS)
    parser.add_argument("--pruner", default="median", choices=PRUNERS)
    options = parser.parse_args()
    settings = {
        "metric": "val/top1_error",
        "trials": options.trials + 1,
        "warmup_epochs": 1,
        "seed": 0,
        "space": SPACE,
        **{key: getattr(options, key) for key in ("storage", "sampler", "pruner")},
    }
    print(machine("cpu"))
    training, reporting = Clock(), Clock()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        words = (*WORDS, f"data_dir={Path(folder, 'data')}")
        sweep = sweep_worker.Sweep(str(Path(folder, "found")), settings, words, (), "min", 3)
        study = sweep.study()
        claim = study.claim()
        assert claim is not None
        sweep_worker.run_trial(sweep, study, claim)  # makes the data, and imports what it needs
        reports = trial.MetricReports
        with (
            mock.patch.object(trial.training, "run", training.around(trial.training.run)),
            mock.patch.object(reports, "on_validation_end", reporting.around(reports.on_validation_end)),
        ):
            started = now()
            sweep_worker.work(sweep)
            whole = now() - started
        states = [result.state.name.lower() for result in study.results().values()][1:]
    own = (training.seconds - reporting.seconds) / options.trials
    added = whole / options.trials - own
    print(f"{options.trials} trials ({states.count('complete')} complete, {states.count('pruned')} pruned)")
    for what, (wall, processor) in (("training", own), ("added by the search", added)):
        print(f"{what}: {wall:.2f} s a trial, of the processor {processor:.2f} s")


if __name__ == "__main__":
    main()
