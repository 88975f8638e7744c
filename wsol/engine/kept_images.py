"""Evaluated images that are kept for people to look at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsol.data.source import Split
from wsol.engine.chunk_evaluator import GivenBox, Merged
from wsol.functional.geometry import Geometry
from wsol.functional.iou import iou
from wsol.functional.maps import place, to_levels
from wsol.protocols import LocalizationProtocol
from wsol.types import Picture


class KeptImage(NamedTuple):
    """The data to make a `Picture` later."""

    found: tuple[np.ndarray, Geometry] | GivenBox
    """The map and its geometry, or the box that the network gives."""
    predicted_label: int

    @classmethod
    def of(cls, merged: Merged | GivenBox, way: str, label: int) -> KeptImage:
        """Keep what was found of an image; ``way`` says how views were merged."""
        return cls(merged if isinstance(merged, GivenBox) else merged[way], label)

    def picture(
        self, split: Split, position: int, protocol: LocalizationProtocol, threshold: float | None
    ) -> Picture | None:
        """Return the image for display, with the box under a protocol; None without a true box."""
        truth = split.truth(position)
        if truth is None:
            return None
        levels = None
        if isinstance(self.found, GivenBox):
            boxes = self.found.box[None]
        else:
            score_map, geometry = self.found
            boxes, whole = protocol.predict(score_map, geometry, threshold), Geometry.whole(geometry.image_size)
            scaling, quantiles = protocol.scaling, protocol.quantiles
            levels = to_levels(place(score_map, geometry, whole, scaling=scaling, quantiles=quantiles))
        overlaps = iou(boxes, truth.half_open, plus_one=False)
        best = int(overlaps.max(axis=1).argmax())
        shown = split.ids[position], split.image(position), levels, int(split.labels[position]), self.predicted_label
        return Picture(*shown, truth.half_open, boxes[best], float(overlaps[best].max()))
