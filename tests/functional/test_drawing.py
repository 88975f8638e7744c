"""Pictures for people: what is drawn where, in which colour."""

from __future__ import annotations

import numpy as np
import pytest

from wsol.functional.drawing import GREEN, PAIR, PAIRS, RED, WHITE, draw_boxes, overlay, picture_sheet
from wsol.types import Picture

BLACK = np.zeros((20, 30, 3), np.uint8)


def cells(image: np.ndarray, colour: tuple[int, int, int]) -> set[tuple[int, int]]:
    return {(int(x), int(y)) for y, x in np.argwhere((image == colour).all(-1))}


def test_a_box_covers_its_outermost_pixels_and_no_others() -> None:
    image = BLACK.copy()
    draw_boxes(image, np.array([[2.0, 3.0, 9.0, 8.0]]), WHITE, 1)
    edge = {(x, y) for x in range(2, 9) for y in range(3, 8)} - {(x, y) for x in range(3, 8) for y in range(4, 7)}
    assert cells(image, WHITE) == edge
    before = image.copy()
    draw_boxes(image, np.array([[5.0, 5.0, 5.0, 9.0], [0.0, 0.0, 0.0, 0.0]]), RED, 1)
    assert np.array_equal(image, before), "a box without area is none"


@pytest.mark.parametrize(("overlap", "colour"), [(None, GREEN), (0.5, GREEN), (0.49, RED)])
def test_a_predicted_box_is_green_if_correct_else_red(overlap: float | None, colour: tuple) -> None:
    box, true = np.array([1.0, 1, 20, 15]), np.array([[5.0, 5, 25, 18]])
    drawn = overlay(BLACK, np.zeros((20, 30)), box, true, overlap)
    assert (1, 1) in cells(drawn, colour)
    assert (24, 17) in cells(drawn, WHITE)
    picture = Picture("a", BLACK, np.zeros((5, 5), np.uint8), 0, 0, true, box, 1.0 if overlap is None else overlap)
    sheet = picture_sheet([picture])
    assert sheet.shape == (PAIR, 2 * PAIR * PAIRS, 3)
    assert cells(sheet, colour)
    assert not cells(sheet[:, :PAIR], colour), "the image itself has true boxes alone"
    assert cells(sheet[:, :PAIR], WHITE)
