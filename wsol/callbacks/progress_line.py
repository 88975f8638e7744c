"""The progress of training or evaluation: a line that is redrawn in a terminal, or one line per minute in a log."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TextIO

import pytorch_lightning as pl
from torch import Tensor

log = logging.getLogger("wsol")

WATCHED, IN_LOG = 1.0, 60.0
"""Seconds between two lines."""


class ProgressLine(pl.Callback):
    """Shows the loss, the images per second and the time left.

    A terminal or a notebook shows one line that is redrawn. Anything else, such as a file, gets log lines without
    control characters. The host reads the loss only when it writes a line, so no other step waits for the device.

    Args:
        stream: the stream to write to, perhaps a terminal; None for standard error.
        clock: returns seconds.

    Example of a line::

        epoch 3/50   batch 1,250/40,037   loss 2.417   1,830 images/s   5:12:40 left
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._stream, self._clock = stream or sys.stderr, clock
        self._is_watched = in_notebook() or (self._stream.isatty() and os.environ.get("TERM") != "dumb")
        self._every = WATCHED if self._is_watched else IN_LOG
        self._width = 0
        self._started = self._said = 0.0
        self._batches = self._images = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; if training resumes within an epoch, `on_train_epoch_start` is not called for it."""
        self._start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, and show the progress of training."""
        if not self._is_due(trainer, batch):
            return
        total, epochs = trainer.num_training_batches, trainer.max_epochs or 0
        left = total - batch_idx - 1 + total * (epochs - trainer.current_epoch - 1)
        loss: Tensor = outputs["loss"] if isinstance(outputs, dict) else outputs
        value = float(loss) * trainer.accumulate_grad_batches
        self._say(
            f"epoch {trainer.current_epoch + 1}/{epochs}   batch {batch_idx + 1:,}/{total:,}   loss {value:.3f}", left
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the line before the line of the epoch is logged."""
        self._clear()

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start()

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *of_batch: Any) -> None:
        """Show the progress of evaluation; see `on_test_batch_end`."""
        self._evaluated(trainer, "val", trainer.num_val_batches, *of_batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the line."""
        self._clear()

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start()

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *of_batch: Any) -> None:
        """Show the progress of evaluation; ``of_batch`` is (outputs, batch, batch index, loader index)."""
        self._evaluated(trainer, "evaluation", trainer.num_test_batches, *of_batch)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the line."""
        self._clear()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the line before the error is shown."""
        self._clear()

    def _evaluated(
        self, trainer: pl.Trainer, what: str, totals: list, outputs: Any, batch: Any, batch_idx: int, loader: int = 0
    ) -> None:
        if self._is_due(trainer, batch):
            done, total = int(sum(totals[:loader])) + batch_idx + 1, int(sum(totals))
            self._say(f"{what}   batch {done:,}/{total:,}", total - done)

    def _start(self) -> None:
        self._started = self._said = self._clock()
        self._batches = self._images = 0

    def _is_due(self, trainer: pl.Trainer, batch: Any) -> bool:
        """Count a batch; return whether a line is due."""
        self._batches += 1
        self._images += len(batch.labels) * trainer.world_size
        return trainer.is_global_zero and self._clock() - self._said >= self._every

    def _say(self, what: str, left: float) -> None:
        """Show a line that ends with the rate and the time for ``left`` batches."""
        self._said = self._clock()
        seconds = self._said - self._started
        rate = self._images / seconds
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
        remaining = timedelta(seconds=round(left * seconds / self._batches))
        line = f"{what}   {shown} images/s   {remaining} left"
        if self._is_watched:
            self._width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r{line[: self._width]:{self._width}}")
            self._stream.flush()
        else:
            log.info(line)

    def _clear(self) -> None:
        if self._width:
            self._stream.write(f"\r{'':{self._width}}\r")  # notebooks do not support escape sequences for this
            self._stream.flush()
            self._width = 0


def in_notebook() -> bool:
    """Return whether a Jupyter kernel shows what this process writes."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
