"""Predictions of a trained network from Python: the class of an image, its score, its box and its map.

::

    import wsol
    found = wsol.load("runs/demo-cam/2026-01-31_12-00-00").predict("photo.jpg")
    found.name, found.score, found.box, found.map
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import overload

import cv2
import numpy as np
import torch

from wsol import protocols
from wsol.config import build
from wsol.data.images import ImageInput, as_rgb
from wsol.data.transforms import EvalTransform, ResizeSquare
from wsol.engine.chunk_evaluator import given_box
from wsol.engine.module import LocalizerModule
from wsol.errors import InputError, unknown
from wsol.explain.base import Explainer
from wsol.explain.fitted_explainer import FittedExplainer
from wsol.functional.boxes import largest_box
from wsol.functional.drawing import overlay
from wsol.functional.geometry import Geometry
from wsol.functional.maps import place
from wsol.heads.base import NoMapsError
from wsol.interop.image_file import to_png, write_jpeg, write_png
from wsol.models.localizer import Localizer
from wsol.protocols import LocalizationProtocol
from wsol.runs import checkpoints
from wsol.runs.run import Run

OBJECT = "object"
"""Class name in the predictions of networks that do not classify; its score is 1."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """A localized object of one class in one image; notebooks display it as an image."""

    label: int
    """The class index, in 0..K-1."""
    name: str
    """Name of the class; its number if classes have no names."""
    score: float
    """Probability of the class; 1 where the network does not classify."""
    box: np.ndarray
    """float64 (4,): x0, y0, x1, y1, half-open, in the image's pixels; without area if no box was found."""
    map: np.ndarray | None
    """float32 (H, W) in [0, 1] over the whole image, of its size unless another was requested; None if the network
    gives boxes."""
    image: np.ndarray
    """uint8 (H, W, 3) RGB."""

    def picture(self) -> np.ndarray:
        """Return the image with its heat map, if there is one, and the box: uint8 (H, W, 3) RGB."""
        height, width = self.image.shape[:2]
        heat = self.map
        if heat is not None and heat.shape != (height, width):
            heat = cv2.resize(heat, (width, height))
        return overlay(self.image, heat, self.box, np.zeros((0, 4)))

    def save(self, path: str | Path) -> Path:
        """Write `picture` to a file, in the format of its ending, and return the path.

        Raises:
            InputError: an ending that names no image format.
        """
        path = Path(path)
        write = {".png": write_png, ".jpg": write_jpeg, ".jpeg": write_jpeg}.get(path.suffix.lower())
        if write is None:
            raise InputError(f"{path}: expected the ending of an image format, .png or .jpg")
        write(path, self.picture())
        return path

    def _repr_png_(self) -> bytes:
        return to_png(self.picture())

    def __repr__(self) -> str:
        corners = ", ".join(f"{value:.1f}" for value in self.box)
        return f"Prediction({self.name!r}, score {self.score:.3f}, box [{corners}])"


class Predictor:
    """A trained network with everything that predictions need.

    Args:
        network: a `wsol.models.localizer.Localizer`, or a plain `wsol.models.classifier.Classifier` with an explainer;
            it is moved to the device and put in evaluation mode.
        transform: makes the network's input from an image.
        protocol: how a map becomes a box: a protocol or its name. It has no effect where the network gives boxes.
        threshold: threshold of the box, in [0, 1), as a fraction of the map's maximum; None for the protocol's fixed
            one.
        explainer: makes the maps; None for the network's own.
        device: ``auto``, ``cpu``, ``cuda``.

    Raises:
        InputError: no threshold, one out of its range, or one where the network gives boxes; an unknown protocol; an
            explainer that is not fitted, or that makes maps of classes where the network does not classify.

    Example:
        >>> from functools import partial
        >>> from wsol.backbones.tiny import Tiny
        >>> from wsol.data.transforms import ResizeSquare
        >>> from wsol.heads.gap import GapHead
        >>> untrained = Localizer(Tiny(), partial(GapHead), num_classes=2, classes=("cat", "dog"))
        >>> found = Predictor(untrained, ResizeSquare(32)).predict(np.zeros((40, 60, 3), np.uint8), label="dog")
        >>> found.name, found.box.shape, found.map.shape
        ('dog', (4,), (40, 60))
    """

    def __init__(
        self,
        network: Localizer,
        transform: EvalTransform,
        *,
        protocol: LocalizationProtocol | str = "cam2016",
        threshold: float | None = None,
        explainer: Explainer | None = None,
        device: str = "auto",
    ) -> None:
        self.protocol = protocols.protocol(protocol) if isinstance(protocol, str) else protocol
        if threshold is not None and not 0 <= threshold < 1:
            raise InputError(f"threshold: expected a number in [0, 1), got {threshold}")
        self.gives_boxes = network.gives_boxes and explainer is None
        if self.gives_boxes and threshold is not None:
            raise NoMapsError(f"threshold={threshold}")
        fixed = self.protocol.fixed_threshold is not None or self.protocol.origins == ("fixed",)
        if threshold is None and not fixed and not self.gives_boxes:
            raise InputError(f"protocol={self.protocol.name} has no fixed threshold: set threshold=..., such as 0.2")
        self.threshold, self.transform = threshold, transform
        if isinstance(explainer, FittedExplainer):
            explainer.check_fitted()
        self.classifies = network.classifies
        if not self.classifies and not (explainer or network).class_agnostic:
            raise InputError(
                f"{type(explainer).__name__ if explainer else 'network'}: its maps are of classes, but the network "
                "does not classify; choose a class-agnostic one, such as lost, tokencut, dino_attention or patch_pca"
            )
        numbers = tuple(map(str, range(network.num_classes)))
        self.names = (network.classes or numbers) if self.classifies else (OBJECT,)
        """Names of the classes, in order; only `OBJECT` if the network does not classify."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise InputError(f"device: expected auto, cpu, cuda or cuda:1, got {device!r}") from error
        self._module = LocalizerModule(network, channels_last=True, explainer=explainer).to(self.device).eval()

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is an iterable of str, too
        self,
        images: ImageInput,
        label: int | str | None = None,
        *,
        map_size: tuple[int, int] | None = None,
        batch_size: int = 32,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        images: Iterable[ImageInput],
        label: int | str | None = None,
        *,
        map_size: tuple[int, int] | None = None,
        batch_size: int = 32,
    ) -> list[Prediction]: ...

    def predict(
        self,
        images: ImageInput | Iterable[ImageInput],
        label: int | str | None = None,
        *,
        map_size: tuple[int, int] | None = None,
        batch_size: int = 32,
    ) -> Prediction | list[Prediction]:
        """Find the object of the best class, or of a given class, in one or several images.

        Args:
            images: a path, Pillow image, uint8 array (H, W, 3), or tensor (3, H, W), uint8 or float in [0, 1]; or a
                list of these, which may be mixed and of different sizes.
            label: name or index of the class; None for the best class of each image.
            map_size: width and height of the maps; None for those of each image.
            batch_size: number of images at once.

        Returns:
            One `Prediction`, or a list for a list.

        Raises:
            InputError: not an image, an unknown class, or an impossible size.
        """
        if isinstance(images, ImageInput) or not isinstance(images, Iterable):
            return self.predict([images], label, map_size=map_size, batch_size=batch_size)[0]
        if batch_size < 1 or min(map_size or (1, 1)) < 1:
            raise InputError(f"batch_size, map_size: expected numbers from 1, got {batch_size} and {map_size}")
        if self.gives_boxes and map_size is not None:
            raise NoMapsError(f"map_size={map_size}")
        asked = None if label is None else [self.index(label)]
        given, found = list(images), []
        for start in range(0, len(given), batch_size):
            pictures = [as_rgb(image) for image in given[start : start + batch_size]]
            answers = self.ask([self.transform(picture) for picture in pictures], asked)
            for picture, labels, scores, located in zip(pictures, *answers, strict=True):
                found += self.locate(picture, labels, scores, located, map_size)
        return found

    def index(self, label: int | str) -> int:
        """Return the index of a class given by its name or index.

        Raises:
            InputError: no such class.
        """
        if not self.classifies:
            raise InputError(f"class {label!r}: the network does not classify; leave the class out")
        if isinstance(label, str):
            if label not in self.names:
                raise unknown("class", label, self.names)
            return self.names.index(label)
        if not isinstance(label, Integral) or not 0 <= label < len(self.names):
            raise InputError(f"class {label}: expected a class of the network, 0..{len(self.names) - 1}")
        return int(label)

    @torch.inference_mode()
    def ask(
        self, views: Sequence[np.ndarray], labels: Sequence[int] | None = None, top: int = 1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run the network on a batch; the first half of `predict`.

        Args:
            views: N images from `transform`: uint8 (3, h, w), or (V, 3, h, w).
            labels: M classes for all images; None for the best classes of each image.
            top: number of best classes.

        Returns:
            Classes int64 (N, M), their probabilities float32 (N, M), and their maps float32 (N, M, V, h, w), unscaled.
            A network that gives boxes returns these in place of the maps: float32 (N, V, 4) in [0, 1] of the input.
        """

        def choose(logits: torch.Tensor) -> torch.Tensor:
            """Return the classes int64 (N, M) whose maps are made: the labels, or the best ones."""
            if not self.classifies:
                return torch.zeros(len(logits), 1, dtype=torch.int64, device=logits.device)
            if labels is None:
                return logits.topk(min(top, len(self.names))).indices
            return torch.tensor(labels, device=logits.device).expand(len(logits), -1)

        images = torch.from_numpy(np.stack(views)).to(self.device)
        if self.gives_boxes:
            logits, located = self._module.boxes(images)
        else:
            logits, located = self._module.maps(images, choose)
            located = located.transpose(1, 2)
        chosen = choose(logits)
        scores = logits.softmax(1).gather(1, chosen) if self.classifies else torch.ones(chosen.shape)
        return chosen.cpu().numpy(), scores.cpu().numpy(), located.cpu().numpy()

    def locate(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        scores: np.ndarray,
        located: np.ndarray,
        map_size: tuple[int, int] | None = None,
    ) -> list[Prediction]:
        """Resize the maps of one image to its size and find their boxes; the second half of `predict`.

        A network that gives boxes has one box for all classes, and no maps.

        Args:
            image: uint8 (H, W, 3) RGB.
            labels: int64 (M,), from `ask`.
            scores: float32 (M,).
            located: maps float32 (M, V, h, w), or boxes float32 (V, 4).
            map_size: see `predict`.
        """
        size = image.shape[1], image.shape[0]
        if self.gives_boxes:
            box = given_box(located, self.transform.views(size)).box
            pairs = zip(labels.tolist(), scores.tolist(), strict=True)
            return [Prediction(label, self.names[label], score, box, None, image) for label, score in pairs]
        wanted = map_size or size
        frame = Geometry(size, wanted, (0, 0), wanted)
        found = []
        for label, score, views in zip(labels.tolist(), scores.tolist(), located, strict=True):
            score_map, view = self.protocol.merge(views, self.transform.views(size))
            boxes = self.protocol.predict(score_map, view, self.threshold)
            largest = largest_box(boxes)
            box = boxes[0] if largest is None else largest
            scaling, quantiles = self.protocol.scaling, self.protocol.quantiles
            whole = place(score_map, view, frame, scaling=scaling, quantiles=quantiles).astype(np.float32)
            found.append(Prediction(label, self.names[label], score, box, whole, image))
        return found


def load(
    source: Localizer | Run | str | Path,
    *,
    checkpoint: str = "best",
    image_size: int | None = None,
    protocol: LocalizationProtocol | str = "cam2016",
    threshold: float | None = None,
    explainer: Explainer | None = None,
    device: str = "auto",
    trust: bool = False,
) -> Predictor:
    """Load a network for predictions.

    Without ``trust`` a file runs no code, writes nothing and reads no other file.

    Args:
        source: a run of `wsol.fit`, a run folder, a checkpoint (.ckpt), a file of `wsol export format=safetensors`, or
            a network.
        checkpoint: checkpoint of a run: ``best``, ``last``, or a file's name.
        image_size: side of the network's input, pixels; None for the run's, or what the network's weights expect.
        protocol: how a map becomes a box: a protocol or its name.
        threshold: threshold of the box, in [0, 1), as a fraction of the map's maximum; None for the protocol's fixed
            one.
        explainer: makes the maps; None for the network's own.
        device: ``auto``, ``cpu``, ``cuda``.
        trust: build objects of any package that the checkpoint's config names (such as a backbone of your own).

    Raises:
        InputError: no such file, an unreadable or unsafe file, or invalid settings, see `Predictor`.
    """
    make = partial(Predictor, protocol=protocol, threshold=threshold, explainer=explainer, device=device)
    if isinstance(source, Localizer):
        preprocessing = source.preprocessing
        resize = ResizeSquare(image_size or preprocessing.size, preprocessing.interpolation)
        return make(source, resize)
    file = checkpoints.find(source.folder if isinstance(source, Run) else Path(source), checkpoint)
    network, trained = checkpoints.load_localizer(checkpoints.read(file), file, trust=trust)
    if image_size is not None:
        trained.image_size = image_size
    if trained.get("transform") is None:
        raise InputError(f"{file}: config.transform is missing; convert the weights again with transform=...")
    build.check_parts(trained, ["transform"], file, trust=trust)
    return make(network, build.build_transform(trained, "eval", network.preprocessing, trust=trust))
