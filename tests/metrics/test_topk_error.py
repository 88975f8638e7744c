import pytest
import torch

from wsol.errors import InputError
from wsol.functional.ranks import check_topk
from wsol.metrics import TopKError, topk_error


def test_class_and_function_equal_torch_topk():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 9, generator=generator), torch.randint(0, 9, (200,), generator=generator)
    metric = TopKError(topk=(1, 5))
    for some in torch.randperm(200, generator=generator).split(33):
        metric.update(logits[some], labels[some], some)
    expected = {
        f"top{k}_error": 100 - 100 * (logits.topk(k).indices == labels[:, None]).any(1).double().mean().item()
        for k in (1, 5)
    }
    found = {name: error.item() for name, error in metric.compute().items()}
    assert found == pytest.approx(expected, abs=1e-10)
    assert topk_error(logits, labels) == metric.compute()


@pytest.mark.parametrize("topk", [[0], [1, 1], [1.5], ["1"]])
def test_bad_topk_is_refused(topk):
    with pytest.raises(InputError, match="topk"):
        TopKError(topk=topk)


def test_more_than_there_are_classes_is_refused_with_a_remedy():
    metric = TopKError(topk=(1, 5))
    with pytest.raises(InputError, match=r"top-5 of 3 classes; try topk=\[1\]"):
        metric.update(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(InputError, match=r"try topk=\[1\]"):
        check_topk([5], 3)
