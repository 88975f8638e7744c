"""Everything that is drawn: images under heat maps, boxes, and sheets of small pictures.

Images are uint8 (H, W, 3) RGB. True boxes are white, predicted ones green if correct, else red.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from wsol.types import Picture

WHITE, GREEN, RED, GREY = (255, 255, 255), (60, 230, 60), (255, 60, 60), (60, 60, 60)
CORRECT = 0.5
"""Least overlap (IoU) of a box that is drawn as correct."""

PAIR, PAIRS = 192, 4
"""Of `picture_sheet`: side of a picture with its margin, pixels; pairs in a row."""
TILE, GAP, CAPTION = 128, 6, 20
"""Of `sheet`: side of a picture, distance of two, and height of a row's caption, pixels."""


def overlay(
    image: np.ndarray,
    score_map: np.ndarray | None,
    box: np.ndarray,
    true_boxes: np.ndarray,
    overlap: float | None = None,
) -> np.ndarray:
    """Draw an image under its heat map, with boxes, at full size.

    Args:
        image: uint8 (H, W, 3) RGB.
        score_map: real (H, W) in [0, 1]; None to draw the boxes alone.
        box: real (4,) predicted, half-open; green, or red if it overlaps the true ones by less than `CORRECT`.
        true_boxes: real (M, 4), half-open.
        overlap: IoU of the two; None if there is no true box.

    Returns:
        uint8 (H, W, 3) RGB.

    Example:
        >>> overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), np.array([0, 0, 2, 2]), np.zeros((0, 4))).shape
        (4, 4, 3)
    """
    out = image.copy() if score_map is None else with_heat_map(image, (score_map * 255).astype(np.uint8))
    width = max(round(max(image.shape[:2]) / 150), 1)
    draw_boxes(out, true_boxes, WHITE, width)
    draw_boxes(out, [box], GREEN if overlap is None or overlap >= CORRECT else RED, width)
    return out


def with_heat_map(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return an image uint8 (H, W, 3) with a map uint8 (H, W) over it, from blue to red."""
    heat = cv2.applyColorMap(levels, cv2.COLORMAP_JET)[..., ::-1]
    return cv2.addWeighted(image, 0.5, np.ascontiguousarray(heat), 0.5, 0)


def draw_boxes(
    image: np.ndarray, boxes: np.ndarray | Sequence[np.ndarray], colour: tuple[int, int, int], width: int
) -> None:
    """Draw half-open boxes, real (M, 4), in place; one without area is no box."""
    for box in boxes:
        x0, y0, x1, y1 = (int(value) for value in np.rint(box))
        if x1 > x0 and y1 > y0:
            cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), colour, width)


def resize_to_fit(image: np.ndarray, side: int, *, enlarge: bool = True) -> np.ndarray:
    """Return an image resized so that its longer side is ``side`` pixels, the shape kept.

    Args:
        image: uint8 (H, W, 3).
        side: pixels.
        enlarge: False keeps the size of a smaller image.

    Example:
        >>> resize_to_fit(np.zeros((100, 50, 3), np.uint8), 20).shape
        (20, 10, 3)
        >>> resize_to_fit(np.zeros((5, 9, 3)), 20, enlarge=False).shape
        (5, 9, 3)
    """
    height, width = image.shape[:2]
    size = fitted_size(width, height, side, enlarge=enlarge)
    if size == (width, height):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if size[0] < width else cv2.INTER_CUBIC)


def fitted_size(width: int, height: int, side: int, *, enlarge: bool = True) -> tuple[int, int]:
    """Return the size (width, height) at which the longer side is ``side``; see `resize_to_fit`."""
    scale = side / max(width, height)
    scale = scale if enlarge else min(scale, 1.0)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def picture_sheet(pictures: Sequence[Picture]) -> np.ndarray:
    """Lay out evaluated images, each beside itself under its heat map, if it has one, and with its box.

    Returns:
        uint8 (H, W, 3) RGB on a black background.
    """
    pairs = [_pair(picture) for picture in pictures]
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % PAIRS)
    rows = [np.hstack(pairs[start : start + PAIRS]) for start in range(0, len(pairs), PAIRS)]
    return np.vstack(rows)


def _pair(picture: Picture) -> np.ndarray:
    """Return the image and the image under its heat map, side by side: uint8 (PAIR, 2 PAIR, 3) with a margin."""
    image = resize_to_fit(picture.image, PAIR - 4)
    height, width = image.shape[:2]
    scale = (PAIR - 4) / max(picture.image.shape[:2])
    heat = image.copy()
    if picture.heat is not None:
        heat = with_heat_map(image, cv2.resize(picture.heat, (width, height), interpolation=cv2.INTER_CUBIC))
    out = np.zeros((PAIR, 2 * PAIR, 3), np.uint8)
    for left, part in ((0, image.copy()), (PAIR, heat)):
        draw_boxes(part, picture.true_boxes * scale, WHITE, 2)
        if left:
            draw_boxes(part, [picture.predicted_box * scale], GREEN if picture.iou >= CORRECT else RED, 2)
        out[:height, left : left + width] = part
    return out


def sheet(title: str, rows: Sequence[tuple[Sequence[str], Sequence[np.ndarray]]]) -> np.ndarray:
    """Lay out rows of pictures under their captions.

    Args:
        title: title of the sheet.
        rows: captions, the first above the first picture and so on, and pictures uint8 (H, W, 3) RGB, of any sizes;
            each is fitted into a tile.

    Returns:
        uint8 (H, W, 3) RGB on a white background.

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
            tile = resize_to_fit(picture, TILE)
            y = top + CAPTION + (TILE - tile.shape[0]) // 2
            x = GAP + column * (TILE + GAP) + (TILE - tile.shape[1]) // 2
            out[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return out


def _write(out: np.ndarray, text: str, at: tuple[int, int], width: int) -> None:
    """Write text in place, its baseline starting ``at`` x, y; OpenCV's fonts have ASCII only."""
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(out, plain, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, GREY, width, cv2.LINE_AA)
