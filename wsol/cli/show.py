"""What the screen shows: log lines and tables."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from wsol.data.module import LocalizationData
from wsol.localizer import Localizer

QUIET = ("pytorch_lightning", "lightning_fabric", "lightning")
NOISE = (
    ".*does not have many workers.*",
    ".*LeafSpec.*",
    ".*treespec.*",
    ".*Total length of `list` across ranks is zero.*",
    ".*lr_scheduler.step.*",
    ".*Checkpoint directory .* exists.*",
    ".*number of training batches.*smaller than the logging interval.*",
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
    console = Console(width=None if sys.stdout.isatty() else 118, highlight=False)
    console.print()
    console.print(localization_table(content))
    console.print(_classification(content))
    for split, ids in content["skipped_images"].items():
        if ids:
            console.print(f"{split}: {len(ids)} unreadable images left out: {', '.join(ids[:5])}")
    console.print(f"written to {file}", style="dim", soft_wrap=True)


def localization_table(content: dict[str, Any]) -> Table:
    """Localization errors of the judged split, a row for each maps x protocol x threshold origin."""
    splits = [row["split"] for row in content["localization"]]
    judged = "test" if "test" in splits else splits[0] if splits else "test"
    images = content["data"]["splits"][judged]["images"] if judged in content["data"]["splits"] else 0
    table = Table(
        title=f"{content['name']}, seed {content['seed']}: localization error, percent, {judged} ({images:,} images)",
        title_justify="left",
        title_style="bold",
    )
    for column in ("maps", "protocol", "threshold"):
        table.add_column(column)
    for column in ("GT-known", "top-1", "top-5"):
        table.add_column(column, justify="right")
    last = None
    for row in (r for r in content["localization"] if r["split"] == judged):
        if last not in (None, row["protocol"]):
            table.add_section()
        last = row["protocol"]
        errors = [row.get(f"{name}_error") for name in ("gt_known", "top1", "top5")]
        table.add_row(
            row["maps"],
            row["protocol"],
            f"{row['threshold']:.3g} ({row['threshold_origin']})"
            if row["threshold"] is not None
            else row["threshold_origin"],
            *("-" if error is None else f"{error:.2f}" for error in errors),
        )
    return table


def _classification(content: dict[str, Any]) -> str:
    parts = []
    for split, values in content["classification"].items():
        errors = ", ".join(
            f"{name.removesuffix('_error').replace('top', 'top-')} {value:.2f}" for name, value in values.items()
        )
        parts.append(f"{split}: {errors}")
    return f"classification error, percent   {'   '.join(parts)}"
