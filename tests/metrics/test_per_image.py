"""Rows keyed by image: each image once, in the order of the split."""

import numpy as np
import pytest
import torch

from wsol.errors import InputError
from wsol.metrics._per_image import PerImage


class Values(PerImage):
    """Keeps one number and one pair for each image."""

    def __init__(self):
        super().__init__()
        self.add_rows("number", None, torch.float32)
        self.add_rows("pair", 2, torch.int32)

    def update(self, index, number, pair):
        self.append(index, number=number, pair=pair)

    def compute(self):
        return self.rows()


def test_rows_come_back_in_the_order_of_the_split_once_each():
    metric = Values()
    metric.update([5, 1], [0.5, 0.1], [[5, 5], [1, 1]])
    metric.update([3, 5], [0.3, 0.5], [[3, 3], [5, 5]])
    rows = metric.compute()
    assert rows["index"].tolist() == [1, 3, 5]
    assert rows["number"].tolist() == np.float32([0.1, 0.3, 0.5]).tolist()
    assert rows["pair"].tolist() == [[1, 1], [3, 3], [5, 5]]
    metric.reset()
    metric.update([], np.zeros(0), np.zeros((0, 2)))
    assert metric.compute()["pair"].shape == (0, 2)


def test_kept_rows_are_copies():
    metric, pair = Values(), torch.tensor([[1, 2]], dtype=torch.int32)
    metric.update([0], [0.0], pair)
    pair.zero_()
    assert metric.compute()["pair"].tolist() == [[1, 2]]


def test_rows_of_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"number of shape \(2,\), got \(1,\)"):
        Values().update([0, 1], [0.0], [[1, 1], [2, 2]])
    with pytest.raises(InputError, match=r"pair of shape \(1, 2\)"):
        Values().update([0], [0.0], [[1, 1, 1]])
    with pytest.raises(InputError, match="index of shape"):
        Values().update([[0]], [0.0], [[1, 1]])


def test_rows_without_a_position_follow_in_order_of_arrival():
    metric = Values()
    metric.update([-1, 4], [0.1, 0.4], [[1, 1], [4, 4]])
    metric.update([-1, 4, 2], [0.2, 0.4, 0.3], [[2, 2], [4, 4], [3, 3]])
    rows = metric.compute()
    assert rows["index"].tolist() == [2, 4, 5, 6]
    assert rows["number"].tolist() == np.float32([0.3, 0.4, 0.1, 0.2]).tolist()


def test_a_refused_row_keeps_none_of_the_others():
    metric = Values()
    with pytest.raises(InputError, match="pair of shape"):
        metric.update([0], [0.0], [[1, 1, 1]])
    assert metric.rows()["index"].tolist() == []


def test_many_small_batches_make_few_tensors():
    metric = Values()
    for i in range(1000):
        metric.update([i], [0.0], [[i, i]])
    assert len(metric.index) <= 10
