"""One trial of a sweep as an ordinary, resumable run of `wsol train`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator

import pytorch_lightning as pl

from wsol.config.compose import compose, override
from wsol.config.trainer_warnings import intended_ignored
from wsol.engine import training
from wsol.sweeps.study import Claim, SweepStudy
from wsol.sweeps.worker import Sweep


class MetricReports(pl.Callback):
    """Reports a metric after each validation.

    Args:
        report: called with epoch and value; exceptions that it raises end the training.
        metric: name of it.
    """

    def __init__(self, report: Callable[[int, float], None], metric: str) -> None:
        self.report, self.metric = report, metric

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report."""
        if trainer.is_global_zero and self.metric in trainer.callback_metrics:
            self.report(trainer.current_epoch, float(trainer.callback_metrics[self.metric]))


def train(sweep: Sweep, study: SweepStudy, claim: Claim) -> None:
    """Train with the trial's values in its run folder, or resume the training there."""
    metric = sweep.settings["metric"]
    own = [override("monitor", metric), override("run_dir", str(study.run_dir(claim.number))), "resume=true"]
    config = compose("train", [*sweep.overrides, *claim.overrides, *own], sweep.config_dirs)
    reports = MetricReports(lambda epoch, value: study.report(claim, epoch, value), metric)
    with _quiet():
        training.run(config, callbacks=[reports], splits=("val",))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep a trial's epoch lines and tables off the screen; run.log contains the lines.

    Lightning's messages, which go where standard error went when it was imported, are left out.
    """
    with intended_ignored(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
