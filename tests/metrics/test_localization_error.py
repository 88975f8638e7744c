"""The metrics for anybody's loop, against wsolevaluation's procedure written as plain loops."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from wsol.errors import InputError
from wsol.metrics import LocalizationError, max_box_acc

SIZES = [(60, 40), (33, 57), (224, 224), (50, 50), (41, 29)]


@pytest.fixture(scope="module")
def images():
    """Maps of several kinds, each with one or two ground-truth boxes."""
    rng = np.random.default_rng(0)
    maps, boxes = [], []
    for width, height in SIZES:
        maps.append(cv2.GaussianBlur(rng.standard_normal((14, 14)), (0, 0), 1.5).astype(np.float32))
        low = rng.uniform(0, 0.4, (1 + len(boxes) % 2, 2)) * (width, height)
        boxes.append(np.concatenate([low, low + rng.uniform(0.3, 0.6, low.shape) * (width, height)], axis=1))
    return maps, boxes


def slow(maps, boxes, every_contour: bool, ious: list[float]) -> float:
    """One image, one threshold, one contour at a time."""
    right = {iou: np.zeros(1000) for iou in ious}
    for cam, true, (width, height) in zip(maps, boxes, SIZES, strict=True):
        cam = cv2.resize(cam.astype(np.float64), (224, 224), interpolation=cv2.INTER_CUBIC)
        grey = ((cam - cam.min()) / (cam - cam.min()).max() * 255).astype(np.uint8)
        scaled = [[int(v * 224 / (width, height)[k % 2]) for k, v in enumerate(box)] for box in true]
        for t in range(1000):
            binary = (grey > int(t * 0.001 * grey.max())).astype(np.uint8)
            contours = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
            if contours and not every_contour:
                contours = [max(contours, key=cv2.contourArea)]
            rectangles = [cv2.boundingRect(c) for c in contours]
            found = [(x, y, min(x + w, 223), min(y + h, 223)) for x, y, w, h in rectangles] or [(0, 0, 0, 0)]
            best = max(overlap(a, b) for a in found for b in scaled)
            for iou in ious:
                right[iou][t] += best >= iou
    return float(np.mean([100 * hits.max() / len(maps) for hits in right.values()]))


def overlap(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(w, 0) * max(h, 0)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return shared / (sum(areas) - shared)


def test_max_box_acc_equals_the_reference(images) -> None:
    maps, boxes = images
    assert max_box_acc(maps, boxes, SIZES).item() == pytest.approx(slow(maps, boxes, False, [0.5]))


def test_max_box_acc_v2_equals_the_reference(images) -> None:
    maps, boxes = images
    assert max_box_acc(maps, boxes, SIZES, v2=True).item() == pytest.approx(slow(maps, boxes, True, [0.3, 0.5, 0.7]))


def test_topk_errors_count_the_class_too(images) -> None:
    maps, boxes = images
    logits = torch.eye(6)[:5] * 3 + torch.eye(6)[[1, 2, 3, 4, 5]]
    labels = torch.tensor([0, 2, 2, 5, 4])  # ranks 0, 1, 0, beyond, 0
    metric = LocalizationError("acol2018", topk=[1, 2])
    metric.update(maps, boxes, SIZES, logits=logits, labels=labels)
    right = metric.curves().gt_known  # of all images together
    one_by_one = []
    for i in range(5):
        one = LocalizationError("acol2018", topk=[])
        one.update(maps[i : i + 1], boxes[i : i + 1], SIZES[i : i + 1])
        one_by_one.append(one.errors("fixed")["gt_known_error"] == 0)
    errors = metric.errors("fixed")
    assert errors["gt_known_error"] == pytest.approx(100 - 20 * sum(one_by_one))
    assert errors["top1_error"] == pytest.approx(
        100 - 20 * sum(r for r, of in zip(one_by_one, [1, 0, 1, 0, 1], strict=True) if of)
    )
    assert errors["top2_error"] == pytest.approx(
        100 - 20 * sum(r for r, of in zip(one_by_one, [1, 1, 1, 0, 1], strict=True) if of)
    )
    assert metric.errors("oracle")["gt_known_error"] == pytest.approx(100 - right.max())
    assert metric.compute() == errors


def test_fullsup_thresholds_come_from_other_curves(images) -> None:
    maps, boxes = images
    val, test = (LocalizationError("choe2020", topk=[]) for _ in range(2))
    val.update(maps[:2], boxes[:2], SIZES[:2])
    test.update(maps[2:], boxes[2:], SIZES[2:])
    chosen = int(val.curves().gt_known[0].argmax())
    expected = 100 - test.curves().gt_known[0, chosen]
    assert test.errors("fullsup", val.curves())["gt_known_error"] == pytest.approx(expected)
    with pytest.raises(InputError, match="no threshold of origin 'fullsup'"):
        test.errors("fullsup")
    with pytest.raises(InputError, match="no threshold of origin 'fixed'"):
        test.errors("fixed")
