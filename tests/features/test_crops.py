"""Images cut to boxes."""

from __future__ import annotations

import numpy as np
import pytest

from wsol.data.packed import Boxes
from wsol.data.source import Split
from wsol.errors import InputError
from wsol.features.crops import CroppedSplit, true_corners


class Numbered(Split):
    """Images (10, 12) whose pixel at x, y is (x, y, image)."""

    def __init__(self, boxes: list[list[tuple[float, ...]]] | None, inclusive: bool = False) -> None:
        count = 3 if boxes is None else len(boxes)
        packed = None if boxes is None else Boxes.pack(boxes, inclusive)
        super().__init__("test", [f"image{i}" for i in range(count)], list(range(count)), packed)

    def _read_image(self, row: int) -> np.ndarray:
        y, x = np.mgrid[:10, :12]
        return np.stack([x, y, np.full_like(x, row)], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("box", "first", "last"),
    [
        ((2, 3, 7, 9), (2, 3), (6, 8)),
        ((2.4, 3.9, 6.1, 8.2), (2, 3), (6, 8)),
        ((-3, -1, 30, 30), (0, 0), (11, 9)),
        ((5, 5, 5, 5), (0, 0), (11, 9)),
    ],
)
def test_a_crop_has_every_pixel_that_its_box_touches(box, first, last) -> None:
    split = CroppedSplit(Numbered(None), np.array([[0, 0, 1, 1], box, [0, 0, 1, 1]], dtype=float))
    image = split.image(1)
    assert (tuple(image[0, 0, :2]), tuple(image[-1, -1, :2])) == (first, last)
    assert image[0, 0, 2] == 1
    assert split.labels.tolist() == [0, 1, 2]
    assert split.subset([2, 1]).image(1).shape == image.shape


def test_several_true_boxes_count_as_one_around_them() -> None:
    boxes = [[(1, 2, 4, 5)], [(5, 1, 8, 3), (2, 2, 4, 9)]]
    assert true_corners(Numbered(boxes)).tolist() == [[1, 2, 4, 5], [2, 1, 8, 9]]
    assert true_corners(Numbered(boxes, inclusive=True)).tolist() == [[1, 2, 5, 6], [2, 1, 9, 10]]


@pytest.mark.parametrize("boxes", [None, [[(1, 2, 4, 5)], []]])
def test_images_without_a_true_box_are_named(boxes) -> None:
    with pytest.raises(InputError, match=r"crops=box: image 'image[01]' of split 'test' has no ground-truth box"):
        true_corners(Numbered(boxes))
