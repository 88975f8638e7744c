"""How a box is drawn from a score map, and when it is right: a localization protocol as one frozen object.

Papers judge boxes differently, which makes their tables incomparable. Each choice on which they part is a field of
`Protocol`, without default: a protocol file (``configs/protocol``) states them all, and every result names its
protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from wsol.errors import InputError, unknown
from wsol.functional import boxes, maps
from wsol.functional.geometry import Geometry
from wsol.functional.iou import iou
from wsol.types import Truth

CHOICES = {
    "frame": maps.FRAMES,
    "interpolation": tuple(maps.INTERPOLATIONS),
    "scaling": maps.SCALINGS,
    "components": tuple(boxes.COMPONENTS),
    "predicted_end": ("last_pixel", "one_past", "one_past_clipped"),
    "true_end": ("annotated", "last_pixel", "one_past"),
    "boundary": (">=", ">"),
}
"""The words that a field of `Protocol` takes."""

ORIGINS = ("fixed", "fullsup", "oracle")
"""Where a threshold comes from: a constant; chosen on the train-fullsup split; chosen on the judged split itself."""


class Found(NamedTuple):
    """The boxes of one map at every threshold of a protocol."""

    corners: np.ndarray
    """float64 (B, 4) in the protocol's frame, ends as the protocol counts them."""
    spans: boxes.Spans
    position: np.ndarray
    """int64 (G,) the cut of each threshold, see `wsol.functional.boxes.cuts_of`."""


@dataclass(frozen=True)
class Protocol:
    """A localization protocol.

    Example:
        The whole upper left quarter of the map is hot; the truth covers two thirds of it:

        >>> protocol = Protocol(
        ...     name="mine", reference="none", frame="image", interpolation="linear", scaling="max",
        ...     components="largest_pixels", predicted_end="last_pixel", true_end="last_pixel",
        ...     truncate_true_box=False, plus_one=True, boundary=">=", origins=["fixed"], fixed_threshold=0.2)
        >>> hot = np.zeros((6, 6)); hot[:3, :3] = 1.0
        >>> view = Geometry.square((6, 6), 6)
        >>> protocol.judge(hot, view, Truth(np.array([[0.0, 0.0, 3.0, 2.0]]), inclusive=False)).tolist()
        [True]
        >>> protocol.predict(hot, view).tolist()
        [[0.0, 0.0, 3.0, 3.0]]
    """

    name: str
    reference: str
    """The paper or code that judges so."""
    frame: str
    """Where map and boxes are compared: ``image``, the stored image's pixels; or ``input``, the network's input."""
    interpolation: str
    """How the map is resized to the frame: ``cubic`` or ``linear``."""
    scaling: str
    """How the map comes to [0, 1]: ``minmax``, or ``max`` (negative values become 0)."""
    components: str
    """Which part of the thresholded map is boxed, see `wsol.functional.boxes`."""
    predicted_end: str
    """What a predicted box's x1 and y1 name: its ``last_pixel``; the pixel ``one_past`` it; or ``one_past_clipped``:
    that pixel, or the frame's last one where it lies outside."""
    true_end: str
    """The same of a true box: ``annotated``, the numbers as the annotation writes them, whatever they name; or
    ``last_pixel`` or ``one_past``, made from the annotation's own convention."""
    truncate_true_box: bool
    """Whether true corners, once in the frame, are truncated to whole numbers."""
    plus_one: bool
    """Whether a box is counted as x1 - x0 + 1 wide (exact where ends are last pixels) or as x1 - x0."""
    boundary: str
    """Whether an overlap of exactly ``iou_threshold`` is right (``>=``) or not (``>``)."""
    origins: tuple[str, ...]
    """Where the reported thresholds come from, some of ``fixed``, ``fullsup``, ``oracle``."""
    fixed_threshold: float | None = None
    """The constant of origin ``fixed``: pixels above this part of the map's maximum are kept."""
    iou_threshold: float = 0.5
    threshold_step: float = 0.001
    """Spacing of the thresholds among which origins ``fullsup`` and ``oracle`` choose."""

    def __post_init__(self) -> None:
        where = f"of protocol {self.name!r}"
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise unknown(f"{field} {where}", getattr(self, field), choices)
        origins = (self.origins,) if isinstance(self.origins, str) else tuple(self.origins)
        object.__setattr__(self, "origins", origins)  # a YAML list becomes the tuple that a frozen object needs
        for origin in origins:
            if origin not in ORIGINS:
                raise unknown(f"origin {where}", origin, ORIGINS)
        if not origins or len(set(origins)) < len(origins):
            raise InputError(f"origins {where}: expected some of {', '.join(ORIGINS)}, each once, got {list(origins)}")
        if "fixed" in origins and self.fixed_threshold is None:
            raise InputError(
                f"origin 'fixed' {where} needs fixed_threshold, such as 0.2; give it or leave the origin out"
            )
        if self.fixed_threshold is not None and not 0 <= self.fixed_threshold < 1:
            raise InputError(f"fixed_threshold {where}: expected a number in [0, 1), got {self.fixed_threshold}")
        if not 0 < self.iou_threshold <= 1:
            raise InputError(f"iou_threshold {where}: expected a number in (0, 1], got {self.iou_threshold}")
        if not 1e-5 <= self.threshold_step < 1:
            raise InputError(f"threshold_step {where}: expected a number in [0.00001, 1), got {self.threshold_step}")

    @cached_property
    def thresholds(self) -> np.ndarray:
        """float64 (G,) ascending: 0, step, 2 step, ... below 1 if any origin chooses; and the fixed threshold."""
        choosing = {"fullsup", "oracle"} & set(self.origins)
        grid = np.arange(0, 1, self.threshold_step) if choosing else np.zeros(0)
        if self.fixed_threshold is not None and not np.isclose(grid, self.fixed_threshold, rtol=0, atol=1e-9).any():
            grid = np.sort(np.append(grid, self.fixed_threshold))
        grid.setflags(write=False)
        return grid

    def judge(self, score_map: np.ndarray, geometry: Geometry, truth: Truth) -> np.ndarray:
        """Whether the box at each threshold is right.

        Args:
            score_map: real (h, w), over the whole input frame of its view, not scaled; ten-crop's ten maps are merged
                first, by `wsol.functional.maps.merge`.
            geometry: of the view.
            truth: of the image. One right box among several true or predicted ones suffices.

        Returns:
            bool (G,), in the order of `thresholds`.
        """
        return self.judge_found(self.find(score_map, geometry), geometry, truth)

    def find(self, score_map: np.ndarray, geometry: Geometry) -> Found:
        """The boxes at every threshold; the part of `judge` that does not look at the truth."""
        levels = self.levels(score_map, geometry)
        cuts, position = boxes.cuts_of(levels, self.thresholds)
        spans = boxes.box_spans(levels, cuts, self.components)
        return Found(self._ends(_half_open(spans.boxes), geometry), spans, position)

    def judge_found(self, found: Found, geometry: Geometry, truth: Truth) -> np.ndarray:
        """The part of `judge` that looks at the truth: bool (G,)."""
        overlap = self._overlap(found.corners, geometry, truth)
        best = found.spans.best(overlap, int(found.position.max()) + 1)
        return self._right(best)[found.position]

    def judge_boxes(self, predicted: np.ndarray, geometry: Geometry, truth: Truth) -> np.ndarray:
        """Whether each of given boxes is right.

        Args:
            predicted: real (B, 4), half-open, image frame. What reaches beyond the frame is cut off, as no map's box
            does.
            geometry: of the view.
            truth: of the image.

        Returns:
            bool (B,).
        """
        upright = maps.upright(geometry)
        framed = np.array(predicted, dtype=np.float64) if self.frame == "image" else upright.to_input(predicted)
        framed = framed.clip(0, np.tile(self._size(geometry), 2))
        return self._right(self._overlap(self._ends(framed, geometry), geometry, truth))

    def predict(self, score_map: np.ndarray, geometry: Geometry, threshold: float | None = None) -> np.ndarray:
        """The box or boxes at one threshold, for use and for pictures.

        Args:
            score_map: as in `judge`.
            geometry: of the view.
            threshold: in [0, 1]; None means the fixed one.

        Returns:
            float64 (B, 4), half-open, image frame, within the image. B is 1 unless ``components`` is ``all_contours``;
            a box of no area means that nothing is above the threshold.

        Raises:
            InputError: no threshold given, and the protocol has no fixed one.
        """
        threshold = self.fixed_threshold if threshold is None else threshold
        if threshold is None:
            raise InputError(f"protocol {self.name!r} has no fixed_threshold: name the threshold")
        levels = self.levels(score_map, geometry)
        cuts, _ = boxes.cuts_of(levels, np.array([threshold]))
        found = _half_open(boxes.boxes_at(levels, int(cuts[0]), self.components))
        framed = found if self.frame == "image" else maps.upright(geometry).to_image(found)
        return framed.clip(0, np.tile(geometry.image_size, 2))

    def levels(self, score_map: np.ndarray, geometry: Geometry) -> np.ndarray:
        """The map as grey levels in the protocol's frame: uint8 (H, W)."""
        placed = maps.place(
            score_map, geometry, frame=self.frame, interpolation=self.interpolation, scaling=self.scaling
        )
        return maps.to_levels(placed)

    def _size(self, geometry: Geometry) -> tuple[int, int]:
        return geometry.image_size if self.frame == "image" else geometry.input_size

    def _ends(self, half_open: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Predicted boxes (B, 4), half-open in the frame, with their ends as the protocol counts them."""
        out = half_open.copy()
        if self.predicted_end == "last_pixel":
            out[:, 2:] -= 1
        elif self.predicted_end == "one_past_clipped":
            out[:, 2:] = np.minimum(out[:, 2:], np.array(self._size(geometry)) - 1)
        return out

    def _true_corners(self, geometry: Geometry, truth: Truth) -> np.ndarray:
        """True boxes float64 (M, 4) in the frame, ends as the protocol counts them."""
        out = np.array(truth.boxes if self.true_end == "annotated" else truth.half_open, dtype=np.float64).reshape(
            -1, 4
        )
        if self.frame == "input":
            out = maps.upright(geometry).to_input(out)
        if self.true_end == "last_pixel":
            out[:, 2:] -= 1
        return np.trunc(out) if self.truncate_true_box else out

    def _overlap(self, corners: np.ndarray, geometry: Geometry, truth: Truth) -> np.ndarray:
        """float64 (B,) greatest overlap of each predicted box with a true one."""
        return iou(corners, self._true_corners(geometry, truth), plus_one=self.plus_one).max(axis=1, initial=0.0)

    def _right(self, overlap: np.ndarray) -> np.ndarray:
        return overlap >= self.iou_threshold if self.boundary == ">=" else overlap > self.iou_threshold


def _half_open(rectangles: np.ndarray) -> np.ndarray:
    """From x, y, width, height, int64 (B, 4), to half-open corners, float64 (B, 4)."""
    out = rectangles.astype(np.float64)
    out[:, 2:] += out[:, :2]
    return out
