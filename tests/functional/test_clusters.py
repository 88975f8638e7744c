"""K-means of a batch against scikit-learn, image by image."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import k_means as reference

from wsol.functional.clusters import k_means


def blobs(count: int, cells: int, channels: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(count, cells, channels) + 4 * torch.randn(count, 3, channels).repeat_interleave(cells // 3, 1)


def same_as_scikit_learn(cells: torch.Tensor, starts: torch.Tensor) -> None:
    labels, centres = k_means(cells, starts, iterations=50)
    for image in range(len(cells)):
        expected, numbers, _ = reference(
            cells[image].numpy(), 3, init=starts[image].numpy(), n_init=1, tol=0, algorithm="lloyd"
        )
        np.testing.assert_array_equal(labels[image].numpy(), numbers)
        np.testing.assert_allclose(centres[image].numpy(), expected, atol=1e-4)


def test_it_finds_what_scikit_learn_finds() -> None:
    cells = blobs(6, 48, 5)
    same_as_scikit_learn(cells, cells[:, [3, 20, 40]])
    starts = torch.stack([torch.zeros(6, 5), cells.mean(1), cells[:, 0]], 1)
    same_as_scikit_learn(cells, starts)


def test_equal_starts_and_empty_clusters_are_filled_as_there() -> None:
    cells = blobs(6, 48, 5)
    mean = cells.mean(1)
    same_as_scikit_learn(cells, torch.stack([torch.zeros_like(mean), mean, mean], 1))
    far = torch.full_like(mean, 1e3)
    same_as_scikit_learn(cells, torch.stack([mean, far, far], 1))


def test_an_image_does_not_depend_on_others() -> None:
    cells = blobs(3, 12, 4)
    starts = cells[:, [0, 5, 9]]
    labels, centres = k_means(cells, starts, 10)
    for image in range(3):
        alone = k_means(cells[image : image + 1], starts[image : image + 1], 10)
        assert torch.equal(alone[0][0], labels[image])
        assert torch.allclose(alone[1][0], centres[image])


def test_fewer_cells_than_clusters() -> None:
    labels, centres = k_means(torch.randn(2, 2, 3), torch.zeros(2, 3, 3), 5)
    assert labels.shape == (2, 2)
    assert centres.isfinite().all()
