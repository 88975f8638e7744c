"""Fit an explainer that needs statistics of a dataset, on the training images, before the evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor

from wsol.data.module import LocalizationData
from wsol.engine.module import LocalizerModule
from wsol.errors import InputError
from wsol.explain.base import Explainer
from wsol.explain.fitted_explainer import FittedExplainer

log = logging.getLogger("wsol")


def fit_explainer(
    explainer: Explainer | None, module: LocalizerModule, data: LocalizationData, trainer: pl.Trainer
) -> FittedExplainer | None:
    """Fit an explainer if it needs statistics and has none; every process fits on all training images.

    The images are sorted by class and transformed as for evaluation, without augmentation.

    Args:
        explainer: the explainer of the maps, if any.
        module: the module with the network.
        data: the data; its train split is used.
        trainer: the trainer, which has the device.

    Returns:
        The explainer, if it has statistics that can be saved.

    Raises:
        InputError: there is no train split.
    """
    if not isinstance(explainer, FittedExplainer) or not explainer.needs_fit:
        return None
    if not explainer.is_fitted:
        if "train" not in data.splits:
            raise InputError(
                f"{type(explainer).__name__} is fitted on training images, and the dataset has only "
                f"{', '.join(data.splits)}; give explainer.state=<folder of an evaluation that fitted it>"
            )
        module.to(trainer.strategy.root_device)
        log.info("fitting %s on %d training images", type(explainer).__name__, len(data.split("train")))
        explainer.fit(module.localizer, _batches(module, data))
    return explainer


@torch.no_grad()
def _batches(module: LocalizerModule, data: LocalizationData) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the network's input float32 (N V, 3, H, W) and labels (N V,), image by image with V views."""
    for batch in data.class_ordered_dataloader("train"):
        images, labels = batch.images.to(module.device), batch.labels.to(module.device)
        views = images.shape[1] if images.ndim == 5 else 1
        yield module.normalise(images.flatten(0, 1) if images.ndim == 5 else images), labels.repeat_interleave(views)
