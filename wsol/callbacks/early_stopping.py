"""End a training that no longer improves."""

from __future__ import annotations

import logging

import pytorch_lightning as pl
from pytorch_lightning import callbacks

from wsol.config.build import better
from wsol.errors import InputError

log = logging.getLogger("wsol")


class EarlyStopping(callbacks.EarlyStopping):
    """Ends the training when a metric of the val split has not improved for some evaluations.

    If a training is killed after it was stopped early and before its results are written, resuming it does not train
    on.

    Args:
        monitor: name of the metric; errors and losses are minimised, all others maximised.
        patience: number of evaluations without improvement after which training ends.
        min_delta: smallest change that counts as an improvement, in the metric's unit (percent).

    Raises:
        InputError: there is no metric to monitor, or an argument is negative.

    Example:
        >>> EarlyStopping("val/top1_error").mode, EarlyStopping("val/PxAP", patience=2).mode
        ('min', 'max')
    """

    def __init__(self, monitor: str | None, patience: int = 5, min_delta: float = 0.0) -> None:
        if monitor is None:
            raise InputError("callbacks.early_stopping.monitor=null: expected a metric of the val split")
        if patience < 1 or min_delta < 0:
            raise InputError(
                f"callbacks.early_stopping: expected patience from 1 and min_delta from 0, got {patience}, {min_delta}"
            )
        super().__init__(monitor, min_delta, patience, mode=better(monitor), check_on_train_epoch_end=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if an earlier start of the run was stopped early."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log why training ended."""
        if self.wait_count >= self.patience and trainer.is_global_zero:
            log.info(
                "training ended early: %s has not been better than %.4g for %d evaluations",
                self.monitor,
                float(self.best_score),
                self.wait_count,
            )
