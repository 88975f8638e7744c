import math

import pytest
import torch

from wsol.errors import InputError
from wsol.functional.ranks import check_topk
from wsol.metrics import ClassificationError, classification_error


def test_class_and_function_equal_torch_topk():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 9, generator=generator), torch.randint(0, 9, (200,), generator=generator)
    metric = ClassificationError(topk=(1, 5))
    for some in torch.randperm(200, generator=generator).split(33):
        metric.update(logits[some], labels[some], some)
    expected = {
        f"top{k}_error": 100 - 100 * (logits.topk(k).indices == labels[:, None]).any(1).double().mean().item()
        for k in (1, 5)
    }
    assert metric.compute() == pytest.approx(expected, abs=1e-10)
    assert classification_error(logits, labels) == metric.compute()


def test_no_images():
    with pytest.warns(UserWarning, match="before"):
        assert all(math.isnan(value) for value in ClassificationError().compute().values())


def test_forward_gives_the_batch_and_keeps_the_whole():
    metric = ClassificationError(topk=(1,))
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert metric(logits, torch.tensor([0, 0]), torch.tensor([0, 1])) == {"top1_error": 50.0}
    assert metric(logits[:1], torch.tensor([0]), torch.tensor([2])) == {"top1_error": 0.0}
    assert metric.compute() == {"top1_error": 100 / 3}


@pytest.mark.parametrize("topk", [[0], [1, 1], [1.5], ["1"]])
def test_bad_topk_is_refused(topk):
    with pytest.raises(InputError, match="topk"):
        ClassificationError(topk=topk)


def test_more_than_there_are_classes_is_refused_with_a_remedy():
    metric = ClassificationError(topk=(1, 5))
    with pytest.raises(InputError, match=r"top-5 of 3 classes; try topk=\[1\]"):
        metric.update(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(InputError, match=r"try topk=\[1\]"):
        check_topk([5], 3)
