"""How a score map becomes a box, and when the box is correct: a localization protocol as one frozen object.

Papers evaluate boxes differently, which makes their tables incomparable. Each choice that differs between papers is a
field of `LocalizationProtocol`, without default: a protocol file (``configs/protocol``) states all of them, and every
result names its protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import yaml

from wsol.errors import InputError, unknown
from wsol.functional import boxes, maps, thresholds
from wsol.functional.geometry import Geometry
from wsol.functional.iou import best_iou
from wsol.functional.protocol_fields import RANKED, faults
from wsol.functional.ranked_boxes import ranked_boxes
from wsol.types import GroundTruth


class FoundBoxes(NamedTuple):
    """The boxes of one map at every threshold of a protocol."""

    corners: np.ndarray
    """float64 (B, 4) in the protocol's frame, with its convention of ends."""
    spans: boxes.Spans
    position: np.ndarray
    """int64 (G,) the cut of each threshold, see `wsol.functional.boxes.cuts_of`."""


@dataclass(frozen=True)
class LocalizationProtocol:
    """A localization protocol.

    Example:
        The whole upper left quarter of the map is high; the true box covers two thirds of it:

        >>> mine = protocol("cam2016", interpolation="linear")
        >>> hot = np.zeros((6, 6)); hot[:3, :3] = 1.0
        >>> view = Geometry.square((6, 6), 6)
        >>> mine.evaluate(hot, view, GroundTruth(np.array([[0.0, 0.0, 3.0, 2.0]]), inclusive=False)).tolist()
        [[True]]
        >>> mine.predict(hot, view).tolist()
        [[0.0, 0.0, 3.0, 3.0]]
    """

    name: str
    reference: str
    """The paper or code that the protocol comes from."""
    frame: str
    """Where map and boxes are compared: in the stored ``image``; in the whole image resized to a ``square``; in the
    centre ``crop`` of the resized image; or in the network's ``input``."""
    interpolation: str
    """How the map is resized to the frame: ``cubic``, ``linear`` or ``nearest``."""
    scaling: str
    """How the map is scaled to [0, 1]: ``minmax``, ``max`` (negative values become 0), ``quantiles`` (from one quantile
    of its values to another), ``clip`` (values outside are clipped), or ``none`` (all values must be inside)."""
    components: str
    """Which part of the thresholded map the box encloses, see `wsol.functional.boxes`; or ``ranked``."""
    predicted_end: str
    """What a predicted box's x1 and y1 name: its ``last_pixel``; the pixel ``one_past`` it; or ``one_past_clipped``:
    that pixel, clipped to the frame's last pixel."""
    true_end: str
    """The same for a true box: ``annotated``, the numbers of the annotation without conversion; or ``last_pixel`` or
    ``one_past``, converted from the annotation's convention."""
    truncate_true_box: bool
    """Whether true corners in the frame are truncated to whole numbers."""
    clip_true_box: str
    """To what true corners are clipped (a crop cuts through boxes): ``none``, the frame's ``last_pixel`` or its
    ``edge``."""
    plus_one: bool
    """Whether a box's width is x1 - x0 + 1 (exact if ends are last pixels) or x1 - x0."""
    boundary: str
    """Whether an overlap of exactly the threshold is correct (``>=``) or not (``>``)."""
    average: str
    """Whether accuracy is the share of correct images (``image``) or the mean of the classes' shares (``class``)."""
    blacklist: bool
    """Whether the dataset's blacklisted images are left out (ILSVRC's list of poorly annotated ones)."""
    origins: tuple[str, ...]
    """Where the reported thresholds come from, some of ``fixed``, ``pseudo``, ``fullsup``, ``oracle``.
    If pseudo boxes are given, every protocol that chooses thresholds reports ``pseudo``, even if not named here."""
    iou_thresholds: tuple[float, ...] = (0.5,)
    """Overlap thresholds. With several, each has its own best map threshold, and errors are the mean over them."""
    fixed_threshold: float | None = None
    """The constant of origin ``fixed``: pixels above this fraction of the map's maximum are kept."""
    threshold_step: float = 0.001
    """Spacing of the thresholds that all origins but ``fixed`` choose from, ..."""
    threshold_range: tuple[float, float] = (0.0, 1.0)
    """... and where they begin and end (the end is left out)."""
    threshold_spacing: str = "linear"
    """Whether ``threshold_step`` is a difference (``linear``) or a power of ten (``log``)."""
    quantiles: tuple[float, float] = maps.WHOLE_RANGE
    """Low and high quantile of scaling ``quantiles``: (0, 1) is min-max, (p, 1) is IVR, (0, 0.9) is PaS. They are taken
    from the resized map, unless ``scale_first``."""
    frame_size: int | None = None
    """Side of the frame ``square`` or ``crop``, pixels."""
    frame_resize: int | None = None
    """Length of the image's shorter side after resizing, before frame ``crop`` is cut, pixels; see ``frame_square``."""
    frame_square: bool = False
    """Whether frame ``crop`` is cut from the image resized to a square of that side."""
    scale_first: bool = False
    """Whether the map is scaled before it is resized, not after."""
    threshold_of: str = "maximum"
    """What a threshold t is relative to: the ``maximum`` of the map's grey levels, a ``percentile`` of them, the
    ``mean`` of its values, or ``one``; see `wsol.functional.thresholds`."""
    threshold_quantile: float = 0.9
    """The quantile of the levels for ``threshold_of: percentile``."""
    boundary_topk: str | None = None
    """``boundary`` for top-k errors, if they use another one; None: the same."""
    nothing_found: str = "zeros"
    """The box if no pixel is above the threshold: x0, y0, x1, y1 = 0, 0, 0, 0 (``zeros``); 0, 0, 1, 1
    (``first_pixel``); or 0, 0 and the ``frame``'s width and height."""
    true_boxes: str = "all"
    """Whether any of an image's true boxes may be matched (``all``), or only the ``first``."""
    true_shift: float = 0.0
    """Number added to all annotated coordinates of true boxes, before anything else."""
    view_merging: str = "mean"
    """How the maps of several views of an image (ten crops) become one: the ``mean`` over the views that show a pixel,
    or the ``absolute_sum`` of their values there. The latter uses absolute values for a single view, too."""
    guesses: tuple[tuple[int, int], ...] | None = None
    """The guesses of a top-k error in order, each as (rank of the class, rank of its box), from 1; None: the first box
    of each of the first k classes. Only ``components: ranked`` has second boxes."""

    def __post_init__(self) -> None:
        for field in ("origins", "iou_thresholds", "threshold_range", "quantiles"):
            value = getattr(self, field)  # a frozen object needs tuples instead of YAML's lists
            object.__setattr__(self, field, (value,) if isinstance(value, str | float) else tuple(value))
        if self.guesses is not None:
            object.__setattr__(self, "guesses", tuple((int(label), int(box)) for label, box in self.guesses))
        for fault in faults(self):
            raise fault

    @property
    def chooses(self) -> bool:
        """Whether a threshold is chosen among several."""
        return self.components != RANKED and bool(set(self.origins) - {"fixed"})

    @cached_property
    def thresholds(self) -> np.ndarray:
        """float64 (G,) ascending: 0, step, 2 step, ... below 1 if any origin chooses; and the fixed threshold."""
        if self.components == RANKED:
            return np.zeros(0)
        low, high = self.threshold_range
        grid = thresholds.grid(low, high, self.threshold_step, self.threshold_spacing) if self.chooses else np.zeros(0)
        if self.fixed_threshold is not None and not np.isclose(grid, self.fixed_threshold, rtol=0, atol=1e-9).any():
            grid = np.sort(np.append(grid, self.fixed_threshold))
        grid.setflags(write=False)
        return grid

    @property
    def highest_threshold(self) -> float:
        """Upper bound of thresholds: 1 if relative to the maximum, 100 if relative to the mean."""
        return 100.0 if self.threshold_of == "mean" else 1.0

    @cached_property
    def asked(self) -> np.ndarray:
        """float64 (I,), the smallest correct overlaps; "more than t" is at least the next number above t.

        If top-k errors use another boundary, (2 I,), with theirs last.
        """
        bounds = [self.boundary, self.boundary_topk] if self.has_topk_boundary else [self.boundary]
        least = [np.array(self.iou_thresholds, np.float64) for _ in bounds]
        return np.concatenate([np.nextafter(t, 2) if b == ">" else t for t, b in zip(least, bounds, strict=True)])

    @property
    def has_topk_boundary(self) -> bool:
        """Whether top-k errors require other overlaps than GT-known."""
        return self.boundary_topk not in (None, self.boundary)

    @cached_property
    def num_columns(self) -> int:
        """Number G of evaluated boxes of a map: one at each threshold, or the ranked ones that a guess may name."""
        if self.components == RANKED:
            return max((box for _, box in self.guesses or ()), default=1)
        return len(self.thresholds)

    def frame_of(self, view: Geometry) -> Geometry:
        """Return the frame in which the boxes of a view's image are evaluated."""
        size = view.image_size
        if self.frame == "square":
            return Geometry.square(size, self.frame_size or 0)
        if self.frame == "crop":
            return self._crop(size, self.frame_resize or 0, self.frame_size or 0)
        return Geometry.whole(size) if self.frame == "image" else maps.upright(view)

    def _crop(self, size: tuple[int, int], resize: int, side: int) -> Geometry:
        if not self.frame_square:
            return Geometry.crop(size, resize, side)
        offset = round((resize - side) / 2)
        return Geometry(size, (resize, resize), (offset, offset), (side, side))

    def merge(self, score_maps: np.ndarray, views: Sequence[Geometry]) -> tuple[np.ndarray, Geometry]:
        """Merge the maps (V, h, w) of an image's views as the protocol does; see `wsol.functional.maps.merge`."""
        return maps.merge(score_maps, views, merging=self.view_merging)

    def evaluate(self, score_map: np.ndarray, view: Geometry, truth: GroundTruth) -> np.ndarray:
        """Return whether the box at each threshold is correct.

        Args:
            score_map: real (h, w), over the whole input frame of its view, not scaled; ten-crop's ten maps are merged
                first, by `merge`.
            view: geometry of the map's part of the image.
            truth: true boxes of the image. One correct pair of predicted and true box suffices.

        Returns:
            bool (I, G), for each of ``iou_thresholds`` in the order of `thresholds`; under ``ranked``, G is the rank of
            the box. If top-k errors have their own boundary, (2 I, G), with theirs last.
        """
        return self.evaluate_found(self.find(score_map, view), view, truth)

    def find(self, score_map: np.ndarray, view: Geometry) -> FoundBoxes:
        """Return the boxes at every threshold: the part of `evaluate` that does not need the true boxes."""
        frame = self.frame_of(view)
        placed = self._place(score_map, view)
        if self.components == RANKED:
            found = ranked_boxes(maps.to_levels(placed))[: self.num_columns]
            spans = boxes.Spans(found, at := np.arange(len(found)), at)
            position = np.arange(self.num_columns)
        else:
            levels, cuts, position = self._cut(placed, self.thresholds)
            spans = boxes.box_spans(levels, cuts, self.components)
        return FoundBoxes(self.predicted_ends(boxes.half_open(spans.boxes), frame.input_size), spans, position)

    def evaluate_found(self, found: FoundBoxes, view: Geometry, truth: GroundTruth) -> np.ndarray:
        """Compare found boxes with the true boxes, the second part of `evaluate`: bool (I, G)."""
        overlap = self._overlap(found.corners, self.frame_of(view), truth)
        best = found.spans.best(overlap, int(found.position.max()) + 1)
        return self._right(best)[:, found.position]

    def evaluate_boxes(self, predicted: np.ndarray, view: Geometry, truth: GroundTruth) -> np.ndarray:
        """Return whether each given box is correct.

        Args:
            predicted: real (B, 4), half-open, image frame. They are clipped to the protocol's frame, which no map's box
                exceeds.
            view: geometry of the image.
            truth: true boxes of the image.

        Returns:
            bool (I, B), for each of ``iou_thresholds``.
        """
        frame = self.frame_of(view)
        framed = frame.to_input(predicted).clip(0, np.tile(frame.input_size, 2))
        return self._right(self._overlap(self.predicted_ends(framed, frame.input_size), frame, truth))

    def predict(self, score_map: np.ndarray, view: Geometry, threshold: float | None = None) -> np.ndarray:
        """Return the box or boxes at one threshold, for applications and drawings.

        Args:
            score_map: as in `evaluate`.
            view: geometry of the map's part of the image.
            threshold: in [0, 1]; None for the fixed one. Ranked boxes ignore it.

        Returns:
            float64 (B, 4), half-open, image frame, within the image. B is 1 unless ``components`` is ``all_contours``;
            a box without area means that no pixel is above the threshold.

        Raises:
            InputError: no threshold is given, and the protocol has no fixed one.
        """
        threshold = self.fixed_threshold if threshold is None else threshold
        placed = self._place(score_map, view)
        if self.components == RANKED:
            found = ranked_boxes(maps.to_levels(placed))[:1]
            found = found if len(found) else np.zeros((1, 4), found.dtype)
        elif threshold is None:
            raise InputError(f"protocol {self.name!r} has no fixed_threshold: give the threshold")
        elif not 0 <= threshold < self.highest_threshold:
            raise InputError(f"threshold: expected a number in [0, {self.highest_threshold:g}), got {threshold}")
        else:
            levels, cuts, _ = self._cut(placed, np.array([threshold]))
            found = boxes.boxes_at(levels, int(cuts[0]), self.components)
        return self.frame_of(view).to_image(boxes.half_open(found)).clip(0, np.tile(view.image_size, 2))

    def foreground(self, score_map: np.ndarray, view: Geometry, threshold: float | None = None) -> np.ndarray:
        """Return the pixels of the image above a threshold, of all components.

        Args:
            score_map: as in `evaluate`.
            view: what part of the image the map is of; pixels that it does not show are background.
            threshold: as in `predict`.

        Returns:
            bool (H, W), image frame.

        Raises:
            InputError: no threshold given and no fixed one, or ranked boxes, which have no foreground.

        Example:
            >>> protocol("cam2016").foreground(np.array([[0.0, 0.5, 1.0]]), Geometry.whole((3, 1))).tolist()
            [[False, True, True]]
        """
        threshold = self.fixed_threshold if threshold is None else threshold
        if self.components == RANKED or threshold is None:
            raise InputError(f"protocol {self.name!r} has no threshold for a foreground; choose another one")
        frame = self.frame_of(view)
        levels, cuts, _ = self._cut(self._place(score_map, view), np.array([threshold]))
        above = (levels >> 8 if levels.dtype == np.uint16 else levels) > int(cuts[0])
        whole = Geometry.whole(view.image_size)
        return maps.place(above.astype(np.float64), frame, whole, interpolation="linear", scaling="none") >= 0.5

    def levels(self, score_map: np.ndarray, view: Geometry) -> np.ndarray:
        """Return the map as grey levels in the protocol's frame: uint8 (H, W)."""
        return maps.to_levels(self._place(score_map, view))

    def _cut(self, placed: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, ...]:
        return thresholds.cut(placed, at, self.threshold_of, self.threshold_quantile)

    def top_guesses(self, k: int) -> tuple[tuple[int, int], ...]:
        """Return the k guesses of a top-k error, each as (rank of the class, column of `evaluate`), from 0."""
        if self.guesses is None:
            return tuple((label, 0) for label in range(k))
        return tuple((label - 1, box - 1) for label, box in self.guesses[:k])

    def _place(self, score_map: np.ndarray, view: Geometry) -> np.ndarray:
        return maps.place(
            np.abs(score_map) if self.view_merging == "absolute_sum" else score_map,
            view,
            self.frame_of(view),
            interpolation=self.interpolation,
            scaling=self.scaling,
            quantiles=self.quantiles,
            scale_first=self.scale_first,
        )

    def predicted_ends(self, half_open: np.ndarray, frame_size: np.ndarray | tuple[int, int]) -> np.ndarray:
        """Convert predicted boxes float64 (..., 4), half-open in their frame, to the protocol's convention of ends.

        ``frame_size`` is width and height, (2,), or both twice for each box, (..., 4).
        """
        out, size = half_open.copy(), np.broadcast_to(np.asarray(frame_size)[..., :2], (*half_open.shape[:-1], 2))
        if self.predicted_end == "last_pixel":
            out[..., 2:] -= 1
        elif self.predicted_end == "one_past_clipped":
            out[..., 2:] = np.minimum(out[..., 2:], size - 1)
        if self.nothing_found != "zeros":
            empty = half_open[..., 2] == half_open[..., 0]
            out[empty, 2:] = 1 if self.nothing_found == "first_pixel" else size[empty]
        return out

    def true_corners(self, frame: Geometry, truth: GroundTruth) -> np.ndarray:
        """Return true boxes float64 (M, 4) in the frame, with the protocol's convention of ends."""
        annotated = truth.boxes if self.true_end == "annotated" else truth.half_open
        framed = frame.to_input(annotated[: 1 if self.true_boxes == "first" else None] + self.true_shift)
        return self.true_ends(framed, np.tile(frame.input_size, 2))

    def true_ends(self, framed: np.ndarray, frame_size: np.ndarray) -> np.ndarray:
        """Convert true boxes float64 (M, 4) in their frames to the protocol's convention of ends.

        ``frame_size`` is width and height twice, (4,) or (M, 4).
        """
        out = framed.copy()
        if self.true_end == "last_pixel":
            out[:, 2:] -= 1
        if self.truncate_true_box:
            out = np.trunc(out)
        return out if self.clip_true_box == "none" else out.clip(0, frame_size - (self.clip_true_box == "last_pixel"))

    def _overlap(self, corners: np.ndarray, frame: Geometry, truth: GroundTruth) -> np.ndarray:
        """Return the largest overlap of each predicted box with a true one, float64 (B,)."""
        return best_iou(corners, self.true_corners(frame, truth), plus_one=self.plus_one)

    def _right(self, overlap: np.ndarray) -> np.ndarray:
        return overlap >= self.asked[:, None]


def protocol(name: str, **changes: Any) -> LocalizationProtocol:
    """Return a protocol of this package by the name of its file, for use without a config.

    Args:
        name: name of the protocol, such as ``choe2020-v2``.
        changes: fields to change.

    Raises:
        InputError: no such protocol; the message has near matches.

    Example:
        >>> protocol("cam2016", fixed_threshold=0.15).fixed_threshold
        0.15
    """
    folder = resources.files("wsol.configs") / "protocol"
    there = {file.name.removesuffix(".yaml"): file for file in folder.iterdir() if file.name.endswith(".yaml")}
    if name not in there:
        raise unknown("protocol", name, there)
    fields = yaml.safe_load(there[name].read_text(encoding="utf-8"))
    return LocalizationProtocol(**{key: value for key, value in fields.items() if not key.startswith("_")} | changes)
