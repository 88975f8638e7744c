"""BAS against its network and loss written out, what gradients and statistics it touches, and why its map stays."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.choices import SMALL_VIT
from wsol.backbones.inception import InceptionV3
from wsol.backbones.mobilenet_v1 import MobileNetV1
from wsol.backbones.resnet import ResNet
from wsol.backbones.tiny import Tiny
from wsol.backbones.vit import ViT
from wsol.edits.adl import ADL
from wsol.errors import InputError
from wsol.heads.bas import BasHead, suppression
from wsol.models.localizer import Localizer

CLASSES = 5
LABELS = torch.tensor([3, 1, 3])
TARGETS = torch.eye(CLASSES)[LABELS]


def network(backbone=None, edits=None, **options) -> Localizer:
    torch.manual_seed(0)
    backbone = backbone or Tiny(widths=[8, 8, 12, 16])
    return Localizer(backbone, partial(BasHead, width=8, **options), CLASSES, edits=edits)


def written_out(model: Localizer, images: Tensor, relu: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores and the loss's terms, as Wu et al. compute them: with deep copies and image by image."""
    backbone, head = model.backbone, model.head

    def last(x: Tensor, net: nn.Module, branch: nn.Module) -> Tensor:
        return branch.classifier(branch(net.conv4(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    inner = backbone.conv3(backbone.pool2(backbone.conv2(backbone.pool1(backbone.conv1(images)))))
    copies = copy.deepcopy(backbone).requires_grad_(False), copy.deepcopy(head.branch).requires_grad_(False)
    planes = last(inner, backbone, head.branch)
    planes = planes.relu() if relu == "scores" else planes
    own = torch.stack([head.localizer(inner)[i, k].sigmoid()[None] for i, k in enumerate(LABELS)])
    outside = last(inner.detach() * (1 - own), *copies)
    outside = (outside.relu() if relu == "scores" else outside).mean((2, 3))
    scores, masked = planes.mean((2, 3)), (planes * own).mean((2, 3))
    ratios = []
    for i, k in enumerate(LABELS):
        b, s = outside[i, k].relu(), scores[i, k].detach().relu()
        above = b >= s if relu == "scores" else b > s
        ratios.append(torch.tensor(0.0 if relu == "scores" else 1.0) if above else b / (s + 1e-8))
    return scores, {
        "classification": F.cross_entropy(scores, LABELS),
        "masked": 0.5 * F.cross_entropy(masked, LABELS),
        "background": torch.stack(ratios).mean(),
        "area": 1.2 * own.mean(),
    }


@pytest.mark.parametrize("relu", ["scores", "ratio"])
def test_it_is_the_network_and_the_loss_of_the_paper(relu: str) -> None:
    model, images = network(relu=relu, alpha=0.5, beta=1.2).train(), torch.randn(3, 3, 32, 48)
    with torch.no_grad():
        model.head.branch.classifier.bias += torch.linspace(0.2, 1.0, CLASSES)
    twin = copy.deepcopy(model)
    scores, expected = written_out(twin, images, relu)
    output = model(images, LABELS)
    terms = model.loss(output, TARGETS)
    assert torch.allclose(output.logits, scores, atol=1e-6)
    assert list(terms) == list(expected)
    for name, term in terms.items():
        assert torch.allclose(term, expected[name], atol=1e-6), name
    assert 0 < expected["background"] < 1
    sum(terms.values()).backward()
    sum(expected.values()).backward()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name
    for (name, ours), theirs in zip(model.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs), f"{name}: the copy must leave the statistics as they are"


def test_the_ratio_reaches_the_backbone_through_the_map_alone() -> None:
    model, images = network().train(), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        model.head.branch.classifier.bias += 1

    def slopes() -> dict[str, Tensor | None]:
        model.zero_grad()
        model.loss(model(images, LABELS), TARGETS)["background"].backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    found = slopes()
    touched = {name for name, slope in found.items() if slope is not None and slope.abs().max() > 0}
    assert {"head.localizer.weight", "backbone.conv1.0.weight"} <= touched
    assert not any(name.startswith(("backbone.conv4", "head.branch")) for name in touched)
    model.head.localizer.register_forward_pre_hook(lambda layer, inputs: (inputs[0].detach(),))
    assert {name for name, slope in slopes().items() if slope is not None and slope.abs().max() > 0} == {
        "head.localizer.weight",
        "head.localizer.bias",
    }


def test_a_rerun_leaves_weights_and_statistics_alone_unless_it_is_not_frozen() -> None:
    model, x = network(edits={"conv4": ADL(0.75, 0.9)}).train(), torch.randn(2, 12, 8, 8, requires_grad=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.rerun(x).sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.rerun(x, frozen=False).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        "backbone.conv4.0.weight",
        "backbone.conv4.1.weight",
        "backbone.conv4.1.bias",
    }
    assert not torch.equal(model.state_dict()["backbone.conv4.1.running_mean"], before["backbone.conv4.1.running_mean"])


@torch.no_grad()
def test_a_rerun_of_the_same_features_gives_the_last_features_edits_included() -> None:
    class Halved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 0.5

    for edits in ({}, {"conv4": Halved()}, {"conv3": Halved()}):
        model = network(edits=edits).eval()
        features = model.backbone(torch.randn(1, 3, 32, 32), taps=["mid", "last"], edits=edits)
        for frozen in (True, False):
            assert torch.equal(model.rerun(features["mid"], frozen=frozen), features["last"])


@torch.no_grad()
@pytest.mark.parametrize(
    "backbone",
    [
        partial(ResNet, 18, width=8, late_stride=True),
        partial(MobileNetV1, 8, late_stride=True),
        partial(InceptionV3, "whole", late_stride=True),
    ],
    ids=["resnet", "mobilenet", "inception"],
)
def test_a_late_stride_keeps_the_inner_map_fine_and_the_last_one_as_it_was(backbone) -> None:
    net, images = backbone().eval(), torch.randn(1, 3, 224, 224)
    features = net(images, taps=["mid", "last"])
    assert [tuple(value.shape[2:]) for value in features.values()] == [(28, 28), (14, 14)]
    assert (net.points[net.aliases["mid"]].stride, net.points["last"].stride) == (8, 16)
    assert torch.equal(net.behind("mid", features["mid"]), features["last"])


def test_late_stride_refusals() -> None:
    for make in (
        lambda: ResNet(18, output_stride=8, late_stride=True),
        lambda: ResNet(18, dilate=True, late_stride=True),
        lambda: MobileNetV1(8, output_stride=32, late_stride=True),
    ):
        with pytest.raises(InputError, match=r"late_stride of .* moves the second last stride to the end"):
            make()
    with pytest.raises(InputError, match="set cut=whole and padded=true"):
        InceptionV3(late_stride=True)


@torch.no_grad()
def test_the_map_is_that_of_a_class_or_the_mean_of_the_best() -> None:
    model, images = network().eval(), torch.randn(2, 3, 32, 32)
    output, classes = model(images), torch.tensor([[4, 0], [1, 2]])
    inner = model.backbone(images, taps=["mid"])["mid"]
    planes = model.head.localizer(inner).sigmoid()
    expected = torch.stack([planes[image, asked] for image, asked in enumerate(classes)])
    assert torch.allclose(model.maps(output, classes), expected)
    model.head.top = 2
    best = [planes[image, scores.topk(2).indices].mean(0) for image, scores in enumerate(output.logits)]
    assert torch.allclose(model.maps(output, classes), torch.stack(best)[:, None].expand(-1, 2, -1, -1))
    model.head.top = 80
    assert torch.allclose(model.maps(output, classes), planes.mean(1, keepdim=True).expand(-1, 2, -1, -1))


def test_autocast_gives_float32_terms_and_finite_gradients() -> None:
    model = network().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.randn(3, 3, 32, 32), LABELS)
        terms = model.loss(output, TARGETS)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert model.maps(output, LABELS[:, None]).dtype == torch.float32
    sum(terms.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def squares(count: int) -> tuple[Tensor, Tensor]:
    """Squares of 8 cells of 16 in a corner, of one of two colours, on noise."""
    images, labels = 0.3 * torch.randn(count, 3, 16, 16), torch.arange(count) % 2
    for i, label in enumerate(labels):
        y, x = 8 * (i // 2 % 2), 8 * (i // 4 % 2)
        images[i, label, y : y + 8, x : x + 8] += 2
    return images, labels


class Collapsing(BasHead):
    """BAS without one of the things that keep its map; ``without`` is copy, detached or constant."""

    without = ""

    def forward(self, features, labels=None, rerun=None):
        if self.without != "copy" or labels is None:
            return super().forward(features, labels, rerun)
        output = super().forward(features, labels, rerun)
        hidden = self.branch(rerun(features[self.reruns].detach() * (1 - output.state["map"]), frozen=False))
        seen = self._planes(hidden, self.branch.classifier.weight, self.branch.classifier.bias).mean((2, 3))
        output.state["background"] = seen.gather(1, labels[:, None])[:, 0]
        return output

    def loss(self, output, targets, label_smoothing=0.0, pseudo=None):
        terms = super().loss(output, targets, label_smoothing)
        score = output.logits.gather(1, output.state["labels"][:, None])[:, 0].relu()
        background = output.state["background"].relu()
        if self.without == "detached":
            ratio = background / (score + 1e-8)
            terms["background"] = torch.where(background > score, torch.ones_like(ratio), ratio).mean()
        if self.without == "constant":
            terms["background"] = (background / (score.detach() + 1e-8)).mean()
        return terms


def slope_of_tail(without: str) -> tuple[float, float]:
    """How much the ratio pulls at the last stage and the classifier, and at the map where b exceeds s."""
    torch.manual_seed(0)
    model = Localizer(Tiny(widths=[8, 8, 8, 8]), partial(Collapsing, width=8), 2).eval()  # images apart
    model.head.without = without
    with torch.no_grad():  # class 0 loses score by the mask, class 1 gains
        model.head.branch.classifier.weight.abs_().mul_(torch.tensor([[1.0], [-1.0]]))
        model.head.branch.classifier.bias += 0.5
    images, labels = squares(8)
    output = model(images, labels)
    term = model.loss(output, torch.eye(2)[labels])["background"]
    tail = [*model.backbone.conv4.parameters(), *model.head.branch.parameters()]
    slopes = torch.autograd.grad(term, [*tail, output.state["map"]], allow_unused=True)
    score = output.logits.gather(1, labels[:, None])[:, 0]
    above = output.state["background"] > score
    assert above.any()
    assert not above.all()
    pulled = sum(float(slope.abs().sum()) for slope in slopes[:-1] if slope is not None)
    return pulled, float(slopes[-1][above].abs().sum())


@pytest.mark.parametrize(
    ("without", "pulls_tail", "pulls_map"),
    [("", False, False), ("copy", True, False), ("detached", True, False), ("constant", False, True)],
)
def test_each_safeguard_takes_a_way_out_from_the_ratio(without: str, pulls_tail: bool, pulls_map: bool) -> None:
    """Without it the ratio falls by training the classifier to be blind, or the map where nothing is learned yet."""
    tail, above = slope_of_tail(without)
    assert (tail > 0) == pulls_tail
    assert (above > 0) == pulls_map


@pytest.mark.parametrize("without", ["", "copy", "detached", "constant"])
def test_trained_on_squares_the_map_is_on_the_square_and_without_a_safeguard_it_is_not(without: str) -> None:
    torch.manual_seed(1)
    head = partial(Collapsing, width=16, beta=1.0, relu="ratio")
    model = Localizer(Tiny(widths=[8, 8, 16, 16], output_stride=1), head, 2).train()
    model.head.without = without
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images, labels = squares(8)
    for _ in range(80):
        optimizer.zero_grad()
        sum(model.loss(model(images, labels), torch.eye(2)[labels]).values()).backward()
        optimizer.step()
    with torch.no_grad():
        maps = model.eval().maps(model(images), labels[:, None])[:, 0]
    on_square = torch.zeros_like(maps, dtype=torch.bool)
    for i in range(len(images)):
        y, x = 8 * (i // 2 % 2), 8 * (i // 4 % 2)
        on_square[i, y : y + 8, x : x + 8] = True
    inside, outside = maps[on_square].mean(), maps[~on_square].mean()
    if not without:
        assert inside > 0.7
        assert outside < 0.3
    elif without == "constant":  # the map covers the background, too
        assert inside - outside < 0.5
    else:  # the map is empty: the network is blind to what is outside it
        assert inside < 0.3


def test_ratio_by_hand() -> None:
    background, score = torch.tensor([1.0, 3.0, 2.0, -1.0], requires_grad=True), torch.tensor([2.0, 2.0, 2.0, -2.0])
    assert suppression(background, score, "scores").tolist() == pytest.approx([0.5, 0, 0, 0])
    assert suppression(background, score, "ratio").tolist() == pytest.approx([0.5, 1, 1, 0])
    suppression(background, score, "ratio").sum().backward()
    assert background.grad.tolist() == pytest.approx([0.5, 0, 0.5, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relu": "rato"}, "unknown relu 'rato': did you mean 'ratio'"),
        ({"top": 0}, "top: expected a number of classes, 1 or more, got 0"),
        ({"beta": -1.0}, "alpha, beta: expected weights of at least 0"),
        ({"reruns": "layer3"}, "unknown point 'layer3'"),
        ({"reruns": "last"}, "no stage of Tiny comes after 'last'.*choose another point"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        network(**options)


def test_refusals_of_networks_and_of_a_loss_without_labels() -> None:
    with pytest.raises(InputError, match="ViT cannot rerun the stages after a point on other features"):
        network(ViT("deit_tiny_patch16_224", **SMALL_VIT))
    model = network().eval()
    with pytest.raises(InputError, match="needs the forward pass of a Localizer with labels"):
        model.loss(model(torch.randn(1, 3, 32, 32)), TARGETS[:1])
