"""One line per epoch, in the log and on the screen."""

from __future__ import annotations

import logging
import time

import pytorch_lightning as pl

log = logging.getLogger("wsol")


class EpochLines(pl.Callback):
    """Logs the time, the loss and the errors after each epoch.

    Example of a line::

        epoch  3/6   loss 0.412   train error 11.2 %   val error 12.4 %   GT-known error 40.2 % (cam2016, fixed)   ...
    """

    def __init__(self) -> None:
        self._started = 0.0
        self._trained = 0.0
        self._images = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; if training resumes within an epoch, `on_train_epoch_start` is not called for it."""
        self._started, self._images, self._trained = time.perf_counter(), 0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started, self._images, self._trained = time.perf_counter(), 0, 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        """Count images; validation runs after the last batch, so the clock is read here."""
        self._images += len(batch.labels) * trainer.world_size
        self._trained = time.perf_counter() - self._started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the line of the epoch."""
        found = trainer.callback_metrics  # in every process, because this reduces their values
        if not trainer.is_global_zero:
            return
        values = {name: float(value) for name, value in found.items()}
        total = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
        parts = [f"epoch {trainer.current_epoch + 1:2d}/{total}", f"loss {values.get('train/loss', float('nan')):.3f}"]
        for key, label in (("train/top1_error", "train error"), ("val/top1_error", "val error")):
            if key in values:
                parts.append(f"{label} {values[key]:.1f} %")
        for key, value in values.items():
            if key.startswith("val/") and key.endswith("gt_known_error"):
                _, protocol, origin, _ = key.split("/")
                parts.append(f"GT-known error {value:.1f} % ({protocol}, {origin})")
        rate = self._images / max(self._trained, 1e-9)
        parts.append(f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s")
        log.info("   ".join(parts))
