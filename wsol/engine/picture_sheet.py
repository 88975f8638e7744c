"""pictures.png of a run folder: evaluated images with heat maps, ground-truth boxes and predicted boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from wsol.interop.png_file import write_png
from wsol.types import Picture

TILE = 192
COLUMNS = 4
WHITE, GREEN, RED = (255, 255, 255), (60, 230, 60), (255, 60, 60)


def write(file: Path, pictures: Sequence[Picture]) -> None:
    """Write a sheet of image and heat map pairs as PNG.

    Ground-truth boxes are white, predicted boxes green if correct (IoU >= 0.5), otherwise red.

    Args:
        file: file to write.
        pictures: images to show, row by row.
    """
    pairs = [_pair(picture) for picture in pictures]
    blank = np.zeros_like(pairs[0])
    pairs += [blank] * (-len(pairs) % COLUMNS)
    rows = [np.hstack(pairs[start : start + COLUMNS]) for start in range(0, len(pairs), COLUMNS)]
    write_png(file, np.vstack(rows))


def _pair(picture: Picture) -> np.ndarray:
    """Return the image and its heat map overlay, side by side: uint8 (TILE, 2 TILE, 3) with a margin."""
    scale = (TILE - 4) / max(picture.image.shape[:2])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(picture.image, None, fx=scale, fy=scale, interpolation=interpolation)
    size = image.shape[1], image.shape[0]
    heat = cv2.applyColorMap(cv2.resize(picture.heat, size, interpolation=cv2.INTER_CUBIC), cv2.COLORMAP_JET)[..., ::-1]
    overlay = cv2.addWeighted(image, 0.5, np.ascontiguousarray(heat), 0.5, 0)
    out = np.zeros((TILE, 2 * TILE, 3), np.uint8)
    for left, part in ((0, image), (TILE, overlay)):
        drawn = part.copy()
        for box in picture.true_boxes:
            _draw(drawn, box * scale, WHITE)
        if left:
            _draw(drawn, picture.predicted_box * scale, GREEN if picture.iou >= 0.5 else RED)
        out[: size[1], left : left + size[0]] = drawn
    return out


def _draw(image: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw a half-open box in place."""
    x0, y0, x1, y1 = (int(value) for value in np.rint(box))
    cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), colour, 2)
