"""`wsol predict`: class, score, box and map of any pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from wsol import runs
from wsol.cli import screen
from wsol.config import build
from wsol.data.annotations.box_files import by_path, read_boxes
from wsol.data.image_files import find_images, names_of
from wsol.data.images import BadImage, read_image
from wsol.engine import networks
from wsol.engine.networks import Network
from wsol.engine.predictor import Prediction
from wsol.engine.predictor import Predictor as ImagePredictor
from wsol.errors import InputError, unknown
from wsol.functional.iou import best_iou
from wsol.functional.overlay import overlay
from wsol.interop.coco import PredictedBox, PredictionFiles
from wsol.interop.png_file import write_png
from wsol.protocols import Protocol
from wsol.types import Truth

MAPS = ("npy", "png", "none")
SHOWN = 20
"""Up to so many images, the screen shows every prediction."""


class Picture(NamedTuple):
    """An image on its way."""

    file: Path
    name: str
    """Of what is written about it."""
    image: np.ndarray
    """uint8 (H, W, 3) RGB."""
    views: np.ndarray
    """uint8 (3, h, w) or (V, 3, h, w)."""


class Faulty(NamedTuple):
    """A file that is no image."""

    file: Path
    error: str


def run(config: DictConfig) -> int:
    """Predict under a composed config; returns the exit code, 1 if there are bad files."""
    screen.start_logging()
    if config.maps not in MAPS:
        raise unknown("maps", config.maps, MAPS)
    if config.batch_size < 1 or config.top < 1:
        raise InputError(f"batch_size, top: expected numbers from 1, got {config.batch_size} and {config.top}")
    files = find_images(config.images)
    output = runs.OutputFolder("predict", config.out, config.force)
    network = networks.find(config, "wsol predict run=<run folder> images=<folder>")
    predictor = Predictor(config, network, files)
    with output.writing(network.folder / "predict") as folder:
        bad = predictor.write(folder)
    print(f"{len(files) - len(bad):,} of {len(files):,} images, written to {output.folder}")
    return 1 if bad else 0


class Predictor:
    """Predicts images and writes what it finds; everything cheap is checked when it is built.

    Args:
        config: of the verb.
        network: to ask.
        files: the images.
    """

    def __init__(self, config: DictConfig, network: Network, files: Sequence[Path]) -> None:
        self.config, self.files = config, files
        if config.explainer is None and network.file is None:
            raise InputError("model=... has no maps of its own: choose explainer=gradcam or another")
        settings = network.trained.copy()
        OmegaConf.set_struct(settings, False)
        settings.update({key: config[key] for key in ("transform", "image_size") if config[key] is not None})
        self.localizer = ImagePredictor(
            network.localizer,
            build.build_transform(settings, "eval", network.localizer.preprocessing),
            protocol=self._protocol(),
            threshold=config.threshold,
            explainer=networks.explainer(config),
            device=config.device,
        )
        self.classes = None if config.classes is None else [self._index(given) for given in config.classes]
        self.truths = self._truths()

    def _protocol(self) -> Protocol:
        protocols = list(build.build_protocols(self.config).values())
        if len(protocols) != 1:
            raise InputError(f"protocol: expected one, whose boxes are drawn, got {len(protocols)}")
        return protocols[0]

    def _index(self, given: object) -> int:
        return self.localizer.index(given if isinstance(given, int) else str(given))

    def _truths(self) -> dict[str, Truth]:
        """True boxes by name, where a file has them."""
        if self.config.boxes is None:
            return {}
        found = read_boxes(Path(self.config.boxes))
        matched, _ = by_path(found.lines, {name: name for name in names_of(list(self.files))})
        return {
            path: Truth(np.array([marked.box for marked in found.boxes.get(name, ())]).reshape(-1, 4), found.inclusive)
            for path, name in matched.items()
        }

    def write(self, folder: Path) -> list[Faulty]:
        """Predict every image and write all files; returns what could not be read."""
        bad: list[Faulty] = []
        shown = len(self.files) <= SHOWN
        bar = Progress(console=Console(stderr=True), transient=True)
        names = self.localizer.names
        with bar, PredictionFiles(folder, names, len(names)) as out, ThreadPoolExecutor() as pool:
            task = bar.add_task("predict", total=len(self.files))
            for loaded in self._batches(pool):
                for one in (one for one in loaded if isinstance(one, Faulty)):
                    bad.append(one)
                    bar.console.print(f"wsol: bad image: {one.error}", style="red", soft_wrap=True, markup=False)
                good = [one for one in loaded if isinstance(one, Picture)]
                views = [picture.views for picture in good]
                answers = self.localizer.ask(views, self.classes, self.config.top) if good else ((), (), ())
                for predictions in pool.map(partial(self._finish, folder), good, *answers):
                    for prediction in predictions:
                        out.add(prediction)
                        if shown:
                            bar.console.file.flush()
                            print(self._line(prediction))
                bar.update(task, advance=len(loaded))
        if bad:
            with (folder / "bad_images.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([("image", "error"), *bad])
        return bad

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator[list[Picture | Faulty]]:
        """Images in the order of the files, the next batch being read while this one is worked on."""
        jobs = list(zip(self.files, names_of(list(self.files)), strict=True))
        size = self.config.batch_size
        parts = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        pending = [pool.submit(self._load, *job) for job in parts[0]]
        for following in (*parts[1:], []):
            now, pending = pending, [pool.submit(self._load, *job) for job in following]
            yield [future.result() for future in now]

    def _load(self, file: Path, name: str) -> Picture | Faulty:
        try:
            image = read_image(file)
        except BadImage as error:
            return Faulty(file, str(error).partition("; replace the file")[0])
        return Picture(file, name, image, self.localizer.transform(image))

    def _finish(
        self, folder: Path, picture: Picture, labels: np.ndarray, scores: np.ndarray, maps: np.ndarray
    ) -> list[PredictedBox]:
        """Boxes of one image at its own size; writes its maps and overlays."""
        found = self.localizer.locate(picture.image, labels, scores, maps)
        return [self._write(folder, picture, one, alone=len(found) == 1) for one in found]

    def _write(self, folder: Path, picture: Picture, found: Prediction, *, alone: bool) -> PredictedBox:
        truth = self.truths.get(picture.name)
        true = np.zeros((0, 4)) if truth is None else truth.half_open
        overlap = float(best_iou(found.box[None], true, plus_one=False)[0]) if len(true) else None
        name = picture.name if alone else f"{picture.name}.{found.label}"
        self._write_map(folder / "maps", name, found.map)
        if self.config.overlays:
            drawn = overlay(picture.image, found.map, found.box, true, overlap)
            write_png(folder / "overlays" / f"{name}.png", drawn)
        size = picture.image.shape[1], picture.image.shape[0]
        return PredictedBox(str(picture.file), size, found.label, found.score, found.box, overlap)

    def _write_map(self, folder: Path, name: str, score_map: np.ndarray) -> None:
        if self.config.maps == "png":
            write_png(folder / f"{name}.png", np.rint(score_map * 65535).astype(np.uint16))
        elif self.config.maps == "npy":
            (file := folder / f"{name}.npy").parent.mkdir(parents=True, exist_ok=True)
            np.save(file, score_map)

    def _line(self, found: PredictedBox) -> str:
        name = self.localizer.names[found.label]
        corners = " ".join(f"{value:.0f}" for value in found.box)
        return f"{found.image}: {name} {found.score:.3f}, box {corners}" + (
            "" if found.iou is None else f", IoU {found.iou:.2f}"
        )
