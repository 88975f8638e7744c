"""The training and evaluation loop as a LightningModule; it composes finished objects and knows no method by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from wsol.engine import epoch_sums
from wsol.engine.evaluation import SplitEvaluation
from wsol.engine.optim import optimizer_groups
from wsol.engine.recognition import Recognition
from wsol.engine.split_types import SplitResult
from wsol.errors import InputError, first_line
from wsol.explain.base import Explainer
from wsol.models.localizer import Localizer
from wsol.models.precision import check_precision, evaluation_precision
from wsol.types import Batch, Output

BatchTransform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

log = logging.getLogger("wsol")


class LocalizerModule(pl.LightningModule):
    """Trains a localizer from image-level labels and judges its maps.

    Args:
        localizer: the network; a plain `wsol.models.classifier.Classifier` can be judged by an explainer's maps.
        optimizer: makes the optimizer from parameter groups; a partial whose keywords hold the base ``lr`` and
            ``weight_decay``.
        factors: parameter group -> factors of learning rate and weight decay, see `wsol.engine.optim.optimizer_groups`.
        schedule: makes a learning-rate scheduler from (optimizer, total_steps, steps_per_epoch); stepped each step.
        batch_transforms: functions of (images float (N, 3, H, W), targets float (N, K)) that give new ones, in order.
        label_smoothing: share of the target spread evenly over all classes.
        seed: with the epoch, the process and the step it seeds every draw made in training, so a resumed run repeats
            the same.
        channels_last: whether images and weights are laid out channels-last.
        header: what each checkpoint carries to rebuild the localizer (`wsol.config.build.checkpoint_header`).
        explainer: makes the maps that are judged; None for the localizer's own.
        eval_precision: what scores and maps are computed in, whichever precision the trainer has, see
            `wsol.models.precision`; explainers always take float32.
    """

    def __init__(
        self,
        localizer: Localizer,
        *,
        optimizer: partial[Optimizer] | None = None,
        factors: Mapping[str, Mapping[str, float]] | None = None,
        schedule: Callable | None = None,
        batch_transforms: Iterable[BatchTransform] = (),
        label_smoothing: float = 0.0,
        seed: int = 0,
        channels_last: bool = True,
        header: Mapping | None = None,
        explainer: Explainer | None = None,
        eval_precision: str = "32-true",
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.localizer = localizer.to(memory_format=layout)
        self.eval_precision = check_precision(eval_precision)
        self.evaluations = nn.ModuleDict()
        self.recognitions = nn.ModuleDict()
        self.measured: dict[str, SplitResult] = {}
        self.recognized: dict[str, dict] = {}
        self.train_skipped: set[int] = set()
        self._optimizer, self._factors, self._schedule = optimizer, dict(factors or {}), schedule
        self._batch_transforms = tuple(batch_transforms)
        self._label_smoothing, self._seed, self._layout = label_smoothing, seed, layout
        self._header, self._explainer = dict(header or {}), explainer
        self._sums: dict[str, list[float]] = {}
        preprocessing = localizer.preprocessing
        self.pixel_mean = nn.Buffer(torch.tensor(preprocessing.mean).view(3, 1, 1) * 255, persistent=False)
        self.pixel_std = nn.Buffer(torch.tensor(preprocessing.std).view(3, 1, 1) * 255, persistent=False)

    @property
    def class_agnostic(self) -> bool:
        """Whether the judged maps of an image are the same for all classes."""
        return (self._explainer or self.localizer).class_agnostic

    def judge(self, evaluations: Iterable[SplitEvaluation], recognitions: Iterable[Recognition] = ()) -> None:
        """Set what is evaluated: one `SplitEvaluation` a split, in the order of the data loaders.

        Images of the splits that have a `Recognition` are classified again by what their maps show.
        """
        self.evaluations = nn.ModuleDict({evaluation.split.name: evaluation for evaluation in evaluations})
        self.recognitions = nn.ModuleDict({recognition.split.name: recognition for recognition in recognitions})

    def normalise(self, images: Tensor) -> Tensor:
        """From uint8 pixels (N, 3, H, W) to what the backbone expects: float32, minus the mean, over the deviation."""
        values = (images.to(torch.float32) - self.pixel_mean) / self.pixel_std
        return values.contiguous(memory_format=self._layout)

    # -- training ------------------------------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed every draw of this step by (seed, epoch, process, step)."""
        sequence = np.random.SeedSequence([self._seed, self.current_epoch, self.global_rank, batch_idx])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step: batch transforms, forward, the head's losses summed."""
        if batch.skipped.numel():
            self.train_skipped.update(batch.skipped.tolist())
        images = self.normalise(batch.images)
        classes = self.localizer.num_classes
        targets = F.one_hot(batch.labels, classes).to(images.dtype)
        for transform in self._batch_transforms:
            images, targets = transform(images, targets)
        wanted = targets.argmax(1)  # of a mixed image the class with the greater share
        output = self.localizer(images, labels=wanted)
        losses = self.localizer.head.loss(output, targets, label_smoothing=self._label_smoothing)
        loss = torch.stack(list(losses.values())).sum()
        error = 100.0 * (output.logits.detach().argmax(1) != wanted).float().mean()
        logged = {"train/loss": loss.detach(), "train/top1_error": error}
        if len(losses) > 1:
            logged |= {f"train/loss_{name}": value.detach() for name, value in losses.items()}
        # Lightning adds these up on the device, NaN included; the step never waits for the device.
        for name, value in logged.items():
            self.log(name, value, on_step=False, on_epoch=True, batch_size=len(batch.labels), sync_dist=True)
        # Written every `log_every_n_steps` steps: the loss of the first process's images alone.
        self.log("train/loss_step", loss.detach(), on_step=True, on_epoch=False, batch_size=len(batch.labels))
        if self._sums:
            epoch_sums.add(self.trainer, self._sums)
            self._sums = {}
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the learning rate of the first parameter group as it is now."""
        groups = self.trainer.optimizers[0].param_groups
        self.log("train/lr", torch.tensor(groups[0]["lr"], device=self.device), sync_dist=True, reduce_fx="max")

    def setup(self, stage: str) -> None:
        """Before a distributed training, freeze what gets no gradient, and say so."""
        if stage == "fit" and self.trainer.world_size > 1 and (unused := self.localizer.freeze_unused()):
            log.info("frozen, since no class score depends on them: %d parameters, such as %s", len(unused), unused[0])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig | Optimizer:
        """SGD, AdamW, ... over the localizer's parameter groups, with the schedule stepped each optimizer step."""
        if self._optimizer is None:
            raise InputError("this module was built for evaluation: give it an optimizer to train it")
        base = self._optimizer.keywords
        if "lr" not in base:
            raise InputError("the optimizer has no base learning rate: set optim.optimizer.lr")
        for key in ("lr", "weight_decay"):
            if key in base and not isinstance(base[key], int | float):
                raise InputError(f"optim.optimizer.{key}={base[key]}: expected a number")
        groups = optimizer_groups(
            self.localizer.parameter_groups(),
            self._factors,
            base["lr"],
            base.get("weight_decay", 0.0),
            self.localizer.no_weight_decay(),
        )
        try:
            optimizer = self._optimizer(groups)
        except (TypeError, ValueError) as error:
            raise InputError(f"optim.optimizer: {first_line(error)}; give another value") from error
        if self._schedule is None:
            return optimizer
        total = int(self.trainer.estimated_stepping_batches)
        per_epoch = max(1, round(total / max(1, self.trainer.max_epochs or 1)))
        scheduler = self._schedule(optimizer, total, per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Put the config, the classes and the preprocessing into the checkpoint."""
        checkpoint["wsol"] = self._header
        if self.trainer.training:
            checkpoint["epoch_sums"] = epoch_sums.read(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take over what a checkpoint within an epoch has of that epoch's means."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        self._sums = {} if progress["is_last_batch"] else checkpoint.get("epoch_sums", {})

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Judge one batch of the split that this loader serves."""
        self._judge(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log what the validation split says."""
        for evaluation in self._in_order():
            values = evaluation.scalars()
            if not self.trainer.sanity_checking:
                # All processes have the same values already; Lightning wants to hear how they would be reduced.
                self.log_dict(values, sync_dist=True, reduce_fx="max")
            evaluation.reset()

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Judge one batch of the split that this loader serves."""
        self._judge(batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Keep what was measured, while the states are on the device, where processes can exchange them."""
        self.measured = {evaluation.split.name: evaluation.compute() for evaluation in self._in_order()}
        for name, again in self.recognitions.items():
            assert isinstance(again, Recognition)
            self.recognized[name] = again.compute(self.measured[name].classification)

    def _in_order(self) -> list[SplitEvaluation]:
        """The evaluations in the order of the data loaders."""
        return [module for module in self.evaluations.values() if isinstance(module, SplitEvaluation)]

    @torch.no_grad()
    def _judge(self, batch: Batch, loader: int) -> None:
        """One forward pass gives the scores and the map of each image's true class."""
        evaluations = self._in_order()
        if loader >= len(evaluations):
            raise InputError(
                "nothing says what to measure here: call judge(...), one SplitEvaluation for each data loader"
            )
        evaluation = evaluations[loader]
        if len(batch.labels):
            again = self.recognitions[evaluation.split.name] if self.recognitions else None
            classes = again.classes(batch) if isinstance(again, Recognition) else batch.labels[:, None]
            logits, maps = self.maps(batch.images, classes)
            evaluation.update(batch, logits, maps[:, :, 0].float().cpu().numpy())
            if isinstance(again, Recognition):
                seen = again.look(batch, maps[:, :, 1].float().cpu().numpy())
                again.errors.update(self.scores(seen.to(self.device))[2], batch.labels, batch.positions)
        evaluation.skip(batch)

    def maps(self, images: Tensor, classes: Tensor | Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Scores and class maps of one forward pass, and of what the explainer adds to it, if there is one.

        Args:
            images: uint8 (N, 3, H, W), or (N, V, 3, H, W) with V views of each image.
            classes: int64 (N, M) classes whose maps are asked, or what chooses them by the scores (N, K).

        Returns:
            float32 scores (N, K), with several views the logarithm of their mean softmax; float32 maps
            (N, V, M, h, w), V = 1 without views.
        """
        inputs, output, logits = self.scores(images)
        views = len(inputs) // len(logits)
        asked = (classes(logits) if callable(classes) else classes).repeat_interleave(views, 0)
        if self._explainer is None:
            with evaluation_precision(images.device.type, self.eval_precision):
                maps = self.localizer.maps(output, asked)
        else:
            maps = self._explainer(self.localizer, inputs, asked)
        return logits, maps.float().unflatten(0, (-1, views))

    def scores(self, images: Tensor) -> tuple[Tensor, Output, Tensor]:
        """One forward pass.

        Args:
            images: as of `maps`.

        Returns:
            The network's input float32 (N V, 3, H, W), what it makes of that, and float32 scores (N, K), see `maps`.
        """
        views = images.shape[1] if images.ndim == 5 else 1
        inputs = self.normalise(images.flatten(0, 1) if images.ndim == 5 else images)
        with evaluation_precision(images.device.type, self.eval_precision):
            output: Output = self.localizer(inputs)
        logits = output.logits.float()
        if views > 1:
            logits = logits.unflatten(0, (-1, views)).log_softmax(-1).logsumexp(1) - np.log(views)
        return inputs, output, logits
