import torch
from hypothesis import given
from hypothesis import strategies as st

from wsol.functional.ranks import INVALID, ranks_or_invalid, true_class_ranks


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=6), st.integers(0, 5))
def test_rank_is_the_place_in_a_stable_sort(scores, label):
    label %= len(scores)
    order = sorted(range(len(scores)), key=lambda k: (-scores[k], k))
    assert true_class_ranks(torch.tensor([scores]), torch.tensor([label])).tolist() == [order.index(label)]


def test_argmax_is_rank_zero():
    logits = torch.randint(0, 3, (50, 7), generator=torch.Generator().manual_seed(0)).float()
    assert not true_class_ranks(logits, logits.argmax(1)).any()


def test_labels_that_are_no_classes_are_marked_without_a_look_at_values():
    ranks = ranks_or_invalid(torch.zeros(3, 2), [0, -1, 2])
    assert ranks.tolist() == [0, INVALID, INVALID]


def test_nan_is_never_right():
    logits = torch.tensor([[float("nan"), 1.0], [0.0, float("nan")], [float("-inf"), float("inf")]])
    assert true_class_ranks(logits, torch.tensor([0, 0, 1])).tolist() == [2, 2, 0]
