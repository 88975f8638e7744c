"""Small LightningModules, data and trainers for the tests of the module."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch

from tests.marked import PROTOCOLS
from wsol.backbones.tiny import Tiny
from wsol.data.datasets.creatures import Creatures
from wsol.data.module import LocalizationData
from wsol.data.transforms import ResizeSquare, SmallCrop
from wsol.engine.module import LocalizerModule
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer
from wsol.types import Batch

CLASSES, SIDE = 8, 32
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3)
CAM = {"cam2016": PROTOCOLS["cam2016"]}


def localizer(**head) -> Localizer:
    torch.manual_seed(0)
    return Localizer(Tiny([4, 6, 6, 8]), partial(GapHead, **head), CLASSES)


def make(seed: int = 0, head: Mapping | None = None, **options) -> LocalizerModule:
    return LocalizerModule(localizer(**head or {}), optimizer=SGD, seed=seed, **options)


def images(count: int, *shape: int) -> torch.Tensor:
    return torch.randint(
        256, (count, *shape, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def batch(count: int = 6) -> Batch:
    labels = torch.randint(CLASSES, (count,), generator=torch.Generator().manual_seed(2))
    sizes = torch.full((count, 2), SIDE)
    return Batch(images(count), labels, torch.arange(count), sizes, torch.empty(0, dtype=torch.int64))


def data(source: Creatures, eval_transform=None, **options) -> LocalizationData:
    settings = {"batch_size": 8, "num_workers": 0} | options
    return LocalizationData(source, SmallCrop(SIDE), eval_transform or ResizeSquare(SIDE), **settings)


def fit(module: LocalizerModule, data: LocalizationData, folder: Path, **options) -> pl.Trainer:
    settings = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
        "limit_val_batches": 1.0 if len(module.evaluations) else 0,
    }
    trainer = pl.Trainer(**{**settings, **options})
    trainer.fit(module, datamodule=data)
    return trainer


def weights(module: LocalizerModule) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.localizer.state_dict().items()}


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
