"""A few images of a split evaluated by one thread: their boxes under every protocol, the baselines, and their masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from wsol.box_evaluation import GroundTruthBatch, evaluate, evaluate_boxes
from wsol.data.source import Split
from wsol.functional.geometry import Geometry, most_central
from wsol.functional.maps import place
from wsol.metrics._baselines import Baselines
from wsol.protocols import LocalizationProtocol
from wsol.runs.results import LOCALIZER

MASK_SIDE = 224
"""Side of the square in which maps and masks are compared (Choe et al. 2020), pixels."""

Merged = Mapping[str, tuple[np.ndarray, Geometry]]
"""An image's map, real (h, w), and its geometry, by the way its views were merged: `MEAN`, and any other that a
protocol uses (`wsol.protocols.LocalizationProtocol.view_merging`)."""

MEAN = "mean"
"""How views are merged for pixels and displayed images."""


class GivenBox(NamedTuple):
    """The box that a network gives for an image, in place of a map."""

    box: np.ndarray
    """float64 (4,): x0, y0, x1, y1, half-open, image frame, within the image."""
    view: Geometry
    """What part of the image the network saw."""
    predicted: int = -1
    """The best class of the image; -1 if there are no classes."""


Localization = Merged | GivenBox
"""What a network finds in an image."""


def given_box(boxes: np.ndarray, views: Sequence[Geometry]) -> GivenBox:
    """Return the box of an image from those of its views: that of the view at the image's centre.

    Args:
        boxes: float (V, 4): x0, y0, x1, y1 in [0, 1] of the input of each view.
        views: V.

    Example:
        >>> view = Geometry(image_size=(512, 256), resized=(256, 256), offset=(16, 16), input_size=(224, 224))
        >>> given_box(np.array([[0.0, 0.25, 0.5, 1.0]]), [view]).box.tolist()
        [32.0, 72.0, 256.0, 240.0]
    """
    view = views[at := most_central(views)]
    found = view.to_image(boxes[at] * np.tile(view.input_size, 2))[0]
    return GivenBox(found.clip(0, np.tile(view.image_size, 2)), view)


class ChunkResult(NamedTuple):
    """The results of some images."""

    merged: Sequence[Localization | None]
    marked: list[int]
    """Which images have ground-truth boxes; the arrays of ``correct`` contain only these."""
    correct: dict[str, dict[str, np.ndarray]]
    """By protocol, then by kind of maps: bool (n, I, G)."""
    not_finite: list[int]
    """Which images have a map with a value that is not finite."""
    masked: list[tuple[int, np.ndarray, np.ndarray]]
    """Which images have a mask, with map and mask in the frame of the comparison."""


class ChunkEvaluator:
    """Evaluates images of one split; several threads may call it.

    Args:
        split: labels, boxes and masks.
        protocols: protocols by name; empty without boxes.
        baselines: baselines by name of the protocol, if they are evaluated too.
    """

    def __init__(
        self, split: Split, protocols: Mapping[str, LocalizationProtocol], baselines: Mapping[str, Baselines]
    ) -> None:
        self.split, self.protocols, self.baselines = split, protocols, baselines

    def __call__(self, positions: Sequence[int], maps: Sequence[Callable[[], Localization | None]]) -> ChunkResult:
        """Evaluate some images.

        Args:
            positions: positions of n images in the split.
            maps: n functions that make the map of each image; a function that returns None is a miss at every
                threshold.

        Raises:
            InputError: a map can't be evaluated; names the image.
        """
        merged = [_of_maps(of_image()) for of_image in maps]
        marked = [i for i, position in enumerate(positions) if self.split.truth(position) is not None]
        correct = self._correct([positions[i] for i in marked], [merged[i] for i in marked]) if marked else {}
        pairs = ((i, self._masked(*of)) for i, of in enumerate(zip(positions, merged, strict=True)))
        masked = [(i, *pair) for i, pair in pairs if pair is not None]
        bad = [i for i, of in enumerate(merged) if of is not None and not np.isfinite(of[MEAN][0]).all()]
        return ChunkResult(merged, marked, correct, bad, masked)

    def _correct(self, positions: list[int], merged: Sequence[Merged | None]) -> dict[str, dict[str, np.ndarray]]:
        truths = [truth for truth in map(self.split.truth, positions) if truth is not None]
        there = [i for i, of_image in enumerate(merged) if of_image is not None]
        given = [of_image for of_image in merged if of_image is not None]
        known, ids = [truths[i] for i in there], [self.split.ids[positions[i]] for i in there]
        found: dict[str, np.ndarray] = {}
        for way in {protocol.view_merging for protocol in self.protocols.values()}:
            protocols = {name: protocol for name, protocol in self.protocols.items() if protocol.view_merging == way}
            maps, of_maps = [of_image[way][0] for of_image in given], [of_image[way][1] for of_image in given]
            found |= evaluate(protocols, maps, of_maps, known, ids)
        views = [
            Geometry.whole(self.split.size(position)) if of_image is None else of_image[MEAN][1]
            for position, of_image in zip(positions, merged, strict=True)
        ]
        annotated = GroundTruthBatch.of(truths)
        out = {}
        for name, protocol in self.protocols.items():
            own = np.zeros((len(positions), len(protocol.asked), protocol.num_columns), dtype=bool)
            own[there] = found[name]
            out[name] = {LOCALIZER: own, **self._blind(name, views, annotated)}
        return out

    def _blind(self, protocol: str, views: Sequence[Geometry], annotated: GroundTruthBatch) -> dict[str, np.ndarray]:
        """Return which predictions of the baselines are correct, if these are evaluated."""
        return self.baselines[protocol].correct(views, annotated) if self.baselines else {}

    def _masked(self, position: int, merged: Merged | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Return map and mask as Choe et al. 2020 compare them, at 224 x 224; None without a mask."""
        mask = self.split.mask(position) if self.split.has_masks else None
        if mask is None:
            return None
        frame = Geometry.square((mask.shape[1], mask.shape[0]), MASK_SIDE)
        framed = framed_mask(mask, frame)
        return (np.zeros(framed.shape) if merged is None else place(*merged[MEAN], frame)), framed


class BoxEvaluator(ChunkEvaluator):
    """Evaluates boxes that a network gives: one for each image, at no threshold, so G is 1. Masks are not used."""

    def __call__(self, positions: Sequence[int], maps: Sequence[Callable[[], Localization | None]]) -> ChunkResult:
        """Evaluate some images; see `ChunkEvaluator`. ``maps`` make boxes, or None for a miss."""
        given = [_of_boxes(of_image()) for of_image in maps]
        bad = [i for i, of in enumerate(given) if of is not None and not np.isfinite(of.box).all()]
        marked = [i for i, position in enumerate(positions) if self.split.truth(position) is not None]
        correct = self._boxes([positions[i] for i in marked], [given[i] for i in marked]) if marked else {}
        return ChunkResult(given, marked, correct, bad, [])

    def _boxes(self, positions: list[int], given: Sequence[GivenBox | None]) -> dict[str, dict[str, np.ndarray]]:
        annotated = GroundTruthBatch.of([truth for truth in map(self.split.truth, positions) if truth is not None])
        views = [
            Geometry.whole(self.split.size(position)) if of is None else of.view
            for position, of in zip(positions, given, strict=True)
        ]
        boxes = np.stack([np.zeros(4) if of is None else of.box for of in given])[:, None]
        boxes[~np.isfinite(boxes).all(2)] = 0
        return {
            name: {LOCALIZER: evaluate_boxes(protocol, boxes, views, annotated), **self._blind(name, views, annotated)}
            for name, protocol in self.protocols.items()
        }


def _of_maps(found: Localization | None) -> Merged | None:
    assert not isinstance(found, GivenBox)
    return found


def _of_boxes(found: Localization | None) -> GivenBox | None:
    assert found is None or isinstance(found, GivenBox)
    return found


def framed_mask(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Transform a mask to a frame: nearest-neighbour resizing, then the crop.

    Args:
        mask: uint8 (image height, image width).
        geometry: geometry of the frame, not mirrored.

    Returns:
        uint8 (frame height, frame width).
    """
    resized = cv2.resize(mask, geometry.resized, interpolation=cv2.INTER_NEAREST)
    (x, y), (width, height) = geometry.offset, geometry.input_size
    return np.ascontiguousarray(resized[y : y + height, x : x + width])
