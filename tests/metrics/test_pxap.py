import numpy as np
import pytest
import torch

from wsol.errors import InputError
from wsol.functional.pixels import average_precision, score_histograms
from wsol.metrics import PxAP


def draw(n):
    rng = np.random.default_rng(n)
    return rng.random((n, 6, 5)), rng.choice([0, 1, 255], (n, 6, 5)).astype(np.uint8)


def test_equals_the_function_on_all_images():
    scores, masks = draw(12)
    metric = PxAP()
    for start in range(0, 12, 5):
        index = torch.arange(start, min(start + 5, 12))
        metric.update(scores[start : start + 5], masks[start : start + 5], index)
    whole = sum(score_histograms(s, m) for s, m in zip(scores, masks, strict=True))
    assert metric.compute().item() == average_precision(whole)


def test_an_image_counts_once_in_a_batch_and_across_batches():
    scores, masks = draw(4)
    once, again = PxAP(), PxAP()
    once.update(scores, masks, torch.arange(4))
    again.update(scores[[0, 1, 1]], masks[[0, 1, 1]], torch.tensor([0, 1, 1]))
    again.update(scores[[2, 3, 0]], masks[[2, 3, 0]], torch.tensor([2, 3, 0]))
    again.update(scores[:1], masks[:1], torch.tensor([0]))
    assert torch.equal(once.histograms, again.histograms)
    assert again.joined("index").tolist() == [0, 1, 2, 3]
    again.reset()
    assert not again.histograms.any()


def test_bad_input_is_refused():
    scores, masks = draw(2)
    with pytest.raises(InputError, match="index: expected one for each of 2 images"):
        PxAP().update(scores, masks, torch.tensor([0]))
    metric = PxAP()
    metric.update(scores, np.zeros_like(masks), torch.arange(2))
    with pytest.raises(InputError, match="no object pixel"):
        metric.compute()
