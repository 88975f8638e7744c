"""Invalid input raises one clear error and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics import Metric

from wsol.errors import InputError
from wsol.functional.ranks import true_class_ranks
from wsol.metrics import (
    ErrorSplit,
    LocalizationError,
    MaxBoxAcc,
    MaxBoxAccV2,
    PxAP,
    TopKError,
    localization_error,
    pxap,
    topk_error,
)
from wsol.protocols import protocol

MAPS = np.random.default_rng(0).random((2, 5, 6))
BOX = [[1.0, 1.0, 4.0, 4.0]]
SIZES = [(6, 5), (6, 5)]
LOGITS = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])
SCORES, MASKS = np.array([[[0.9, 0.4]], [[0.2, 0.7]]]), np.array([[[1, 0]], [[255, 1]]], np.uint8)
NAN, INF = float("nan"), float("inf")


def boxes(*changed: Any) -> list[Any]:
    """True boxes of two images; the second one's are given."""
    return [BOX, list(changed)]


BAD_MAPS = {
    "0 pixels": (np.zeros((2, 0, 6)), r"score_maps\[0\].*at least one pixel"),
    "an empty map": ([MAPS[0], np.zeros((0, 6))], r"score_maps\[1\].*at least one pixel"),
    "1-D": (np.zeros(12), "expected N maps"),
    "a list of 1-D": ([np.zeros(6), np.zeros(6)], r"score_maps\[0\]"),
    "a single map": (MAPS[0], r"maps\[None\]"),
    "3-D maps": ([MAPS[:, None][0], MAPS[:, None][1]], r"score_maps\[0\]"),
    "a channel axis": (torch.zeros(2, 1, 5, 6), r"squeeze\(1\)"),
    "strings": (np.full((2, 5, 6), "a"), r"score_maps\[0\].*real numbers"),
    "a string": ("maps", "expected N maps"),
    "a dict": ({0: MAPS[0]}, "expected N maps"),
    "None": (None, "expected N maps"),
    "a number": (3.0, "expected N maps"),
    "complex": (MAPS.astype(complex), r"score_maps\[0\].*complex"),
    "complex tensor": (torch.zeros(2, 5, 6, dtype=torch.complex64), r"score_maps\[0\].*complex"),
    "objects": (np.full((2, 5, 6), None), r"score_maps\[0\].*object"),
    "ragged": ([[[1.0, 2.0], [3.0]], MAPS[1]], r"score_maps\[0\]"),
    "meta": (torch.zeros(2, 5, 6, device="meta"), "dense tensor with values"),
    "sparse": (torch.zeros(2, 5, 6).to_sparse(), "dense tensor with values"),
    "one too few": (MAPS[:1], "sizes: expected one entry for each of 1"),
}
BAD_BOXES = {
    "no rows": ([BOX, np.zeros((0, 4))], r"boxes\[1\]: no ground-truth box"),
    "an empty list": ([BOX, []], r"boxes\[1\]: no ground-truth box"),
    "NaN": (boxes([1.0, NAN, 4.0, 4.0]), r"boxes\[1\].*finite"),
    "infinity": (boxes([1.0, 1.0, INF, 4.0]), r"boxes\[1\].*finite"),
    "x1 < x0": (boxes([4.0, 1.0, 1.0, 4.0]), r"boxes\[1\].*x1 > x0"),
    "y1 < y0": (boxes(BOX[0], [1.0, 4.0, 4.0, 1.0]), r"boxes\[1\].*y1 > y0"),
    "no area": (boxes([1.0, 1.0, 1.0, 4.0]), r"boxes\[1\].*x1 > x0"),
    "5 columns": (boxes([0.0, 1.0, 1.0, 4.0, 4.0]), r"boxes\[1\].*\(1, 5\)"),
    "4 rows of 5": (boxes(*np.ones((4, 5)).tolist()), r"boxes\[1\].*\(4, 5\)"),
    "flat pairs of boxes": ([BOX, [1.0, 1.0, 4.0, 4.0] * 2], r"boxes\[1\].*\(8,\)"),
    "3 axes": ([BOX, [[BOX[0]]]], r"boxes\[1\]"),
    "strings": (boxes(list("abcd")), r"boxes\[1\].*real numbers"),
    "complex": ([BOX, np.array(BOX) * 1j], r"boxes\[1\].*complex"),
    "None": (None, "boxes: expected N"),
    "None for an image": ([BOX, None], r"boxes\[1\]"),
    "outside on the right": (boxes([6.0, 1.0, 9.0, 4.0]), r"boxes\[1\].*outside its image of 6 x 5"),
    "outside on the left": (boxes([-9.0, 1.0, 0.0, 4.0]), r"boxes\[1\].*outside"),
    "one too few": ([BOX], "boxes: expected one entry for each of 2 score maps, got 1"),
    "one too many": ([BOX] * 3, "boxes: expected one entry for each of 2 score maps, got 3"),
}
BAD_SIZES = {
    "0": ([(6, 5), (0, 5)], r"sizes\[1\].*at least 1, got \(0, 5\)"),
    "negative": ([(6, 5), (-6, 5)], r"sizes\[1\]"),
    "NaN": ([(6, 5), (NAN, 5)], r"sizes\[1\]"),
    "infinity": ([(6, 5), (INF, 5)], r"sizes\[1\]"),
    "a fraction": ([(6, 5), (6.5, 5)], r"sizes\[1\]"),
    "3 numbers": (np.ones((2, 3), int), r"sizes\[0\]"),
    "one pair for all": ((6, 5), r"sizes\[0\]"),
    "strings": ([(6, 5), ("6", "5")], r"sizes\[1\]"),
    "one too few": ([(6, 5)], "sizes: expected one entry for each of 2 score maps, got 1"),
    "None for an image": ([(6, 5), None], r"sizes\[1\]"),
}
BAD_INDEX = {
    "fractions": ([0.2, 0.7], "index: expected whole numbers"),
    "whole floats": (torch.tensor([0.0, 1.0]), "index: expected whole numbers"),
    "negative": ([0, -1], "index: expected whole numbers from 0"),
    "bool": ([True, False], "index: expected whole numbers"),
    "strings": (["a", "b"], "index: expected real numbers"),
    "one too few": ([0], r"index.*shape \(2,\), got \(1,\)"),
    "2-D": ([[0], [1]], r"index.*shape \(2,\), got \(2, 1\)"),
    "a number": (0, r"index.*got \(\)"),
    "too large": (np.array([0, 2**63], np.uint64), "index: expected whole numbers from 0 to 9223372036854775807"),
}
BAD_LABELS = {
    "out of range": ([0, 3], "labels: expected classes 0 to 2.*image 1"),
    "99": (torch.tensor([99, 0]), "labels: expected classes 0 to 2.*image 0"),
    "negative": ([0, -1], "labels: expected classes 0 to 2.*image 1"),
    "floats": ([0.0, 1.0], "labels: expected whole numbers"),
    "bool": ([True, False], "labels: expected whole numbers"),
    "strings": (["a", "b"], "labels"),
    "one for two images": (torch.tensor([0]), r"labels.*\(2,\), got \(1,\)"),
    "a number": (0, r"labels.*got \(\)"),
    "one-hot": (torch.tensor([[1, 0, 0], [0, 1, 0]]), r"labels.*got \(2, 3\)"),
    "meta": (torch.zeros(2, dtype=torch.int64, device="meta"), "labels.*with values"),
}
BAD_LOGITS = {
    "1-D": (torch.zeros(2), "logits: expected real numbers"),
    "3-D": (torch.zeros(2, 3, 1), "logits: expected real numbers"),
    "no classes": (torch.zeros(2, 0), "logits: expected real numbers"),
    "complex": (torch.zeros(2, 3, dtype=torch.complex64), "logits: expected real numbers"),
    "bool": (torch.zeros(2, 3, dtype=torch.bool), "logits: expected real numbers"),
    "strings": (np.full((2, 3), "a"), "logits: expected a tensor"),
    "meta": (torch.zeros(2, 3, device="meta"), "logits.*with values"),
}
BAD_MASKS = {
    "strings": (np.full(MASKS.shape, "a"), "mask: expected uint8"),
    "floats": (MASKS.astype(float), "uint8"),
    "another value": (np.full_like(MASKS, 2), "mask: expected uint8 of 0 background"),
    "another shape": (MASKS[:, :, :1], "mask of the map's shape"),
    "one too few": (MASKS[:1], "masks: expected one entry for each of 2"),
    "a single mask": (MASKS[0], "masks: expected N masks"),
    "None": (None, "masks: expected N masks"),
    "None for an image": ([MASKS[0], None], r"masks\[1\]"),
}
BAD_SCORES = {
    "above 1": (SCORES * 2, r"must lie in \[0, 1\]"),
    "NaN": (SCORES * NAN, r"must lie in \[0, 1\]"),
    "complex": (SCORES.astype(complex), "complex"),
    "strings": (np.full(SCORES.shape, "a"), "real numbers"),
    "1-D maps": ([SCORES[0, 0], SCORES[1, 0]], r"score_maps\[0\]"),
    "meta": (torch.zeros(2, 1, 2, device="meta"), "with values"),
}


def localize(metric: Metric, **changes: Any) -> None:
    """Update with two images that can be evaluated, but for the changes."""
    arguments = {"score_maps": MAPS, "boxes": [BOX, BOX], "sizes": SIZES} | changes
    metric.update(arguments.pop("score_maps"), arguments.pop("boxes"), arguments.pop("sizes"), **arguments)


def classify(metric: Metric, **changes: Any) -> None:
    """The same of class scores."""
    metric.update(**({"logits": LOGITS, "labels": [0, 1]} | changes))


def compare(metric: Metric, **changes: Any) -> None:
    """The same of masks."""
    metric.update(**({"score_maps": SCORES, "masks": MASKS} | changes))


def name(metric: Metric, **changes: Any) -> None:
    """The same of kinds."""
    metric.update(**({"kinds": ["right", "miss"]} | changes))


def _one_class() -> LocalizationError:
    return LocalizationError("cam2016", topk=[1])


GOOD = {"logits": LOGITS, "labels": [0, 1]}
CALLS: list[tuple[Callable[[], Metric], Callable[..., None], dict[str, Any], str, dict]] = [
    (MaxBoxAcc, localize, {}, "score_maps", BAD_MAPS),
    (MaxBoxAcc, localize, {}, "boxes", BAD_BOXES),
    (MaxBoxAccV2, localize, {}, "sizes", BAD_SIZES),
    (MaxBoxAccV2, localize, {}, "index", BAD_INDEX),
    (_one_class, localize, GOOD, "labels", BAD_LABELS),
    (_one_class, localize, GOOD, "logits", BAD_LOGITS),
    (TopKError, classify, {}, "labels", BAD_LABELS),
    (TopKError, classify, {}, "logits", BAD_LOGITS),
    (TopKError, classify, {}, "index", BAD_INDEX),
    (PxAP, compare, {}, "masks", BAD_MASKS),
    (PxAP, compare, {}, "score_maps", BAD_SCORES),
    (PxAP, compare, {}, "index", BAD_INDEX),
    (ErrorSplit, name, {}, "index", BAD_INDEX),
    (ErrorSplit, name, {}, "kinds", {"a word": ("right", "list"), "unknown": (["right", "mis"], "mean 'miss'")}),
]
PARAMETERS = [
    pytest.param(make, call, named | {argument: value}, message, id=f"{make.__name__.strip('_')}-{argument}-{what}")
    for make, call, named, argument, bad in CALLS
    for what, (value, message) in bad.items()
]


@pytest.mark.parametrize(("make", "call", "arguments", "message"), PARAMETERS)
def test_a_malformed_call_is_refused(make, call, arguments: dict[str, Any], message: str) -> None:
    metric = TopKError(topk=[1]) if make is TopKError else make()
    with pytest.raises(InputError, match=message):
        call(metric, **arguments)
    assert not any(len(part) for part in metric.index), "a refused call must keep nothing"


def test_there_are_as_many_calls_as_were_tried() -> None:
    assert len(PARAMETERS) >= 68


def test_calls_without_a_fault_are_taken() -> None:
    for metric in (MaxBoxAcc(), MaxBoxAccV2(), _one_class()):
        localize(metric, index=[3, 1], **GOOD)
    classify(TopKError(topk=[1]), index=np.array([1, 0], np.uint8))
    compare(PxAP(), index=torch.tensor([1, 0]))
    name(ErrorSplit(), index=(0, 1))


def test_classes_need_logits_and_labels() -> None:
    for given in ({}, {"labels": [0, 1]}, {"logits": LOGITS}):
        with pytest.raises(InputError, match="needs logits and labels"):
            localize(_one_class(), **given)
    with pytest.raises(InputError, match="logits without labels"):
        localize(MaxBoxAcc(), logits=LOGITS)
    with pytest.raises(InputError, match="mean over classes needs labels"):
        localize(LocalizationError("bas2022", topk=[]))
    with pytest.raises(InputError, match=r"labels: expected one for each of 2 images"):
        localize(LocalizationError("bas2022", topk=[]), labels=[0])
    with pytest.raises(InputError, match="logits: expected one entry for each of 2 score maps, got 1"):
        localize(_one_class(), logits=LOGITS[:1], labels=[0])


def test_more_than_there_are_classes_is_refused() -> None:
    for metric, call, given in ((LocalizationError(), localize, GOOD), (TopKError(), classify, {})):
        with pytest.raises(InputError, match=r"top-5 of 3 classes; try topk=\[1\]"):
            call(metric, **given)


def test_protocols_are_named_or_given() -> None:
    with pytest.raises(InputError, match="did you mean 'choe2020"):
        LocalizationError("choe202")
    with pytest.raises(InputError, match="expected a name such as 'cam2016'"):
        LocalizationError(2016)
    assert localization_error(MAPS, [BOX, BOX], protocol=protocol("cam2016"), topk=[]).keys() == {"gt_known_error"}


def test_integer_maps_and_boxes_of_one_pixel_are_evaluated() -> None:
    spot = np.zeros((1, 224, 224), np.int32)
    spot[0, 7:10, 9:12] = 5
    metric = MaxBoxAcc(inclusive=True)
    metric.update(spot, [[[9, 7, 11, 9], [50, 50, 50, 50]]])  # found as 9 to 12 and 7 to 10: IoU 9 / 16
    assert metric.compute() == 100.0
    with pytest.raises(InputError, match="x1 > x0"):
        MaxBoxAcc().update(spot, [[50, 50, 50, 50]])


def test_maps_that_are_not_finite_find_nothing() -> None:
    metric = MaxBoxAcc()
    metric.update(MAPS * NAN, [BOX, BOX])
    assert metric.compute() == 0.0


def test_ranks_are_checked_for_everybody() -> None:
    with pytest.raises(InputError, match="classes 0 to 2"):
        true_class_ranks(LOGITS, torch.tensor([0, 7]))
    with pytest.raises(InputError, match="one class for each of the 2 rows"):
        true_class_ranks(LOGITS, torch.tensor([0]))


def test_scaling_none_takes_maps_as_they_are() -> None:
    own = protocol("choe2020", scaling="none", origins=["fixed"], fixed_threshold=0.5)
    metric = LocalizationError(own, topk=[])
    with pytest.raises(InputError, match=r"scaling 'none' expects maps in \[0, 1\], got 0 to 5"):
        metric.update(np.eye(6)[None] * 5, [BOX])
    grey = np.full((1, 224, 224), 0.4)
    grey[0, 50:100, 50:100] = 0.6
    metric.update(grey, [[0, 0, 224, 224]])  # above half of the maximum lies the whole map; min-max leaves the square
    assert metric.compute()["gt_known_error"] == 0.0
    scaled = LocalizationError(protocol("choe2020", origins=["fixed"], fixed_threshold=0.5), topk=[])
    scaled.update(grey, [[0, 0, 224, 224]])
    assert scaled.compute()["gt_known_error"] == 100.0


@pytest.mark.parametrize("number", [0, -5, 1.5, "a", None, True])
def test_a_number_of_thresholds_is_a_whole_number(number: Any) -> None:
    for call in (lambda: PxAP(number), lambda: pxap(SCORES, MASKS, number)):
        with pytest.raises(InputError, match="num_thresholds: expected a whole number"):
            call()


@pytest.mark.parametrize("topk", [None, 5, 1.5, "a", [0], [1, 1]])
def test_topk_is_a_list_of_whole_numbers(topk: Any) -> None:
    for make in (lambda: TopKError(topk), lambda: topk_error(LOGITS, [0, 1], topk)):
        with pytest.raises(InputError, match="topk: expected distinct whole numbers"):
            make()
