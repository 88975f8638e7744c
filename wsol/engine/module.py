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
from wsol.heads.base import Head
from wsol.models.localizer import Localizer
from wsol.models.precision import check_precision, evaluation_precision
from wsol.types import Batch, Output

BatchTransform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

log = logging.getLogger("wsol")


def pseudo_targets(head: Head, batch: Batch) -> Tensor | None:
    """Return the pseudo targets of a batch as `Head.loss` takes them: boxes in [0, 1] of the input, masks as they are.

    Raises:
        InputError: the head learns from pseudo targets and the batch has none, or others; or it learns from none.
    """
    check_pseudo(head, None if batch.pseudo is None else ("boxes" if batch.pseudo.ndim == 2 else "masks"))
    if batch.pseudo is None or head.pseudo == "masks":
        return batch.pseudo
    height, width = batch.images.shape[-2:]
    return batch.pseudo / batch.pseudo.new_tensor([width, height, width, height])


def check_pseudo(head: Head, given: str | None) -> None:
    """Refuse pseudo targets that a head cannot learn from, and a head that learns from pseudo targets without any.

    Args:
        head: the head to be trained.
        given: ``boxes`` or ``masks``; None without pseudo targets.

    Raises:
        InputError: they do not go together.
    """
    name, needed = type(head).__name__, head.pseudo
    if given == needed:
        return
    if needed is None:
        raise InputError(f"pseudo={given}: {name} learns without pseudo targets; leave them out")
    raise InputError(
        f"{name} learns from pseudo {needed}, got {given or 'none'}: make them with another network, wsol eval <run> "
        f"split=train pseudo={needed}, and name their folder here, pseudo=<folder>"
    )


class LocalizerModule(pl.LightningModule):
    """Trains a localizer from image-level labels and evaluates its maps.

    Args:
        localizer: the network; with an explainer, a plain `wsol.models.classifier.Classifier` can be evaluated too.
        optimizer: makes the optimizer from parameter groups; a partial whose keywords include the base ``lr`` and
            ``weight_decay``.
        factors: parameter group -> factors of learning rate and weight decay, see `wsol.engine.optim.optimizer_groups`.
        schedule: makes a learning-rate scheduler from (optimizer, total_steps, steps_per_epoch); stepped each step.
        batch_transforms: functions of (images float (N, 3, H, W), targets float (N, K)) that return new ones, in order.
        label_smoothing: share of the target spread uniformly over all classes.
        seed: with the epoch, the process and the step it seeds all randomness of training, so a resumed run repeats
            the same.
        channels_last: whether images and weights use the channels-last layout.
        header: entry of each checkpoint that rebuilds the localizer, see `wsol.runs.checkpoints.header`.
        explainer: makes the maps that are evaluated; None for the localizer's own.
        eval_precision: precision of scores and maps, independent of the trainer's, see `wsol.models.precision`;
            explainers always use float32.
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
        if label_smoothing and not localizer.classifies:
            raise InputError(f"label_smoothing={label_smoothing}: the network learns without classes; leave it out")
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
        """Whether the evaluated maps of an image are the same for all classes."""
        return (self._explainer or self.localizer).class_agnostic

    @property
    def gives_boxes(self) -> bool:
        """Whether boxes that the network gives are evaluated, and no maps."""
        return self._explainer is None and self.localizer.gives_boxes

    def mixing_transforms(self) -> list[str]:
        """Return names of the batch transforms that mix images."""
        return [type(one).__name__ for one in self._batch_transforms if getattr(one, "mixes", False)]

    def set_evaluations(self, evaluations: Iterable[SplitEvaluation], recognitions: Iterable[Recognition] = ()) -> None:
        """Set the evaluations: one `SplitEvaluation` per split, in the order of the data loaders.

        Images of the splits that have a `Recognition` are classified again using their maps.
        """
        self.evaluations = nn.ModuleDict({evaluation.split.name: evaluation for evaluation in evaluations})
        self.recognitions = nn.ModuleDict({recognition.split.name: recognition for recognition in recognitions})

    def normalise(self, images: Tensor) -> Tensor:
        """Convert uint8 pixels (N, 3, H, W) to the backbone's input: float32, minus mean, divided by deviation."""
        values = (images.to(torch.float32) - self.pixel_mean) / self.pixel_std
        return values.contiguous(memory_format=self._layout)

    # -- training ------------------------------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the randomness of this step with (seed, epoch, process, step)."""
        sequence = np.random.SeedSequence([self._seed, self.current_epoch, self.global_rank, batch_idx])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Run one step: batch transforms, forward, and the sum of the head's losses."""
        if batch.skipped.numel():
            self.train_skipped.update(batch.skipped.tolist())
        images = self.normalise(batch.images)
        classes = self.localizer.num_classes
        targets = F.one_hot(batch.labels, classes).to(images.dtype)
        for transform in self._batch_transforms:
            images, targets = transform(images, targets)
        wanted = targets.argmax(1)  # for a mixed image, the class with the greater share
        output = self.localizer(images, labels=wanted)
        pseudo = pseudo_targets(self.localizer.head, batch)
        losses = self.localizer.head.loss(output, targets, label_smoothing=self._label_smoothing, pseudo=pseudo)
        loss = torch.stack(list(losses.values())).sum()
        logged = {"train/loss": loss.detach()}
        if self.localizer.classifies:
            logged["train/top1_error"] = 100.0 * (output.logits.detach().argmax(1) != wanted).float().mean()
        if pseudo is not None and pseudo.ndim == 2:
            logged["train/outside_crop"] = 100.0 * pseudo.isnan().any(1).float().mean()
        if len(losses) > 1:
            logged |= {f"train/loss_{name}": value.detach() for name, value in losses.items()}
        # Lightning adds these up on the device, NaN included; the step never waits for the device.
        for name, value in logged.items():
            self.log(name, value, on_step=False, on_epoch=True, batch_size=len(batch.labels), sync_dist=True)
        # Written every `log_every_n_steps` steps: the loss of the first process's images only.
        self.log("train/loss_step", loss.detach(), on_step=True, on_epoch=False, batch_size=len(batch.labels))
        if self._sums:
            epoch_sums.add(self.trainer, self._sums)
            self._sums = {}
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the current learning rate of the first parameter group."""
        groups = self.trainer.optimizers[0].param_groups
        self.log("train/lr", torch.tensor(groups[0]["lr"], device=self.device), sync_dist=True, reduce_fx="max")

    def setup(self, stage: str) -> None:
        """Before distributed training, freeze parameters that get no gradient, and log them."""
        if stage == "fit" and self.trainer.world_size > 1 and (unused := self.localizer.freeze_unused()):
            log.info("frozen, as no class score depends on them: %d parameters, such as %s", len(unused), unused[0])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig | Optimizer:
        """Return the optimizer over the localizer's parameter groups, with the schedule, stepped at each step."""
        if self._optimizer is None:
            raise InputError("this module was built for evaluation: pass an optimizer to train it")
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
            raise InputError(f"optim.optimizer: {first_line(error)}; choose another value") from error
        if self._schedule is None:
            return optimizer
        total = int(self.trainer.estimated_stepping_batches)
        per_epoch = max(1, round(total / max(1, self.trainer.max_epochs or 1)))
        scheduler = self._schedule(optimizer, total, per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Store the config, the classes and the preprocessing in the checkpoint."""
        checkpoint["wsol"] = self._header
        if self.trainer.training:
            checkpoint["epoch_sums"] = epoch_sums.read(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Restore the running means of the epoch from a checkpoint within an epoch."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        self._sums = {} if progress["is_last_batch"] else checkpoint.get("epoch_sums", {})

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Evaluate one batch of this loader's split."""
        self._evaluate(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the results of the validation split."""
        for evaluation in self._in_order():
            values = evaluation.scalars()
            if not self.trainer.sanity_checking:
                # All processes already have the same values; Lightning still needs to know how to reduce them.
                self.log_dict(values, sync_dist=True, reduce_fx="max")
            evaluation.reset()

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Evaluate one batch of this loader's split."""
        self._evaluate(batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Store the results while the states are on the device, where processes can exchange them."""
        self.measured = {evaluation.split.name: evaluation.compute() for evaluation in self._in_order()}
        for name, again in self.recognitions.items():
            assert isinstance(again, Recognition)
            self.recognized[name] = again.compute(self.measured[name].classification)

    def _in_order(self) -> list[SplitEvaluation]:
        """Return the evaluations in the order of the data loaders."""
        return [module for module in self.evaluations.values() if isinstance(module, SplitEvaluation)]

    @torch.no_grad()
    def _evaluate(self, batch: Batch, loader: int) -> None:
        """Compute the scores and the map of each image's ground-truth class, or its box, in one forward pass."""
        evaluations = self._in_order()
        if loader >= len(evaluations):
            raise InputError(
                "no evaluations are set: call set_evaluations(...) with one SplitEvaluation for each data loader"
            )
        evaluation = evaluations[loader]
        if len(batch.labels) and self.gives_boxes:
            logits, boxes = self.boxes(batch.images)
            evaluation.update_boxes(batch, logits, boxes.cpu().numpy())
        elif len(batch.labels):
            again = self.recognitions[evaluation.split.name] if self.recognitions else None
            classes = again.classes(batch) if isinstance(again, Recognition) else batch.labels[:, None]
            logits, maps = self.maps(batch.images, classes)
            evaluation.update(batch, logits, maps[:, :, 0].float().cpu().numpy())
            if isinstance(again, Recognition):
                seen = again.second_input(batch, maps[:, :, 1].float().cpu().numpy())
                again.errors.update(self.scores(seen.to(self.device))[2], batch.labels, batch.positions)
        evaluation.skip(batch)

    def maps(self, images: Tensor, classes: Tensor | Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return scores and class maps from one forward pass, plus what the explainer needs, if there is one.

        Args:
            images: uint8 (N, 3, H, W), or (N, V, 3, H, W) with V views of each image.
            classes: int64 (N, M) classes of the maps, or a function that chooses them from the scores (N, K).

        Returns:
            float32 scores (N, K), for several views the logarithm of their mean softmax; float32 maps (N, V, M, h, w),
            V = 1 without views.
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

    def boxes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and boxes from one forward pass of a network that gives boxes.

        Args:
            images: see `maps`.

        Returns:
            float32 scores (N, K), see `maps`; float32 boxes (N, V, 4), x0, y0, x1, y1 in [0, 1] of the input of each
            view, V = 1 without views.
        """
        inputs, output, logits = self.scores(images)
        with evaluation_precision(images.device.type, self.eval_precision):
            found = self.localizer.boxes(output)
        return logits, found.float().unflatten(0, (-1, len(inputs) // len(logits)))

    def scores(self, images: Tensor) -> tuple[Tensor, Output, Tensor]:
        """Run one forward pass.

        Args:
            images: see `maps`.

        Returns:
            The network's input float32 (N V, 3, H, W), its output, and float32 scores (N, K), see `maps`.
        """
        views = images.shape[1] if images.ndim == 5 else 1
        inputs = self.normalise(images.flatten(0, 1) if images.ndim == 5 else images)
        with evaluation_precision(images.device.type, self.eval_precision):
            output: Output = self.localizer(inputs)
        logits = output.logits.float()
        if views > 1:
            logits = logits.unflatten(0, (-1, views)).log_softmax(-1).logsumexp(1) - np.log(views)
        return inputs, output, logits
