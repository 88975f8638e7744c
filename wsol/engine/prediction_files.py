"""Predictions for any images, written as files (`wsol predict`): class, score, box and map."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig, OmegaConf

from wsol import runs
from wsol.config import build
from wsol.data.annotations.box_files import by_path, read_boxes
from wsol.data.image_files import find_images, unique_names
from wsol.data.images import BadImage, read_image
from wsol.engine import networks
from wsol.engine.predictor import Prediction, Predictor
from wsol.errors import InputError, unknown
from wsol.functional.drawing import overlay
from wsol.functional.iou import best_iou
from wsol.heads.base import NoMapsError
from wsol.interop.coco import PredictedBox, PredictionFiles
from wsol.interop.image_file import write_png
from wsol.protocols import LocalizationProtocol
from wsol.types import GroundTruth, Progress, no_progress

MAPS = ("png", "npy", "none")


class LoadedImage(NamedTuple):
    """An image and the network's input made from it."""

    file: Path
    name: str
    """Base name of its output files."""
    image: np.ndarray
    """uint8 (H, W, 3) RGB."""
    views: np.ndarray
    """uint8 (3, h, w) or (V, 3, h, w)."""


class UnreadableImage(NamedTuple):
    """A file that could not be read as an image."""

    file: Path
    error: str


class Predictions(NamedTuple):
    """A folder of predictions."""

    folder: Path
    images: int
    """Number of requested images, including unreadable ones."""
    unreadable: list[UnreadableImage]


def run(config: DictConfig, **callbacks: Any) -> Predictions:
    """Predict under a composed config of `wsol predict`, and write the results; see `ImagePredictor` for errors.

    Args:
        config: config of the verb.
        callbacks: callbacks of `ImagePredictor.write`.
    """
    return ImagePredictor(config).write(**callbacks)


class ImagePredictor:
    """Predicts images and writes the results; all quick checks run in the constructor.

    Args:
        config: config of `wsol predict`.

    Raises:
        InputError: no images, no network, a value out of its range, or a folder that exists already.
    """

    def __init__(self, config: DictConfig) -> None:
        if config.maps not in (None, *MAPS):
            raise unknown("maps", config.maps, MAPS)
        if config.batch_size < 1 or config.top < 1:
            raise InputError(f"batch_size, top: expected numbers from 1, got {config.batch_size} and {config.top}")
        self.config, self.files = config, find_images(config.images)
        self._output = runs.OutputFolder("predict", config.out, config.force)
        network = networks.find(config, "wsol predict <run> images=<folder>")
        self._default = network.folder / "predict"
        if config.explainer is None and not network.has_maps:
            raise InputError("model=... makes no maps: choose explainer=gradcam or another")
        if not network.localizer.classifies and (config.top > 1 or config.classes is not None):
            key = "classes" if config.classes is not None else "top"
            raise InputError(
                f"{key}={config[key]}: {network.title} does not classify and the maps are class-agnostic, so there are "
                f"no class scores; leave {key} out"
            )
        settings = network.trained.copy()
        OmegaConf.set_struct(settings, False)
        settings.update({key: config[key] for key in ("transform", "image_size") if config[key] is not None})
        self.predictor = Predictor(
            network.localizer,
            build.build_transform(settings, "eval", network.localizer.preprocessing),
            protocol=self._protocol(),
            threshold=config.threshold,
            explainer=networks.explainer(config),
            device=config.device,
        )
        if self.predictor.gives_boxes and config.maps not in (None, "none"):
            raise NoMapsError(f"maps={config.maps}")
        self.maps = config.maps or MAPS[0]
        self.classes = None if config.classes is None else [self._index(given) for given in config.classes]
        self.truths = self._truths()

    def _protocol(self) -> LocalizationProtocol:
        protocols = list(build.build_protocols(self.config).values())
        if len(protocols) != 1:
            raise InputError(f"protocol: expected one protocol for the boxes, got {len(protocols)}")
        return protocols[0]

    def _index(self, given: object) -> int:
        return self.predictor.index(given if isinstance(given, int) else str(given))

    def _truths(self) -> dict[str, GroundTruth]:
        """Return ground-truth boxes by name, if a file has them."""
        if self.config.boxes is None:
            return {}
        found = read_boxes(Path(self.config.boxes))
        matched, _ = by_path(found.lines, {name: name for name in unique_names(self.files)})
        return {
            path: GroundTruth(
                np.array([marked.box for marked in found.boxes.get(name, ())]).reshape(-1, 4), found.inclusive
            )
            for path, name in matched.items()
        }

    def write(
        self,
        *,
        progress: Progress = no_progress,
        on_prediction: Callable[[PredictedBox, str], None] = lambda found, name: None,
        on_unreadable: Callable[[UnreadableImage], None] = lambda image: None,
    ) -> Predictions:
        """Predict every image and write all files.

        Args:
            progress: called with the number of finished images.
            on_prediction: called with each prediction and the name of its class.
            on_unreadable: called with each file that could not be read.
        """
        with self._output.writing(self._default) as folder:
            bad = self._write_all(folder, progress, on_prediction, on_unreadable)
        return Predictions(self._output.folder, len(self.files), bad)

    def _write_all(
        self,
        folder: Path,
        progress: Progress,
        on_prediction: Callable[[PredictedBox, str], None],
        on_unreadable: Callable[[UnreadableImage], None],
    ) -> list[UnreadableImage]:
        bad: list[UnreadableImage] = []
        done, names = 0, self.predictor.names
        with PredictionFiles(folder, names, len(names)) as out, ThreadPoolExecutor() as pool:
            for loaded in self._batches(pool):
                for one in (one for one in loaded if isinstance(one, UnreadableImage)):
                    bad.append(one)
                    on_unreadable(one)
                good = [one for one in loaded if isinstance(one, LoadedImage)]
                views = [picture.views for picture in good]
                answers = self.predictor.ask(views, self.classes, self.config.top) if good else ((), (), ())
                for predictions in pool.map(partial(self._finish, folder), good, *answers):
                    for prediction in predictions:
                        out.add(prediction)
                        on_prediction(prediction, names[prediction.label])
                done += len(loaded)
                progress("predict", done, len(self.files))
        if bad:
            with (folder / "bad_images.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([("image", "error"), *bad])
        return bad

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator[list[LoadedImage | UnreadableImage]]:
        """Yield images in the order of the files; the next batch is read while this one is processed."""
        jobs = list(zip(self.files, unique_names(self.files), strict=True))
        size = self.config.batch_size
        parts = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        pending = [pool.submit(self._load, *job) for job in parts[0]]
        for following in (*parts[1:], []):
            now, pending = pending, [pool.submit(self._load, *job) for job in following]
            yield [future.result() for future in now]

    def _load(self, file: Path, name: str) -> LoadedImage | UnreadableImage:
        try:
            image = read_image(file, upright=True)
        except BadImage as error:
            return UnreadableImage(file, str(error).partition("; replace the file")[0])
        return LoadedImage(file, name, image, self.predictor.transform(image))

    def _finish(
        self, folder: Path, picture: LoadedImage, labels: np.ndarray, scores: np.ndarray, located: np.ndarray
    ) -> list[PredictedBox]:
        """Return the boxes of one image at its own size; writes its maps and overlays."""
        found = self.predictor.locate(picture.image, labels, scores, located)
        return [self._write(folder, picture, one, alone=len(found) == 1) for one in found]

    def _write(self, folder: Path, picture: LoadedImage, found: Prediction, *, alone: bool) -> PredictedBox:
        truth = self.truths.get(picture.name)
        true = np.zeros((0, 4)) if truth is None else truth.half_open
        overlap = float(best_iou(found.box[None], true, plus_one=False)[0]) if len(true) else None
        name = picture.name if alone else f"{picture.name}.{found.label}"
        if found.map is not None:
            self._write_map(folder / "maps", name, found.map)
        if self.config.overlays:
            drawn = overlay(picture.image, found.map, found.box, true, overlap)
            write_png(folder / "overlays" / f"{name}.png", drawn)
        size = picture.image.shape[1], picture.image.shape[0]
        return PredictedBox(str(picture.file), size, found.label, found.score, found.box, overlap)

    def _write_map(self, folder: Path, name: str, score_map: np.ndarray) -> None:
        if self.maps == "png":
            write_png(folder / f"{name}.png", np.rint(score_map * 65535).astype(np.uint16))
        elif self.maps == "npy":
            (file := folder / f"{name}.npy").parent.mkdir(parents=True, exist_ok=True)
            np.save(file, score_map)
