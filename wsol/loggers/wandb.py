"""Weights & Biases: the only file that imports wandb."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from wsol.errors import InputError
from wsol.functional.error_kinds import error_kind
from wsol.loggers.base import Chart, RunLogger
from wsol.runs.folder import is_first_process
from wsol.types import Picture

ID_FILE = "wandb_id.txt"
ACCOUNT_MODES = ("online", "run", "shared")
"""Modes of wandb that send to a server."""


class PictureLogger(WandbLogger, RunLogger):
    """Lightning's wandb logger that also logs images, curves and results.json, and ends the wandb run with the run.

    Args:
        images: number of evaluated images to log with ground-truth and predicted boxes.
        arguments: arguments of Lightning's `WandbLogger`.
    """

    def __init__(self, images: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.images = images

    @rank_zero_only
    def log_evaluated(
        self, split: str, pictures: Sequence[Picture], charts: Mapping[str, Chart], classes: Sequence[str]
    ) -> None:
        """Log evaluated images with boxes, and charts as tables, plotted if they are tables of lines."""
        shown: dict[str, Any] = {}
        if pictures and self.images:
            step = max(len(pictures) / self.images, 1)  # spread over the split, like the kept images
            chosen = [pictures[int(i * step)] for i in range(min(self.images, len(pictures)))]
            shown[f"{split}/localization"] = [_image(picture, classes) for picture in chosen]
        for name, chart in charts.items():
            table = wandb.Table(columns=list(chart.columns), data=[list(row) for row in chart.rows])
            if chart.plotted:
                line, x, y = chart.columns
                shown[f"{split}/{name}"] = wandb.plot.line(table, x, y, stroke=line, title=chart.title)
            else:
                shown[f"{split}/{name}"] = table
        if shown:
            self.experiment.log(shown)

    @rank_zero_only
    def finish_run(self, folder: Path) -> None:
        """Upload results.json and end the run, so that the next job of a multirun starts its own."""
        self.experiment.save(str(folder / "results.json"), base_path=str(folder), policy="now")
        wandb.finish()


def logger(
    folder: Path, config: DictConfig, project: str, entity: str | None, offline: bool, tags: Sequence[str], images: int
) -> PictureLogger:
    """Return the logger of one run; a resumed run continues under the same id.

    Args:
        folder: the run folder, where wandb also keeps its files.
        config: uploaded as the run's config.
        project: wandb project.
        entity: wandb user or team; None takes the default one.
        offline: keep everything in the run folder; needs no account (``wandb sync`` uploads it later). False leaves it
            to wandb's own settings, such as the variable WANDB_MODE.
        tags: tags of the run.
        images: how many evaluated images to show with predicted and true boxes.

    Raises:
        InputError: wandb needs an account, and has none or one that the server refuses.
    """
    if not offline and is_first_process():  # the one that talks to wandb
        _log_in()
    if wandb.run is not None:
        wandb.finish(exit_code=1)  # end a failed earlier job of this process, or wandb would continue it
    file = folder / ID_FILE
    if not file.exists() and is_first_process():
        file.write_text(secrets.token_hex(4), encoding="utf-8")
    return PictureLogger(
        images,
        project=project,
        entity=entity,
        name=f"{config.name}-seed{config.seed}",
        id=file.read_text(encoding="utf-8").strip() if file.exists() else None,
        **({"mode": "offline"} if offline else {}),
        save_dir=str(folder),
        tags=list(tags),
        config=OmegaConf.to_container(config, resolve=True),
    )


def _log_in() -> None:
    """Let wandb find its account, as it is set up for wandb's own commands, unless its mode needs none.

    Raises:
        InputError: there is none, the server refuses it, or a setting of wandb is wrong.
    """
    remedy = "run `wandb login`, or keep it local with logger.offline=true"
    try:
        if wandb.setup().settings.mode not in ACCOUNT_MODES:
            return
        found = wandb.login(prompt=False)
    except (wandb.Error, ValueError) as error:
        raise InputError(f"logger=wandb: {' '.join(str(error).split())}; {remedy}") from error
    if not found:
        raise InputError(f"logger=wandb: no account is set up; {remedy}")


def _image(picture: Picture, classes: Sequence[str]) -> wandb.Image:
    def entry(box: np.ndarray, kind: int, caption: str) -> dict[str, Any]:
        """Return a box (xyxy, pixels) in the form of wandb; ``kind`` 0 is ground truth, 1 a prediction."""
        corners = {name: float(value) for name, value in zip(("minX", "minY", "maxX", "maxY"), box, strict=True)}
        return {"position": corners, "domain": "pixel", "class_id": kind, "box_caption": caption}

    label, no_guess = classes[picture.label], picture.predicted_label < 0
    guess = "no class" if no_guess else classes[picture.predicted_label]
    true = [entry(box, 0, label) for box in picture.true_boxes]
    predicted = entry(picture.predicted_box, 1, f"{guess}, IoU {picture.iou:.2f}")
    result = error_kind(
        picture.predicted_box,
        picture.true_boxes,
        box_right=picture.iou >= 0.5,
        class_right=no_guess or picture.label == picture.predicted_label,
    )
    return wandb.Image(
        picture.image,
        caption=f"{result}: {label}, predicted {guess}, IoU {picture.iou:.2f} ({picture.image_id})",
        boxes={"boxes": {"box_data": [*true, predicted], "class_labels": {0: "true", 1: "predicted"}}},
    )
