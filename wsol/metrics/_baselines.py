"""The baselines that need no network, evaluated under a protocol."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from wsol.box_evaluation import GroundTruthBatch, evaluate_boxes, evaluate_found
from wsol.functional.baselines import FRACTIONS, centre_boxes, centre_gaussian, whole_image
from wsol.functional.geometry import Geometry
from wsol.functional.maps import window
from wsol.metrics._box_accuracy import BoxAccuracy
from wsol.protocols import FoundBoxes, LocalizationProtocol

BASELINES = ("whole image", "centre box", "centre gaussian")
_CACHED_SIZES = 512


class Baselines:
    """Evaluates the three baselines under one protocol.

    * ``whole image``: the box of the image, no threshold.
    * ``centre box``: boxes at the centre; their size (fraction of width and height) replaces the threshold and is
      chosen like one, on the train-fullsup or on the evaluated split. No paper fixes one, so both origins are reported
      for a protocol with a fixed threshold.
    * ``centre gaussian``: a score map, evaluated like any other.

    ``thresholds`` and ``origins`` contain, for each baseline, the arguments of `BoxAccuracy` and `localization_rows`;
    `metric` builds the former.

    Args:
        protocol: how boxes are evaluated.

    Example:
        >>> from wsol.protocols import protocol
        >>> from wsol.types import GroundTruth
        >>> baselines = Baselines(protocol("cam2016"))
        >>> truth = GroundTruth(np.array([[0.0, 0.0, 8.0, 5.0]]), inclusive=False)
        >>> correct = baselines.correct([Geometry.square((8, 8), 8)], GroundTruthBatch.of([truth]))
        >>> {name: (h.shape, bool(h[0, 0, -1])) for name, h in correct.items()}
        {'whole image': ((1, 1, 1), True), 'centre box': ((1, 1, 100), True), 'centre gaussian': ((1, 1, 1), True)}
    """

    def __init__(self, protocol: LocalizationProtocol) -> None:
        self.protocol = protocol
        self.thresholds: dict[str, np.ndarray | None] = {
            "whole image": None,
            "centre box": FRACTIONS,
            "centre gaussian": protocol.thresholds if len(protocol.thresholds) else None,
        }
        choosing = tuple(origin for origin in protocol.origins if origin != "fixed") or ("fullsup", "oracle")
        self.origins: dict[str, tuple[str, ...]] = {
            "whole image": ("none",),
            "centre box": choosing,
            "centre gaussian": protocol.origins,
        }
        self._found: dict[Hashable, FoundBoxes] = {}

    def metric(self, name: str) -> BoxAccuracy:
        """Return the metric for the results of `correct` for one baseline; without class scores, it has no top-k."""
        num_thresholds = self.protocol.num_columns if name == "centre gaussian" else 1
        by_class = self.protocol.average == "class"
        ious = self.protocol.iou_thresholds
        return BoxAccuracy(self.thresholds[name], (), ious=ious, num_thresholds=num_thresholds, by_class=by_class)

    def correct(self, views: Sequence[Geometry], annotated: GroundTruthBatch) -> dict[str, np.ndarray]:
        """Return whether each baseline is correct on N images: bool (N, I, G) by name, G the length of ``thresholds``.

        Args:
            views: geometries of the images.
            annotated: their ground-truth boxes.
        """
        sizes = [view.image_size for view in views]
        given = {size: np.concatenate([whole_image(size), centre_boxes(size)]) for size in set(sizes)}
        correct = evaluate_boxes(self.protocol, np.stack([given[size] for size in sizes]), views, annotated)
        gaussian = np.empty((len(views), len(self.protocol.asked), self.protocol.num_columns), dtype=bool)
        alike: dict[Hashable, list[int]] = defaultdict(list)
        for i, view in enumerate(views):
            frame = self.protocol.frame_of(view)
            alike[window(view, frame), view.input_size, frame].append(i)
        for images in alike.values():
            view = views[images[0]]
            frame, found = self.protocol.frame_of(view), self._gaussian(view)
            gaussian[images] = evaluate_found(self.protocol, found, frame, annotated.some(images))
        by_name = {"whole image": correct[..., :1], "centre box": correct[..., 1:], "centre gaussian": gaussian}
        return {name: of_one[:, : len(self.protocol.iou_thresholds)] for name, of_one in by_name.items()}

    def _gaussian(self, view: Geometry) -> FoundBoxes:
        """Return the Gaussian's boxes; they depend only on sizes, and finding them costs as much as for any map."""
        frame = self.protocol.frame_of(view)
        key: Hashable = (window(view, frame), view.input_size, frame.input_size)
        found = self._found.get(key)
        if found is None:  # several threads may compute the same, which is harmless
            found = self.protocol.find(centre_gaussian(view.input_size), view)
            if len(self._found) >= _CACHED_SIZES:
                self._found.clear()
            self._found[key] = found
        return found
