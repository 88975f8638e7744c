import numpy as np

from wsol.functional.baselines import FRACTIONS, GAUSSIAN_STD, centre_boxes, centre_gaussian, whole_image


def test_the_largest_centre_box_is_the_whole_image():
    assert np.array_equal(centre_boxes((500, 375))[-1:], whole_image((500, 375)))


def test_centre_boxes_keep_centre_and_proportions():
    boxes = centre_boxes((51, 40))
    assert boxes.shape == (100, 4)
    assert np.allclose(boxes[:, :2] + boxes[:, 2:], [51, 40])
    assert np.allclose(boxes[:, 2:] - boxes[:, :2], FRACTIONS[:, None] * [51, 40])


def test_the_gaussian_by_hand():
    score_map = centre_gaussian((8, 4))
    assert score_map.shape == (4, 8)
    assert score_map.dtype == np.float32
    # pixel centre (0.5, 0.5) of 8 x 4: 3.5 / 8 and 1.5 / 4 away from the centre
    expected = np.exp(-((3.5 / 8 / GAUSSIAN_STD) ** 2 + (1.5 / 4 / GAUSSIAN_STD) ** 2) / 2)
    assert np.isclose(score_map[0, 0], expected)
    assert np.array_equal(score_map, score_map[::-1, ::-1])
    assert np.array_equal(centre_gaussian((5, 5)), centre_gaussian((5, 5)).T)
