"""`wsol predict`: class, score, box and map of any pictures."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from wsol import build, runs
from wsol.cli import networks, show
from wsol.cli.networks import Network
from wsol.cli.overlays import overlay
from wsol.cli.pictured import find_images, names_of
from wsol.data.folder_boxes import by_path, read_boxes
from wsol.data.images import BadImage, read_image
from wsol.data.transforms import EvalTransform
from wsol.errors import InputError, unknown
from wsol.functional.geometry import Geometry
from wsol.functional.iou import best_iou
from wsol.functional.maps import merge, place
from wsol.interop.coco import Prediction, PredictionFiles
from wsol.module import LocalizerModule
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
    show.start_logging()
    if config.maps not in MAPS:
        raise unknown("maps", config.maps, MAPS)
    if config.batch_size < 1 or config.top < 1:
        raise InputError(f"batch_size, top: expected numbers from 1, got {config.batch_size} and {config.top}")
    files = find_images(config.images)
    network = networks.find(config, "wsol predict run=<run folder> images=<folder>")
    predictor = Predictor(config, network, files)
    folder = _output_folder(config, network)
    is_new = not any(folder.iterdir())
    try:
        bad = predictor.write(folder)
    except InputError:
        if is_new and json.loads((folder / "coco_results.json").read_text(encoding="utf-8")) == []:
            shutil.rmtree(folder)  # nothing was predicted, such as for a layer that does not exist
        raise
    print(f"{len(files) - len(bad):,} of {len(files):,} images, written to {folder}")
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
        localizer = network.localizer
        self.names, self.num_classes = localizer.classes, localizer.num_classes
        settings = network.trained.copy()
        OmegaConf.set_struct(settings, False)
        settings.update({key: config[key] for key in ("transform", "image_size") if config[key] is not None})
        self.transform: EvalTransform = build.build_transform(settings, "eval", localizer.preprocessing)
        self.protocol = self._protocol()
        self.device = torch.device(_device(config.device))
        if config.explainer is None and network.file is None:
            raise InputError("model=... has no maps of its own: choose explainer=gradcam or another")
        module = LocalizerModule(localizer, channels_last=True, explainer=networks.explainer(config))
        self.module = module.to(self.device).eval()
        self.classes = self._classes()
        self.truths = self._truths()

    def _protocol(self) -> Protocol:
        protocols = list(build.build_protocols(self.config).values())
        if len(protocols) != 1:
            raise InputError(f"protocol: expected one, whose boxes are drawn, got {len(protocols)}")
        protocol = protocols[0]
        threshold = self.config.threshold
        if threshold is not None and not 0 <= threshold < 1:
            raise InputError(f"threshold: expected a number in [0, 1), got {threshold}")
        if threshold is None and protocol.fixed_threshold is None and protocol.origins != ("fixed",):
            raise InputError(f"protocol={protocol.name} has no fixed threshold: give threshold=..., such as 0.2")
        return protocol

    def _classes(self) -> list[int] | None:
        """Indices of the classes that are asked for; None for the best ones of each image."""
        if self.config.classes is None:
            return None
        index = {name: label for label, name in enumerate(self.names or ())}
        found = []
        for given in self.config.classes:
            label = given if isinstance(given, int) else index.get(str(given))
            if label is None:
                raise unknown("class", str(given), index)
            if not 0 <= label < self.num_classes:
                raise InputError(f"class {label}: the network has the classes 0..{self.num_classes - 1}")
            found.append(label)
        return found

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
        with bar, PredictionFiles(folder, self.names, self.num_classes) as out, ThreadPoolExecutor() as pool:
            task = bar.add_task("predict", total=len(self.files))
            for loaded in self._batches(pool):
                for one in (one for one in loaded if isinstance(one, Faulty)):
                    bad.append(one)
                    bar.console.print(f"wsol: bad image: {one.error}", style="red", soft_wrap=True, markup=False)
                good = [one for one in loaded if isinstance(one, Picture)]
                for predictions in pool.map(partial(self._finish, folder), *self._ask(good)) if good else ():
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
        return Picture(file, name, image, self.transform(image))

    @torch.inference_mode()
    def _ask(self, pictures: Sequence[Picture]) -> tuple[Sequence[Picture], np.ndarray, np.ndarray, np.ndarray]:
        """Pictures, classes int64 (N, M), their probabilities (N, M), and maps float32 (N, V, M, h, w)."""
        images = torch.from_numpy(np.stack([picture.views for picture in pictures])).to(self.device)
        logits, maps = self.module.maps(images, self._choose)
        chosen = self._choose(logits)
        scores = logits.softmax(1).gather(1, chosen)
        return pictures, chosen.cpu().numpy(), scores.cpu().numpy(), maps.cpu().numpy()

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        if self.classes is None:
            return logits.topk(min(self.config.top, self.num_classes)).indices
        return torch.tensor(self.classes, device=logits.device).expand(len(logits), -1)

    def _finish(
        self, folder: Path, picture: Picture, labels: np.ndarray, scores: np.ndarray, maps: np.ndarray
    ) -> list[Prediction]:
        """Boxes of one image at its own size; writes its maps and overlays."""
        size = (picture.image.shape[1], picture.image.shape[0])
        truth = self.truths.get(picture.name)
        found = []
        for label, score, of_class in zip(labels.tolist(), scores.tolist(), maps.swapaxes(0, 1), strict=True):
            score_map, view = merge(of_class, self.transform.views(size))
            boxes = self.protocol.predict(score_map, view, self.config.threshold)
            box = boxes[((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argmax()]
            true = np.zeros((0, 4)) if truth is None else truth.half_open
            overlap = float(best_iou(box[None], true, plus_one=False)[0]) if len(true) else None
            whole = place(score_map, view, Geometry.whole(size), scaling=self.protocol.scaling)
            name = picture.name if len(labels) == 1 else f"{picture.name}.{label}"
            self._write_map(folder / "maps", name, whole)
            if self.config.overlays:
                _write_image(folder / "overlays" / f"{name}.png", overlay(picture.image, whole, box, true, overlap))
            found.append(Prediction(str(picture.file), size, label, score, box, overlap))
        return found

    def _write_map(self, folder: Path, name: str, score_map: np.ndarray) -> None:
        if self.config.maps == "png":
            _write_image(folder / f"{name}.png", np.rint(score_map * 65535).astype(np.uint16))
        elif self.config.maps == "npy":
            (file := folder / f"{name}.npy").parent.mkdir(parents=True, exist_ok=True)
            np.save(file, score_map.astype(np.float32))

    def _line(self, found: Prediction) -> str:
        name = self.names[found.label] if self.names else str(found.label)
        corners = " ".join(f"{value:.0f}" for value in found.box)
        return f"{found.image}: {name} {found.score:.3f}, box {corners}" + (
            "" if found.iou is None else f", IoU {found.iou:.2f}"
        )


def _write_image(file: Path, pixels: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB or a grey image as PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    ahead = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    if not cv2.imwrite(str(file), ahead):
        raise InputError(f"{file}: cannot be written; choose another folder with out=...")


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _output_folder(config: DictConfig, network: Network) -> Path:
    """The new folder, or the one given.

    Raises:
        InputError: it is not empty and ``force`` is not set.
    """
    if config.out is None:
        return runs.new_folder(network.folder, "predict")
    folder = Path(config.out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not config.force or not folder.is_dir():
            raise InputError(f"{folder} is not an empty folder: choose another out=..., or force=true to write into it")
        for name in ("maps", "overlays"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "bad_images.csv").unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
