"""Checkpoints within an epoch: after a fixed number of steps, and before a signal ends the training."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl

Handler = Callable[[int, FrameType | None], Any]


class CheckpointWithinEpoch(pl.Callback):
    """Writes a checkpoint after an optimizer step within an epoch; Lightning writes one at the end of an epoch.

    A training in one process also finishes its step after SIGTERM, or after the warning that SLURM sends before a job's
    time is over (SIGUSR1), and writes a checkpoint before the signal takes effect. A second signal takes effect at
    once, and so does a signal outside training steps. Several processes cannot agree on a step in time, so they end at
    once.

    Args:
        file: where to write; it is replaced as a whole.
        every: number of optimizer steps between checkpoints; None for checkpoints only after a signal.
    """

    def __init__(self, file: Path, every: int | None = None) -> None:
        self.file, self.every = file, every
        self._before: dict[int, Handler] = {}
        self._received: dict[int, FrameType | None] = {}
        self._is_kept = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the signal handlers, also in place of Lightning's."""
        if trainer.world_size > 1 or threading.current_thread() is not threading.main_thread():
            return
        for number in {signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)}:
            before = signal.getsignal(number)
            if callable(before):  # a signal that ends the process by default still does
                self._before[number] = before
                signal.signal(number, lambda number, frame: self._receive(trainer, number, frame))

    def _receive(self, trainer: pl.Trainer, number: int, frame: FrameType | None) -> None:
        is_first = number not in self._received
        self._received[number] = frame
        if not (trainer.training and is_first):
            self._let_through()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let a signal take effect once the last step is in a checkpoint and in the logs."""
        if self._is_kept:
            self._let_through()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint if it is due, but not while gradients are accumulated, because they would be lost."""
        is_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        is_due = bool(self._received) or (self.every is not None and trainer.global_step % self.every == 0)
        if is_step and is_due and not is_last:
            trainer.save_checkpoint(self.file)
            self._is_kept = bool(self._received)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let a waiting signal take effect."""
        self._let_through()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self._let_through()
        self._give_back()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._give_back()

    def _let_through(self) -> None:
        """Let waiting signals take effect, in the order of their arrival."""
        received, self._received, self._is_kept = self._received, {}, False
        for number, frame in received.items():
            self._before[number](number, frame)

    def _give_back(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before, self._received = {}, {}
