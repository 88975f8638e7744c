"""Stops a training that diverged."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from wsol.errors import Diverged

FINE = 2**62
"""Stands for the first bad batch where there is none."""


class StopOnNaN(pl.Callback):
    """Stops the training when the loss, or a weight, is NaN or infinite, before a checkpoint of that is written.

    Each step leaves the first bad batch of its epoch in a tensor on the device. The host reads that only every
    `log_every_n_steps` steps, before validation and at the end of the epoch, so no other step waits for the device.
    All processes of a distributed training stop together.

    Raises:
        Diverged: with the epoch, the step and the learning rate of the first bad batch.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._steps: list[tuple[int, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing bad has been seen in this epoch."""
        self._first = torch.tensor(FINE, device=pl_module.device)
        self._steps = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the step and the learning rate of the batch."""
        self._steps.append((trainer.global_step, float(trainer.optimizers[0].param_groups[0]["lr"])))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss on the device, and from the host now and then."""
        loss = (outputs["loss"] if isinstance(outputs, dict) else outputs).detach()
        now = torch.where(torch.isfinite(loss), FINE, len(self._steps) - 1)
        self._first = torch.minimum(self._first, now) if self._first is not None else now
        every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if (batch_idx + 1) % every == 0:
            self._check(trainer, self._first)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look before best.ckpt is written."""
        self._check_weights(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look before last.ckpt is written."""
        self._check_weights(trainer, pl_module)

    def _check_weights(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """`_check`, in which bad weights count as a bad last batch: its loss may still be finite, unlike its step."""
        if self._first is None or not self._steps:
            return
        values = [value for value in module.state_dict().values() if value.is_floating_point()]
        finite = torch.stack([torch.isfinite(value).all() for value in values]).all()
        self._check(trainer, torch.minimum(self._first, torch.where(finite, FINE, len(self._steps) - 1)))

    def _check(self, trainer: pl.Trainer, first: Tensor) -> None:
        found = int(trainer.strategy.reduce(first.clone(), reduce_op="min"))
        if found == FINE:
            return
        step, rate = self._steps[found]
        raise Diverged(
            f"epoch {trainer.current_epoch + 1}, step {step}, learning rate {rate:g}: the training loss or the weights "
            "are no longer finite numbers; try a lower optim.optimizer.lr or trainer.gradient_clip_val=1, or "
            "on_nan=continue to train on all the same"
        )
