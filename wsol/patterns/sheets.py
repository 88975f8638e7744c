"""Contact sheets: rows of small images with captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

TILE = 128
"""Side of an image, pixels."""
GAP = 6
CAPTION = 20
"""Height of a row's caption, pixels."""
WHITE, GREY = (255, 255, 255), (60, 60, 60)


def sheet(title: str, rows: Sequence[tuple[Sequence[str], Sequence[np.ndarray]]]) -> np.ndarray:
    """Lay out rows of images under their captions.

    Args:
        title: title of the sheet.
        rows: captions, the first above the first image and so on, and images uint8 (H, W, 3) RGB, of any sizes;
            each is fitted into a tile.

    Returns:
        uint8 (H, W, 3) RGB, white where empty.

    Example:
        >>> sheet("dog", [(["unit 3"], [np.zeros((4, 8, 3), np.uint8)] * 3), (["unit 9"], [])]).shape
        (334, 408, 3)
    """
    columns = max([3, *(len(pictures) for _, pictures in rows)])
    height = CAPTION + GAP + len(rows) * (CAPTION + TILE + GAP)
    out = np.full((height, columns * (TILE + GAP) + GAP, 3), 255, np.uint8)
    _write(out, title, (GAP, CAPTION - GAP), 2)
    for number, (captions, pictures) in enumerate(rows):
        top = CAPTION + GAP + number * (CAPTION + TILE + GAP)
        for column, caption in enumerate(captions):
            _write(out, caption, (GAP + column * (TILE + GAP), top + CAPTION - GAP), 1)
        for column, picture in enumerate(pictures):
            tile = _fitted(picture)
            y = top + CAPTION + (TILE - tile.shape[0]) // 2
            x = GAP + column * (TILE + GAP) + (TILE - tile.shape[1]) // 2
            out[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return out


def _fitted(picture: np.ndarray) -> np.ndarray:
    """Resize to fit a tile, keeping the aspect ratio."""
    scale = TILE / max(picture.shape[:2])
    size = tuple(max(round(side * scale), 1) for side in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _write(out: np.ndarray, text: str, at: tuple[int, int], width: int) -> None:
    """Write text in place, its baseline starting ``at`` x, y; OpenCV's fonts have ASCII only."""
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(out, plain, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, GREY, width, cv2.LINE_AA)
