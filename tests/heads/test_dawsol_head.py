"""DA-WSOL's loss and centres against loops over images, and what cannot happen: NaN."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.cluster import k_means as reference
from torch import Tensor

from wsol.backbones.tiny import Tiny
from wsol.errors import InputError
from wsol.heads.dawsol import DawsolHead, linear_mmd
from wsol.models.localizer import Localizer
from wsol.types import FeatureInfo

CLASSES = 5
POINTS = {"last": FeatureInfo(6, 4)}
LABELS = torch.tensor([3, 1, 3])
TARGETS = torch.eye(CLASSES)[LABELS]


def head(**options) -> DawsolHead:
    torch.manual_seed(0)
    return DawsolHead(POINTS, CLASSES, **{"samples": 3, "iterations": 50, **options})


def features(count: int = 3) -> Tensor:
    """Cells around three means, one of them near 0."""
    torch.manual_seed(1)
    means = torch.tensor([[0.0] * 6, [3.0, 0, 0, 1, 0, 0], [0, 2.0, 3, 0, 0, 1]])
    return (
        (means.repeat_interleave(8, 0).expand(count, -1, -1) + 0.3 * torch.rand(count, 24, 6))
        .transpose(1, 2)
        .reshape(count, 6, 4, 6)
    )


def mmd_by_pairs(source: Tensor, target: Tensor, kernels: int) -> Tensor:
    both, m = torch.cat([source, target]), len(source)
    width = sum(((a - b) ** 2).sum() for a in both for b in both) / (4 * m * m - 2 * m) / 2 ** (kernels // 2)

    def k(a: Tensor, b: Tensor) -> Tensor:
        return sum(torch.exp(-((a - b) ** 2).sum() / (width * 2**i)) for i in range(kernels))

    total = 0
    for i in range(m):
        j = (i + 1) % m
        total += k(source[i], source[j]) + k(target[i], target[j]) - k(source[i], target[j]) - k(source[j], target[i])
    return total / m


def test_the_discrepancy_is_that_of_neighbouring_pairs() -> None:
    source, target = torch.randn(2, 4, 3), torch.randn(2, 4, 3) + 1
    for kernels in (5, 3):
        expected = torch.stack([mmd_by_pairs(s, t, kernels) for s, t in zip(source, target, strict=True)])
        assert torch.allclose(linear_mmd(source, target, kernels), expected, atol=1e-5)
    assert torch.equal(linear_mmd(source * 0, source * 0, 5), torch.zeros(2))


def test_terms_and_centres_are_those_of_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = head(mmd_weight=0.5, universum_weight=2.0).train(), features()
    monkeypatch.setattr(
        torch, "rand", lambda shape, device=None: torch.arange(shape[1], 0, -1) / 100 + torch.zeros(shape)
    )
    output = made({"last": x}, LABELS)
    terms = made.loss(output, TARGETS)
    cells, means = x.flatten(2).transpose(1, 2), x.mean((2, 3))
    starting = {1: means[1], 3: (means[0] + means[2]) / 2}
    found, distances, outside = [], [], []
    for own, mean, label in zip(cells, means, LABELS.tolist(), strict=True):
        starts = torch.stack([torch.zeros(6), mean, starting[label]]).numpy()
        centres, numbers, _ = reference(own.numpy(), 3, init=starts, n_init=1, tol=0, algorithm="lloyd")
        inside = [own[torch.from_numpy(numbers) == k] for k in range(3)]
        found.append(torch.from_numpy(centres))
        outside.append(inside[0])
        if len(inside[1]) >= 2 and len(inside[2]) >= 3:
            distances.append(mmd_by_pairs(torch.cat([mean[None], inside[1][:2]]), inside[2][:3], 5))
    assert len(distances) >= 2
    assert torch.allclose(terms["classification"], F.cross_entropy(output.logits, LABELS), atol=1e-6)
    assert torch.allclose(terms["mmd"], 0.5 * torch.stack(distances).mean(), atol=1e-5)
    assert torch.allclose(terms["universum"], 2 * torch.cat(outside).mean(), atol=1e-5)
    assert made.class_counts.tolist() == [0, 2, 0, 3, 0]
    assert torch.allclose(made.class_centres[1], (starting[1] + found[1][1]) / 2, atol=1e-5)
    assert torch.allclose(made.class_centres[3], (starting[3] + found[0][1] + found[2][1]) / 3, atol=1e-5)
    assert torch.allclose(made.universum, sum(centres[0] for centres in found) / 3, atol=1e-5)
    assert made.universum_count == 3
    assert (made.class_centres[[0, 2, 4]] == 0).all()


def test_centres_are_running_means_kept_with_the_weights_and_still_in_evaluation() -> None:
    made, x = head().train(), features()
    for _ in range(3):
        made.loss(made({"last": x}, LABELS), TARGETS)
    assert made.class_counts.tolist() == [0, 4, 0, 7, 0]
    assert made.universum_count == 9
    other = head()
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.class_centres, made.class_centres)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made.eval().loss(made({"last": x}, LABELS), TARGETS)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_centres_are_summed_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of one and two images, whose exchanges are replayed, have the centres of three in one."""
    x, whole = features(), head().train()
    whole.loss(whole({"last": x}, LABELS), TARGETS)
    parts = [slice(0, 1), slice(1, 3)]
    sums: list[list[Tensor]] = [[], []]
    first = 0

    def local(part: int, exchanged: list[Tensor]) -> DawsolHead:
        made, turn = head().train(), iter(range(9))

        def all_reduce(values: Tensor) -> None:
            number = next(turn)
            if number == first:
                sums[part].append(values.clone())
            if number < len(exchanged):
                values.copy_(exchanged[number])

        monkeypatch.setattr(dist, "all_reduce", all_reduce)
        made.loss(made({"last": x[parts[part]]}, LABELS[parts[part]]), TARGETS[parts[part]])
        return made

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    exchanged: list[Tensor] = []
    for first in range(2):  # noqa: B007 read by all_reduce
        for part in range(2):
            local(part, exchanged)
        exchanged.append(sums[0][-1] + sums[1][-1])
    for part in range(2):
        made = local(part, exchanged)
        for name, buffer in whole.named_buffers():
            assert torch.allclose(dict(made.named_buffers())[name], buffer, atol=1e-5), name


def test_where_no_image_counts_nothing_is_nan() -> None:
    model = Localizer(Tiny(widths=[4, 4, 4, 6]), partial(DawsolHead, samples=32), CLASSES).train()
    for side in (4, 16):
        for images in (torch.randn(3, 3, side, side), torch.zeros(3, 3, side, side)):
            model.zero_grad()
            terms = model.loss(model(images, LABELS), TARGETS)
            assert terms["mmd"] == 0
            sum(terms.values()).backward()
            assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(value.isfinite().all() for value in model.buffers())


def test_gradients_reach_the_cells_and_autocast_gives_float32() -> None:
    made, x = head().train(), features().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = made.loss(made({"last": x}, LABELS), TARGETS)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    for name in ("mmd", "universum"):
        (slope,) = torch.autograd.grad(terms[name], x, retain_graph=True)
        assert slope.isfinite().all()
        assert slope.abs().max() > 0


@torch.no_grad()
def test_a_score_is_the_mean_of_its_map() -> None:
    made = head().eval()
    output = made({"last": torch.randn(2, 6, 4, 5)})
    maps = made.maps(output, torch.arange(CLASSES).expand(2, -1))
    assert torch.allclose(maps.mean((2, 3)), output.logits, atol=1e-5)


@pytest.mark.parametrize("options", [{"samples": 1}, {"kernels": 0}, {"iterations": 0}])
def test_bad_arguments_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match="samples, kernels, iterations: expected at least 2, 1 and 1"):
        head(**options)
