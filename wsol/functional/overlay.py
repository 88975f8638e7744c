"""An image with its heat map, its ground-truth boxes and the predicted box, at full size."""

from __future__ import annotations

import cv2
import numpy as np

WHITE, GREEN, RED = (255, 255, 255), (60, 230, 60), (255, 60, 60)


def overlay(
    image: np.ndarray, score_map: np.ndarray, box: np.ndarray, true_boxes: np.ndarray, overlap: float | None = None
) -> np.ndarray:
    """Draw a localization.

    Args:
        image: uint8 (H, W, 3) RGB.
        score_map: real (H, W) in [0, 1].
        box: real (4,) predicted, half-open; green, or red if its IoU with the ground truth is below one half.
        true_boxes: real (M, 4) ground truth, half-open; white.
        overlap: IoU of the two; None if there is no ground-truth box.

    Returns:
        uint8 (H, W, 3) RGB.

    Example:
        >>> overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), np.array([0, 0, 2, 2]), np.zeros((0, 4))).shape
        (4, 4, 3)
    """
    heat = cv2.applyColorMap((score_map * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    out = cv2.addWeighted(image, 0.5, np.ascontiguousarray(heat), 0.5, 0)
    width = max(round(max(image.shape[:2]) / 150), 1)
    for true in true_boxes:
        _draw(out, true, WHITE, width)
    _draw(out, box, RED if overlap is not None and overlap < 0.5 else GREEN, width)
    return out


def _draw(image: np.ndarray, box: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    """Draw a half-open box in place; a box without area is not drawn."""
    x0, y0, x1, y1 = (int(value) for value in np.rint(box))
    if x1 > x0 and y1 > y0:
        cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), colour, width)
