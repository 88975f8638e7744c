"""Fitting an explainer with statistics of a dataset on the training images, before anything is evaluated."""

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
from wsol.explain.fitted import FittedExplainer

log = logging.getLogger("wsol")


def fit_explainer(
    explainer: Explainer | None, module: LocalizerModule, data: LocalizationData, trainer: pl.Trainer
) -> FittedExplainer | None:
    """Fit an explainer that needs it and has no statistics yet; every process fits on all training images.

    The images come in the order of their classes, as the evaluation shows them to the network, without augmentation.

    Args:
        explainer: that makes the maps, if any.
        module: with the network.
        data: whose train split is taken.
        trainer: names the device.

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
    """The network's input float32 (N V, 3, H, W) and labels (N V,), V views of an image one after the other."""
    for batch in data.class_ordered_dataloader("train"):
        images, labels = batch.images.to(module.device), batch.labels.to(module.device)
        views = images.shape[1] if images.ndim == 5 else 1
        yield module.normalise(images.flatten(0, 1) if images.ndim == 5 else images), labels.repeat_interleave(views)
