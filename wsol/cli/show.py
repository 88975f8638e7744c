"""What the screen shows: log lines and tables."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from wsol.data.module import LocalizationData
from wsol.evaluation import LOCALIZER
from wsol.localizer import Localizer

WIDTH = 118
"""Columns of what is printed to a file or a pipe."""

QUIET = ("pytorch_lightning", "lightning_fabric", "lightning")
NOISE = (
    ".*does not have many workers.*",
    ".*LeafSpec.*",
    ".*treespec.*",
    ".*Total length of `list` across ranks is zero.*",
    ".*lr_scheduler.step.*",
    ".*Checkpoint directory .* exists.*",
    ".*number of training batches.*smaller than the logging interval.*",
    ".*suggested max number of worker.*",
    ".*Trying to infer the `batch_size`.*",
    ".*GPU available but not used.*",
    ".*barrier.*device.*",
)
"""Warnings of libraries about things that are as they should be here."""


def start_logging() -> None:
    """Say what the package says on standard error; of Lightning only warnings."""
    logger = logging.getLogger("wsol")
    logger.setLevel(logging.WARNING if int(os.environ.get("LOCAL_RANK", 0)) > 0 else logging.INFO)
    for old in [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]:
        logger.removeHandler(old)  # it writes to the standard error of an earlier call
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in NOISE:
        warnings.filterwarnings("ignore", pattern)


def describe(config: DictConfig, data: LocalizationData, localizer: Localizer, trainer: pl.Trainer) -> str:
    """One line before training: what is trained on what, where and how."""
    splits = ", ".join(f"{name} {len(data.split(name)):,}" for name in data.splits)
    millions = sum(p.numel() for p in localizer.parameters()) / 1e6
    where = f"{trainer.world_size} x {trainer.accelerator.__class__.__name__.removesuffix('Accelerator').lower()}"
    return (
        f"{config.name}: {len(localizer.classes or ())} classes ({splits}), {millions:.2f} M parameters, "
        f"{where}, precision {trainer.precision}, seed {config.seed}"
    )


def results(file: Path) -> None:
    """Print the tables of a results.json."""
    content = json.loads(file.read_text(encoding="utf-8"))
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    judged = next(reversed(content["classification"]), "train")
    images = content["data"]["splits"][judged]["images"]
    console.print(f"\n[bold]{content['name']}[/bold], seed {content['seed']}, {judged} split ({images:,} images)")
    rows = [row for row in content["localization"] if row["split"] == judged]
    if rows:
        console.print(localization_table(rows))
    else:
        console.print("localization: not judged, for there are no boxes to judge by")
    for split, values in content["classification"].items():
        console.print(f"classification error, {split}: {_percent(values)}")
    for split, values in content["pixels"].items():
        console.print(f"pixel-wise average precision, {split}: {_percent(values)}")
    for split, ids in content["skipped_images"].items():
        if ids:
            console.print(f"{split}: {len(ids)} unreadable images left out: {', '.join(ids[:5])}")
    console.print(f"written to {file}", style="dim", soft_wrap=True)


def localization_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Localization errors, a row for each maps x protocol x threshold origin; a localizer's row is bold."""
    errors = [key for key in rows[0] if key.endswith("_error")]
    table = Table(title="localization error, percent, at IoU 0.5", title_justify="left", title_style="")
    for column in ("maps", "protocol", "threshold"):
        table.add_column(column)
    for key in errors:
        table.add_column(_label(key), justify="right")
    for before, row in zip([None, *rows[:-1]], rows, strict=True):
        if before and before["protocol"] != row["protocol"]:
            table.add_section()
        given = row["threshold"] is not None
        threshold = f"{row['threshold']:.3g} ({row['threshold_origin']})" if given else row["threshold_origin"]
        values = ["-" if row.get(key) is None else f"{row[key]:.2f}" for key in errors]
        own = "bold" if row["maps"] == LOCALIZER else None
        table.add_row(row["maps"], row["protocol"], threshold, *values, style=own)
    return table


def _percent(values: dict[str, float]) -> str:
    return ", ".join(f"{_label(name)} {value:.2f} %" for name, value in values.items())


def _label(key: str) -> str:
    """``top1_error`` as ``top-1``, ``gt_known_error`` as ``GT-known``."""
    return key.removesuffix("_error").replace("top", "top-").replace("gt_known", "GT-known")
