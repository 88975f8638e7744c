"""External classes: the classes of a CSV file or of a second network replace the localizer's predictions.

Top-1 and top-5 localization then use the external classes and this network's boxes, as in Zhang et al. 2018 (ACoL) with
the classes of DPN, and in Zhang et al. 2020 (PSOL).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, ListConfig

from wsol.config import build
from wsol.config.trainer_warnings import intended_ignored
from wsol.data.class_names import first_other
from wsol.data.module import LocalizationData
from wsol.engine.module import LocalizerModule
from wsol.engine.split_types import ExternalClasses
from wsol.errors import InputError, plain_interruptions
from wsol.functional.ranks import true_class_ranks
from wsol.interop import safetensors_file
from wsol.interop.predictions import NOT_RANKED, ranks_of, read_predictions
from wsol.metrics._per_image import PerImage
from wsol.models.localizer import Localizer
from wsol.runs import checkpoints
from wsol.types import Batch


class ExternalClassSource:
    """The source that ``classes=...`` names. All quick checks run in the constructor.

    Args:
        config: config of `wsol eval`; ``classes`` is one or more CSV files (``image_id,class,score``), the folder of an
            evaluation that saved its maps, a run folder, or a checkpoint.
        settings: config of the evaluated network.
        data: the evaluated data.

    Raises:
        InputError: none of these; a CSV file with errors (file and line) or too few classes per image; a network with
            other classes.
    """

    def __init__(self, config: DictConfig, settings: DictConfig, data: LocalizationData) -> None:
        paths = [Path(str(one)) for one in _listed(config.classes)]
        tables = [_tables(path, config.split) for path in paths]
        files = [file for of_one in tables for file in of_one]
        self._found: ExternalClasses | None = None
        if all(tables):
            self._found = _read(files, data, config.split, max(settings.topk, default=1))
        elif len(paths) == 1:
            files = [checkpoints.find(paths[0], "best")]
            self._network = _Network(files[0], config, settings, data)
        else:
            raise InputError(f"classes={config.classes}: expected CSV files, or one run folder or checkpoint")
        name = paths[0].stem if self._found is not None else self._network.name
        self.about = {
            "name": name,
            "source": [str(path) for path in paths],
            "sha256": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
            "split": config.split,
        }

    def find(self, trainer: pl.Trainer, channels_last: bool) -> ExternalClasses:
        """Return the classes of all images; a second network runs once over the split."""
        if self._found is None:
            self._found = self._network.classify(trainer, channels_last)
        return self._found


def _listed(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, list | tuple | ListConfig) else [value]


def _tables(path: Path, split: str) -> list[Path]:
    """Return the CSV files of a path: itself, or those saved by an evaluation; empty for a network."""
    if not path.exists():
        raise InputError(
            f"classes={path}: no such file or folder; expected a CSV (image_id,class,score), a run folder, a "
            "checkpoint, or the folder of an evaluation with save_maps=true"
        )
    if path.is_dir():
        return sorted((path / "maps" / split).glob("classes-*.csv")) if not (path / "checkpoints").is_dir() else []
    return [] if path.suffix in (".ckpt", safetensors_file.SUFFIX) else [path]


def _read(files: Sequence[Path], data: LocalizationData, name: str, most: int) -> ExternalClasses:
    """Return the classes in CSV files."""
    split = data.split(name)
    ranked = read_predictions(files, split, data.source.classes)
    if most > ranked.shape[1]:
        raise InputError(
            f"{files[0]}: {ranked.shape[1]} classes per image at most, too few for top-{most}; "
            f"add more, or evaluate with topk=[{', '.join(str(k) for k in range(1, max(1, ranked.shape[1]) + 1))}]"
        )
    first = ranked[:, 0] if ranked.shape[1] else np.full(len(split), -1)
    return ExternalClasses(ranks_of(split.labels, ranked), first)


class _Network:
    """A second network, which reads the split through its own transform.

    Args:
        file: its checkpoint.
        config: see `ExternalClassSource`, also for the other arguments.
    """

    def __init__(self, file: Path, config: DictConfig, settings: DictConfig, data: LocalizationData) -> None:
        self.localizer, trained = checkpoints.load_localizer(checkpoints.read(file), file, trust=config.trust)
        if tuple(self.localizer.classes or ()) != tuple(data.source.classes):
            raise InputError(
                f"{file}: has {self.localizer.num_classes} classes; the dataset has {len(data.source.classes)}"
                f"{first_other(self.localizer.classes or (), data.source.classes)}; expected a network of the same "
                "classes in the same order"
            )
        build.check_parts(trained, ["transform"], file, trust=config.trust)
        self._precision = build.resolve_precision(config.eval_precision, settings.trainer.accelerator)
        own = settings.copy()
        own.transform, own.image_size, self.name = trained.transform, trained.image_size, str(trained.name)
        self.data = build.build_data(own, data.source, self.localizer.preprocessing, seed=settings.seed)
        self.data.evaluated = (config.split,)

    def classify(self, trainer: pl.Trainer, channels_last: bool) -> ExternalClasses:
        """Run the network once over the split; images that cannot be read have no class."""
        module = _ClassifierModule(self.localizer, channels_last=channels_last, eval_precision=self._precision)
        with plain_interruptions(), intended_ignored():
            trainer.test(module, datamodule=self.data, verbose=False)
        images = len(self.data.split(self.data.evaluated[0]))
        found = ExternalClasses(np.full(images, NOT_RANKED, np.int64), np.full(images, -1, np.int64))
        found.ranks[module.rows["index"]] = module.rows["ranks"]
        found.first[module.rows["index"]] = module.rows["first"]
        return found


class _ClassRanks(PerImage):
    """For each image, the rank of its ground-truth class and the best class."""

    def __init__(self) -> None:
        super().__init__()
        self.add_rows("ranks", None, torch.int32)
        self.add_rows("first", None, torch.int32)

    def update(self, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> None:
        """Add a batch: logits float (N, K), labels and positions int64 (N,)."""
        self.append(index, ranks=true_class_ranks(logits, labels), first=logits.argmax(1))

    def compute(self) -> dict[str, np.ndarray]:
        """Return the rows by name, of all processes."""
        return self.rows()


class _ClassifierModule(LocalizerModule):
    """Predicts classes only, without maps."""

    def __init__(self, localizer: Localizer, *, channels_last: bool, eval_precision: str) -> None:
        super().__init__(localizer, channels_last=channels_last, eval_precision=eval_precision)
        self.ranked = _ClassRanks()
        self.rows: dict[str, np.ndarray] = {}

    @torch.no_grad()
    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Classify a batch."""
        if len(batch.labels):
            self.ranked.update(self.scores(batch.images)[2], batch.labels, batch.positions)

    def on_test_epoch_end(self) -> None:
        """Store the rows of all processes."""
        self.rows = self.ranked.compute()
