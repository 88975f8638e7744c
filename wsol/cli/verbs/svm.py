"""`wsol features svm`: classify any images by a linear SVM on a network's features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.table import Table

from wsol.cli import screen


def run(config: DictConfig) -> int:
    """Extract, train and evaluate under a composed config; returns the exit code."""
    from wsol.features import svm_evaluation

    screen.start_logging()
    with screen.progress() as progress:
        found = svm_evaluation.run(config, progress)
    show(found.folder / "results.json")
    return 0


def show(file: Path) -> None:
    """Print the accuracy of an SVM from its results.json."""
    results: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    data = results["data"]
    console = screen.console()
    console.print(
        f"linear SVM on {results['features']} features of {results['network']}: {results['classes']} classes, "
        f"{data['train']['images']:,} training and {data['test']['images']:,} test images",
        soft_wrap=True,
    )
    table = Table(title="accuracy, percent (95 % interval over images)", title_justify="left", title_style="")
    for column in ("crops", "C"):
        table.add_column(column)
    for column in ("of all images", "mean of the classes"):
        table.add_column(column, justify="right")
    for crops, row in results["svm"].items():
        values = [
            f"{row[key]:.1f} ({row['intervals'][key][0]:.1f}-{row['intervals'][key][1]:.1f})"
            for key in ("accuracy", "mean_class_accuracy")
        ]
        name = f"map (of the {results['maps']})" if crops == "map" else crops
        table.add_row(name, f"{row['C']:g}", *values)
    console.print(table)
    print(f"written to {file.parent}")
