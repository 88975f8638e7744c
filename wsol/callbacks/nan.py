"""Stop a training that diverged."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from wsol.errors import Diverged

FINE = 2**62
"""Used as the first bad batch if there is none."""


class StopOnNaN(pl.Callback):
    """Stops the training when the loss or a weight is NaN or infinite, before it is written to a checkpoint.

    Each step updates the number of the epoch's first bad batch in a tensor on the device. The host reads it only every
    `log_every_n_steps` steps, before validation and at the end of the epoch, so no other step waits for the device.
    All processes of a distributed training stop together.

    Raises:
        Diverged: the message has the epoch, the step and the learning rate of the first bad batch.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._steps: list[tuple[int, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the bad batches of earlier epochs."""
        self._first = torch.tensor(FINE, device=pl_module.device)
        self._steps = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Store the step and the learning rate of the batch."""
        self._steps.append((trainer.global_step, float(trainer.optimizers[0].param_groups[0]["lr"])))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss on the device, and sometimes read the result."""
        loss = (outputs["loss"] if isinstance(outputs, dict) else outputs).detach()
        now = torch.where(torch.isfinite(loss), FINE, len(self._steps) - 1)
        self._first = torch.minimum(self._first, now) if self._first is not None else now
        every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if (batch_idx + 1) % every == 0:
            self._check(trainer, self._first)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before best.ckpt is written."""
        self._check_weights(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before last.ckpt is written."""
        self._check_weights(trainer, pl_module)

    def _check_weights(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Call `_check`, counting bad weights as a bad last batch, whose loss may still have been finite."""
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
            "on_nan=continue to continue anyway"
        )
