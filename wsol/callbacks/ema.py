r"""An exponential moving average of the weights.

Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 30(4), 1992, with
exponential weights. After update :math:`t = 1, 2, \dots` with the weights :math:`w_t`, the average is

.. math::
    a_t = d_t\, a_{t-1} + (1 - d_t)\, w_t, \qquad d_t = \min\left(d, \frac{1 + t}{10 + t}\right),

from :math:`a_0`, the weights at the start. The smaller factors of the first updates reduce their influence in a short
training.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from wsol.errors import InputError

OWN = "localizer."
"""Prefix of a localizer's names in the state of its module."""


class WeightAverage(pl.Callback):
    """Keeps the average of a localizer's weights and of the statistics of its normalisation layers.

    Training uses the weights themselves. Validation, each checkpoint's ``state_dict`` and therefore every later
    evaluation use the average. The checkpoint also has the weights themselves, as ``training_state_dict``, so that a
    resumed training continues exactly. No update waits for the device.

    Args:
        decay: :math:`d`, in [0, 1).
        every_n_steps: optimizer steps between two updates.

    Raises:
        InputError: an argument is out of its range.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1) -> None:
        if not 0 <= decay < 1 or every_n_steps < 1:
            raise InputError(
                f"callbacks.ema: expected decay in [0, 1) and every_n_steps from 1, got {decay} and {every_n_steps}"
            )
        self.decay, self.every_n_steps = decay, every_n_steps
        self.average: dict[str, Tensor] = {}
        """The average by the localizer's names; empty before a training."""
        self._updates = self._step = 0
        self._current: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start with the current weights, unless a checkpoint has an average."""
        state = _state(pl_module)
        self.average = {
            name: self.average[name].to(value.device) if name in self.average else value.clone()
            for name, value in state.items()
        }

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after an optimizer step."""
        if trainer.global_step == self._step:
            return  # gradients are being accumulated
        self._step = trainer.global_step
        if self._step % self.every_n_steps == 0:
            self._updates += 1
            self._update(_state(pl_module), min(self.decay, (1 + self._updates) / (10 + self._updates)))

    @torch.no_grad()
    def _update(self, state: dict[str, Tensor], decay: float) -> None:
        pairs = [(self.average[name], value) for name, value in state.items()]
        averaged = [(mean, value) for mean, value in pairs if mean.is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in averaged], [value for _, value in averaged], 1 - decay)
        for mean, value in pairs:
            if not mean.is_floating_point():  # such as a normalisation layer's count of batches
                mean.copy_(value)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average into the network."""
        if self.average:
            self._current = {name: value.clone() for name, value in _state(pl_module).items()}
            _load(pl_module, self.average)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back."""
        if self._current:
            _load(pl_module, self._current)
            self._current = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the network."""
        _load(pl_module, self.average)

    def state_dict(self) -> dict[str, int]:
        """Return the number of updates, for a checkpoint."""
        return {"updates": self._updates, "step": self._step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore the number of updates."""
        self._updates, self._step = state_dict["updates"], state_dict["step"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the network's state."""
        if self.average:
            checkpoint["training_state_dict"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = checkpoint["state_dict"] | {
                f"{OWN}{name}": value for name, value in self.average.items()
            }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue with the weights and the average of a checkpoint."""
        self.average = {
            name.removeprefix(OWN): value.clone()
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(OWN)
        }
        if "training_state_dict" in checkpoint:
            pl_module.load_state_dict(checkpoint["training_state_dict"])


def _state(module: pl.LightningModule) -> dict[str, Tensor]:
    """Return the localizer's parameters and buffers themselves, by name."""
    assert isinstance(module.localizer, nn.Module)
    return {name: value.detach() for name, value in module.localizer.state_dict().items()}


@torch.no_grad()
def _load(module: pl.LightningModule, values: dict[str, Tensor]) -> None:
    """Copy values into the localizer, in place."""
    for name, value in _state(module).items():
        value.copy_(values[name])
