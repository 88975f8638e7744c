"""The good files that malformed ones are made from: a small run, its maps, its weights, and a dataset of photographs."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = (
    "experiment=demo data.train_images=32 data.val_images=8 data.test_images=16 data.size=32 image_size=32 loader.batch_size=16 "
    "loader.eval_batch_size=8 loader.num_workers=0 trainer.accelerator=cpu trainer.max_epochs=1 "
    "backbone.widths=[8,8,8,8]"
)
"""Words of a training that takes a second."""

CLASSES = ("cat", "dog")
SIDE = 32


@dataclass(frozen=True)
class Base:
    """Where the good files are."""

    folder: Path

    def names(self) -> dict[str, str]:
        """What commands call them."""
        return {
            "run": str(self.folder / "run"),
            "checkpoint": str(self.folder / "run/checkpoints/best.ckpt"),
            "safetensors": str(self.folder / "best.safetensors"),
            "evaluation": str(self.folder / "evaluation"),
            "image": str(self.folder / "image.png"),
            "photos": str(self.folder / "photos"),
            "data": str(self.folder / "data"),
            "small": SMALL,
        }

    def path(self, name: str) -> Path:
        """One of them."""
        return Path(self.names()[name])

    @property
    def predicted(self) -> str:
        """What `wsol predict` says of the image, behind its name."""
        return (self.folder / "predicted.txt").read_text()


def warm() -> None:
    """Import what the commands import, so that a fork need not; nothing here may start a thread."""
    import torch

    torch.set_num_threads(1)
    import wsol

    for module in pkgutil.walk_packages(wsol.__path__, "wsol."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    import matplotlib.pyplot  # noqa: F401
    import timm  # noqa: F401


def make(folder: Path) -> Base:
    """Make the files, in a fork of this process, unless they are there."""
    base = Base(folder)
    if (folder / "predicted.txt").exists():
        return base
    folder.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            _make(base)
            code = 0
        except BaseException as error:
            print(f"the base files could not be made: {error!r}")
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f"{folder}: the base files could not be made; see {folder / 'said.txt'}")
    return base


def _make(base: Base) -> None:
    paint(base.path("image"), 0)
    photos(base.path("photos"))
    os.chdir(base.folder)
    with (base.folder / "said.txt").open("w") as said, contextlib.redirect_stderr(said):
        _run(f"train {SMALL} data_dir={base.path('data')} run_dir={base.path('run')}")
        _run(f"eval run={base.path('run')} save_maps=true out={base.path('evaluation')} trainer.accelerator=cpu")
        _run(f"export run={base.path('run')} format=safetensors out={base.path('safetensors')}")
        text = _run(f"predict run={base.path('run')} images={base.path('image')} out={base.folder / 'prediction'}")
    (base.folder / "predicted.txt").write_text(prediction(text))


def _run(words: str) -> str:
    from wsol.cli import main

    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main(words.split())
    if code:
        raise RuntimeError(f"exit code {code} of wsol {words}: {said.getvalue()[-500:]}")
    return said.getvalue()


def prediction(text: str) -> str:
    """Class, score and box of the first image in what `wsol predict` printed."""
    return next((line.partition(": ")[2] for line in text.splitlines() if ", box " in line), "")


def paint(path: Path, seed: int, side: int = SIDE, box: tuple[int, int, int, int] = (8, 6, 24, 26)) -> None:
    """Write a noisy image with a bright block."""
    pixels = np.random.default_rng(seed).integers(90, 166, (side, side, 3), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = (230, 20 + 60 * (seed % 3), 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def photos(root: Path, images: int = 2) -> None:
    """Write class folders in three splits, and boxes.csv of two of them."""
    rows = ["image,x0,y0,x1,y1"]
    for number, split in enumerate(("train", "val", "test")):
        for label, name in enumerate(CLASSES):
            for k in range(images):
                path = f"{split}/{name}/{k}.png"
                paint(root / path, 100 * number + 10 * label + k)
                if split != "train":
                    rows.append(f"{path},8,6,24,26")
    (root / "boxes.csv").write_text("\n".join(rows) + "\n")
