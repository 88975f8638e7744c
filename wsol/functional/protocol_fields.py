"""The fields of `wsol.protocols.LocalizationProtocol`: their values, and a check of given ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wsol.errors import InputError, unknown
from wsol.functional import boxes, maps, thresholds

RANKED = "ranked"
"""The value of ``components`` that stands for the CAM authors' procedure, see `wsol.functional.ranked_boxes`."""

CHOICES = {
    "frame": ("image", "square", "crop", "input"),
    "interpolation": tuple(maps.INTERPOLATIONS),
    "scaling": maps.SCALINGS,
    "view_merging": maps.MERGINGS,
    "components": (*boxes.COMPONENTS, RANKED),
    "predicted_end": ("last_pixel", "one_past", "one_past_clipped"),
    "true_end": ("annotated", "last_pixel", "one_past"),
    "boundary": (">=", ">"),
    "average": ("image", "class"),
    "threshold_of": thresholds.KINDS,
    "threshold_spacing": thresholds.GRIDS,
    "true_boxes": ("all", "first"),
    "clip_true_box": ("none", "last_pixel", "edge"),
    "nothing_found": ("zeros", "first_pixel", "frame"),
}
"""The values of each field that is a choice."""

MAX_LEVELS = 255
"""Largest number of thresholds relative to ``one`` or ``mean``: a map is quantised to that many grey levels and 0."""

ORIGINS = ("fixed", "pseudo", "fullsup", "oracle")
"""Where a threshold comes from: a constant; chosen on the val split with pseudo boxes; chosen there with boxes drawn by
people (train-fullsup); chosen on the evaluated split itself."""


def faults(protocol: Any) -> Iterator[InputError]:
    """Yield the faults in the fields of a `wsol.protocols.LocalizationProtocol`, the most informative first."""
    where = f"of protocol {protocol.name!r}"
    for field, choices in CHOICES.items():
        if getattr(protocol, field) not in choices:
            yield unknown(f"{field} {where}", getattr(protocol, field), choices)
    for origin in protocol.origins:
        if origin not in ORIGINS:
            yield unknown(f"origin {where}", origin, ORIGINS)
    if not protocol.origins or len(set(protocol.origins)) < len(protocol.origins):
        yield InputError(f"origins {where}: expected some of {', '.join(ORIGINS)}, each once, got {protocol.origins}")
    if protocol.components == RANKED and (protocol.origins != ("fixed",) or protocol.fixed_threshold is not None):
        yield InputError(f"components {where}: ranked boxes have their own thresholds; set origins to [fixed]")
    if "fixed" in protocol.origins and protocol.fixed_threshold is None and protocol.components != RANKED:
        yield InputError(f"origin 'fixed' {where} needs fixed_threshold, such as 0.2; give it, or leave 'fixed' out")
    if protocol.fixed_threshold is not None and not 0 <= protocol.fixed_threshold < protocol.highest_threshold:
        yield InputError(
            f"fixed_threshold {where}: expected a number in [0, {protocol.highest_threshold:g}), "
            f"got {protocol.fixed_threshold}"
        )
    if protocol.boundary_topk not in (None, *CHOICES["boundary"]):
        yield unknown(f"boundary_topk {where}", str(protocol.boundary_topk), CHOICES["boundary"])
    if len(protocol.quantiles) != 2 or not 0 <= protocol.quantiles[0] < protocol.quantiles[1] <= 1:
        yield InputError(f"quantiles {where}: expected 0 <= low < high <= 1, got {protocol.quantiles}")
    if protocol.scaling != "quantiles" and protocol.quantiles != maps.WHOLE_RANGE:
        yield InputError(f"quantiles {where}: only scaling: quantiles uses them; set it, or leave quantiles out")
    if not 0 < protocol.threshold_quantile <= 1:
        yield InputError(f"threshold_quantile {where}: expected a number in (0, 1], got {protocol.threshold_quantile}")
    if not protocol.iou_thresholds or not all(0 < value <= 1 for value in protocol.iou_thresholds):
        yield InputError(f"iou_thresholds {where}: expected numbers in (0, 1], got {list(protocol.iou_thresholds)}")
    if not 1e-5 <= protocol.threshold_step < 1:
        yield InputError(f"threshold_step {where}: expected a number in [0.00001, 1), got {protocol.threshold_step}")
    top, least = protocol.highest_threshold, 0 if protocol.threshold_spacing == "linear" else 1e-30
    low, high = protocol.threshold_range if len(protocol.threshold_range) == 2 else (1.0, 0.0)
    if not least <= low < high <= top:
        yield InputError(
            f"threshold_range {where}: expected {least} <= low < high <= {top}, got {protocol.threshold_range}"
        )
        return
    if protocol.frame in ("square", "crop") and not protocol.frame_size:
        yield InputError(f"frame {protocol.frame!r} {where} needs frame_size, such as 224")
    if protocol.frame == "crop" and (protocol.frame_resize or 0) < (protocol.frame_size or 0):
        yield InputError(f"frame 'crop' {where} needs frame_resize of at least frame_size, such as 256")
    if protocol.threshold_of not in thresholds.OF_LEVELS and len(protocol.thresholds) > MAX_LEVELS:
        yield InputError(
            f"threshold_of {protocol.threshold_of!r} {where}: at most {MAX_LEVELS} thresholds; raise threshold_step"
        )
    if protocol.guesses is not None and not all(label > 0 and box > 0 for label, box in protocol.guesses):
        yield InputError(f"guesses {where}: ranks count from 1, got {list(protocol.guesses)}")
    if protocol.guesses is not None and protocol.components != RANKED:
        yield InputError(f"guesses {where}: only components: ranked has several boxes of a class to choose from")
