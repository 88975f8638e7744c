"""ACoL's head against the chain of two ordinary classifiers, which is tested against loops, and what is its own."""

import pytest
import torch

from wsol.errors import InputError
from wsol.functional.attention import min_max_normalize
from wsol.heads.acol import AcolHead
from wsol.heads.acol_chain import AcolChainHead
from wsol.types import FeatureInfo

POINTS = {"mid": FeatureInfo(6, 8), "last": FeatureInfo(12, 16)}
K = 5
LABELS = torch.tensor([3, 0, 3])
CLASSES = torch.tensor([[0, 3], [4, 4], [2, 1]])


def head(kind: type = AcolHead, **options) -> AcolHead:
    torch.manual_seed(0)
    return kind(POINTS, K, **{"width": 8, **options})


def images() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(3, point.channels, 5, 7, generator=generator) for name, point in POINTS.items()}


@pytest.mark.parametrize("options", [{}, {"depth": 0, "delta": 0.9}, {"point": "mid", "kernel": 5}])
@pytest.mark.parametrize("erase_at_test", ["asked", "predicted", "label"])
@pytest.mark.parametrize("maps_from", ["a", "b", "ab"])
def test_it_is_the_chain_of_two_ordinary_classifiers(options: dict, erase_at_test: str, maps_from: str) -> None:
    options = {"depth": 2, "delta": 0.6, **options, "erase_at_test": erase_at_test, "maps_from": maps_from}
    model = head(**options)
    chain = head(AcolChainHead, recipe="pp", deltas=[options.pop("delta")], **options)
    chain.load_state_dict(model.state_dict())
    x, targets = images(), torch.eye(K)[LABELS]
    for training in (True, False):
        one, other = model.train(training)(x, LABELS), chain.train(training)(x, LABELS)
        assert torch.equal(one.logits, other.logits)
        assert model.loss(one, targets) == chain.loss(other, targets)
        assert torch.equal(model.maps(one, CLASSES), chain.maps(other, CLASSES))


@torch.no_grad()
def test_without_delta_nothing_is_erased() -> None:
    model, x = head(delta=None, maps_from="b").eval(), images()
    planes = model.classifier("b").class_maps(model.classifier("b")(x["last"]), CLASSES)
    assert torch.allclose(model.maps(model(x), CLASSES), min_max_normalize(planes), atol=1e-6)
    assert not torch.allclose(head(maps_from="b").eval().maps(model(x), CLASSES), min_max_normalize(planes), atol=1e-3)


@torch.no_grad()
def test_maps_of_a_alone_do_not_run_b() -> None:
    model, x = head(maps_from="a").eval(), images()
    model.classifier("b").register_forward_hook(lambda *_: pytest.fail("B is not needed"))
    assert model.maps(model(x), CLASSES).shape == (3, 2, 5, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 0.0}, "delta: .*strictly between.*got 0.0"),
        ({"delta": float("nan")}, "delta: .*got nan"),
        ({"maps_from": "ba"}, "unknown maps_from 'ba'.*Choices: a, ab, b"),
        ({"map_scaling": "min-max"}, "did you mean 'minmax'"),
        ({"erase_at_test": "labels"}, "did you mean 'label'"),
        ({"point": "layer9"}, "unknown point 'layer9'.*last, mid"),
        ({"kernel": 2}, "kernel: expected positive and odd"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        head(**options)
