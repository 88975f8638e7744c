"""Overlaps of boxes with ground-truth boxes, and the largest overlap at each cut, in compiled code."""

from __future__ import annotations

from wsol.functional.box_engine.compiled import compiled


@compiled
def best_overlaps(boxes, true_boxes, more, out):
    """Fill in the largest IoU of each box with any ground-truth box, unless the present value is greater.

    Args:
        boxes: float64 (A, 4) corners.
        true_boxes: float64 (B, 4) corners.
        more: 1.0 if x1, y1 are the last pixel inside, 0.0 if they are the edge.
        out: float64 (A,), not negative.
    """
    for j in range(len(true_boxes)):
        x0, y0, x1, y1 = true_boxes[j, 0], true_boxes[j, 1], true_boxes[j, 2], true_boxes[j, 3]
        true_area = max(x1 - x0 + more, 0.0) * max(y1 - y0 + more, 0.0)
        for i in range(len(boxes)):
            area = max(boxes[i, 2] - boxes[i, 0] + more, 0.0) * max(boxes[i, 3] - boxes[i, 1] + more, 0.0)
            width = max(min(boxes[i, 2], x1) - max(boxes[i, 0], x0) + more, 0.0)
            height = max(min(boxes[i, 3], y1) - max(boxes[i, 1], y0) + more, 0.0)
            union = area + true_area - width * height
            out[i] = max(out[i], width * height / union if union > 0 else 0.0)


@compiled
def best_at_cuts(first, last, values, out):
    """Raise ``out``, float64 (L,), to the largest value of the spans that cover each cut."""
    for i in range(len(values)):
        value = values[i]
        for k in range(first[i], last[i] + 1):
            out[k] = max(out[k], value)
