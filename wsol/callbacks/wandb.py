"""Weights & Biases: the only file that imports wandb."""

from __future__ import annotations

import netrc
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from wsol.callbacks.run_logger import RunLogger
from wsol.errors import InputError
from wsol.evaluation import Picture

ID_FILE = "wandb_id.txt"
HOST = "api.wandb.ai"


class PictureLogger(WandbLogger, RunLogger):
    """Lightning's wandb logger that also takes pictures and results.json, and ends the wandb run with ours.

    Args:
        images: how many judged images to show with their true and predicted boxes.
        arguments: those of Lightning's `WandbLogger`.
    """

    def __init__(self, images: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.images = images

    @rank_zero_only
    def log_pictures(self, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
        """Show judged images with boxes; the caption names both classes and the overlap."""
        shown = [_image(picture, classes) for picture in pictures[: self.images]]
        if shown:
            self.experiment.log({"test/localization": shown})

    @rank_zero_only
    def finish_run(self, folder: Path) -> None:
        """Upload results.json and end the run, so that the next job of a multirun starts its own."""
        self.experiment.save(str(folder / "results.json"), base_path=str(folder), policy="now")
        wandb.finish()


def logger(
    folder: Path, config: DictConfig, project: str, entity: str | None, offline: bool, tags: Sequence[str], images: int
) -> PictureLogger:
    """Return the logger of one run; a resumed run goes on under the same id.

    Args:
        folder: the run folder, where wandb keeps its files too.
        config: uploaded as the run's config.
        project: wandb project.
        entity: wandb user or team; None takes the default one.
        offline: keep everything in the run folder; needs no account (``wandb sync`` uploads it later).
        tags: of the run.
        images: how many judged images to show with predicted and true boxes.

    Raises:
        InputError: no account is set up and ``offline`` is false.
    """
    offline = offline or os.environ.get("WANDB_MODE", "") in ("offline", "dryrun", "disabled")
    if not offline and not has_account():
        raise InputError(
            "logger=wandb: no account is set up; run `wandb login`, or keep it local with logger.offline=true"
        )
    file = folder / ID_FILE
    if not file.exists():
        file.write_text(secrets.token_hex(4), encoding="utf-8")
    return PictureLogger(
        images,
        project=project,
        entity=entity,
        name=f"{config.name}-seed{config.seed}",
        id=file.read_text(encoding="utf-8").strip(),
        offline=offline,
        save_dir=str(folder),
        tags=list(tags),
        config=OmegaConf.to_container(config, resolve=True),
    )


def has_account() -> bool:
    """Whether wandb will find a key: WANDB_API_KEY, or an entry of .netrc as ``wandb login`` writes it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(os.environ.get("WANDB_HOST", HOST)) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _image(picture: Picture, classes: Sequence[str]) -> wandb.Image:
    def entry(box: np.ndarray, kind: int, caption: str) -> dict[str, Any]:
        corners = {name: float(value) for name, value in zip(("minX", "minY", "maxX", "maxY"), box, strict=True)}
        return {"position": corners, "domain": "pixel", "class_id": kind, "box_caption": caption}

    names = {0: "true", 1: "predicted"}
    predicted_name = classes[picture.predicted_label]
    true = [entry(box, 0, classes[picture.label]) for box in picture.true_boxes]
    predicted = [entry(picture.predicted_box, 1, predicted_name)]
    return wandb.Image(
        picture.image,
        caption=f"{picture.image_id}: {classes[picture.label]}, predicted {predicted_name}, IoU {picture.iou:.2f}",
        boxes={"boxes": {"box_data": [*true, *predicted], "class_labels": names}},
    )
