"""What a `wsol.engine.evaluation.SplitEvaluation` is given and what it returns."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from typing import Protocol as TypingProtocol

import numpy as np

from wsol.data.packed import Boxes
from wsol.data.source import Split
from wsol.functional.geometry import Geometry
from wsol.metrics._curves import Curves


class SplitResult(NamedTuple):
    """The results of one split."""

    classification: dict[str, float]
    """``top1_error``, ..., percent; empty where no classes were given."""
    curves: dict[str, dict[str, Curves]]
    """By protocol, then by kind of maps: the localizer's or a baseline's."""
    pixels: dict[str, float]
    """``PxAP``, and precision and coverage at a threshold, percent, where the split has masks."""
    not_finite: list[str]
    """Ids of the images whose map had a value that is not finite; such a map counts as all zeros."""
    ranks: tuple[np.ndarray, np.ndarray]
    """int64 (N,) positions of the classified images, ascending; int32 (N,) ranks of their true classes."""
    pseudo: Mapping[str, Curves] = MappingProxyType({})
    """Curves of the network's maps with pseudo boxes, by protocol; empty without such boxes."""


class ExternalClasses(NamedTuple):
    """Predicted classes of all images of a split that come from another classifier."""

    ranks: np.ndarray
    """int (N,) rank of each true class, 0 for the best."""
    first: np.ndarray
    """int (N,) the best class; -1 if none is predicted."""


class PseudoBoxes(NamedTuple):
    """Pseudo boxes of a split; see `wsol.engine.pseudo_boxes`."""

    boxes: Boxes
    """The boxes of each image; no box for an image that the source does not have."""
    about: dict[str, Any]
    """The origin of the boxes, for the results."""


class MapWriter(TypingProtocol):
    """Takes the maps that are evaluated, to keep them; see `wsol.engine.saved_maps.MapSaver`."""

    def add(self, image_id: str, maps: np.ndarray, geometries: Sequence[Geometry], logits: np.ndarray) -> None:
        """Keep the maps float32 (V, h, w) of an image's views, and its class scores float32 (K,)."""


def by_boxes(split: Split, boxes: Boxes) -> Split:
    """Return the split with other boxes and without masks."""
    other = copy.copy(split)
    other.boxes, other.has_masks = boxes, False
    return other
