"""The SPG head against a slow reference that loops over images and pixels, and its invariants."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol.errors import InputError
from wsol.heads.spg import SpgHead, seeds
from wsol.types import FeatureInfo

POINTS = {"early": FeatureInfo(6, 2), "mid": FeatureInfo(8, 4), "last": FeatureInfo(12, 4)}
SHAPES = {"early": (10, 14), "mid": (5, 7), "last": (5, 7)}
K = 5
LABELS = torch.tensor([3, 0, 3])
TARGETS = torch.eye(K)[LABELS]
STRUCTURES = {
    "paper": {},
    "no convolution": {"depth": 0, "b_width": 7},
    "one wide convolution": {"depth": 1, "kernel": 5},
    "low pixel count": {"min_foreground": 0},
    "wsolevaluation's thresholds": {"thresholds": [[0.7, 0.01], [0.5, 0.05], [0.7, 0.1]]},
    "all foreground is lowered": {"min_foreground": 10**6},
}


def head(training=True, **options):
    torch.manual_seed(0)
    model = SpgHead(POINTS, K, **{"width": 10, "b_width": 6, "c_width": 5, **options})
    with torch.no_grad():
        # Larger weights than fresh ones, so that every mask has all three kinds of pixels.
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.ndim > 1 else parameter.normal_()
    return model.train(training)


def images(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, POINTS[name].channels, *shape, generator=generator) for name, shape in SHAPES.items()}


def conv(layers, x):
    for layer in layers:
        if isinstance(layer, torch.nn.Conv2d):
            x = F.conv2d(x, layer.weight, layer.bias, padding="same")
        if isinstance(layer, torch.nn.ReLU):
            x = x.relu()
    return x


def slow_mask(guide, high, low, least):
    """1 object, 0 background, None ignored; for each pixel of one guide (H, W)."""
    values = guide.tolist()
    flat = [value for row in values for value in row]
    if sum(value > high for value in flat) < least:
        high = 0.7 * max(flat)
    return [[0 if value < low else 1 if value > high else None for value in row] for row in values]


def slow_loss(model, x):
    """The four terms, image by image and pixel by pixel."""
    sums = {name: [] for name in ("b2", "b1", "c")}
    classification = []
    for n, label in enumerate(LABELS.tolist()):
        early, mid, last = (x[tap][n : n + 1] for tap in model.taps)
        hidden = conv(model.branch.trunk, last)
        classifier = model.branch.classifier
        planes = F.conv2d(hidden, classifier.weight[:, :, None, None], classifier.bias)
        classification.append(-planes.mean((2, 3)).log_softmax(1)[0, label])
        up = torch.nn.Upsample(size=(20, 28), mode="bilinear")
        attention = up(planes[:, label : label + 1])[0, 0]
        attention = (attention - attention.min()) / (attention.max() - attention.min())
        b1 = up(conv(model.tail, conv(model.b1, early)))[0, 0]
        b2 = up(conv(model.tail, conv(model.b2, mid)))[0, 0]
        c = up(conv(model.c, hidden))[0, 0]
        p1, p2 = (1 / (1 + (-b).exp()) for b in (b1, b2))
        guided = {"b2": (b2, attention), "b1": (b1, p2), "c": (c, (p1 + p2) / 2)}
        for (name, (logits, guide)), (high, low) in zip(guided.items(), model.thresholds, strict=True):
            mask = slow_mask(guide, high, low, model.min_foreground)
            for row, kinds in zip(logits, mask, strict=True):
                for logit, kind in zip(row, kinds, strict=True):
                    if kind is not None:
                        sums[name].append(F.softplus(-logit if kind else logit))
    terms = {name: torch.stack(values).mean() for name, values in sums.items()}
    return {"classification": torch.stack(classification).mean(), **terms}, sums


@torch.no_grad()
@pytest.mark.parametrize("options", STRUCTURES.values(), ids=STRUCTURES)
def test_loss_equals_loops(options):
    model, x = head(**options), images()
    losses = model.loss(model(x, LABELS), TARGETS)
    expected, counted = slow_loss(model, x)
    assert set(losses) == {"classification", "b2", "b1", "c"}
    for name, value in losses.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-4)
    if not options:
        assert all(0 < len(values) < 3 * 20 * 28 for values in counted.values()), "some pixels are ignored"


@torch.no_grad()
def test_scores_and_maps_are_the_classifiers():
    model, x = head(training=False), images()
    output = model(x)
    hidden = conv(model.branch.trunk, x["last"])
    weight, bias = model.branch.classifier.weight, model.branch.classifier.bias
    planes = F.conv2d(hidden, weight[:, :, None, None])
    assert torch.allclose(output.logits, planes.mean((2, 3)) + bias, atol=1e-4)
    classes = torch.tensor([[0, 3], [4, 4], [2, 1]])
    maps = model.maps(output, classes)
    for n, row in enumerate(classes.tolist()):
        for m, label in enumerate(row):
            assert torch.allclose(maps[n, m], planes[n, label], atol=1e-4)
            assert torch.allclose(model.maps(output, classes[:, m : m + 1])[:, 0], maps[:, m], atol=1e-5)


@torch.no_grad()
def test_labels_choose_the_attention_and_nothing_else():
    model, x = head(), images()
    output = model(x, LABELS)
    assert torch.equal(output.logits, model(x).logits)
    best = output.logits.argmax(1)
    assert (best != LABELS).any()
    without, told, predicted = (model.loss(o, TARGETS) for o in (model(x), output, model(x, best)))
    assert without == predicted
    assert told["b2"] != without["b2"]
    assert all(told[name] == without[name] for name in ("classification", "b1", "c"))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    high=st.floats(0.3, 0.95),
    low=st.floats(0.01, 0.29),
    least=st.integers(0, 40),
    top=st.floats(0, 1),
)
def test_seeds_equal_loops(seed, high, low, least, top):
    maps = top * torch.rand(3, 1, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    is_object, counted = seeds(maps, high, low, least)
    for n in range(3):
        expected = slow_mask(maps[n, 0], high, low, least)
        assert is_object[n, 0].tolist() == [[kind == 1 for kind in row] for row in expected]
        assert counted[n, 0].tolist() == [[kind is not None for kind in row] for row in expected]


@torch.no_grad()
@pytest.mark.parametrize("value", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("least", [0, 30])
def test_features_without_any_difference_give_a_finite_loss(value, least):
    """Then the attention is 0 everywhere, and SPG-B may see foreground or background alone, or nothing that counts."""
    model = head(min_foreground=least)
    x = {name: torch.full_like(features, value) for name, features in images().items()}
    assert all(term.isfinite() for term in model.loss(model(x, LABELS), TARGETS).values())


def test_nothing_counted_is_a_loss_of_zero_with_gradients():
    model, x = head(min_foreground=0, thresholds=[[1, 0], [1, 0], [1, 0]]), images()
    losses = model.loss(model(x, LABELS), TARGETS)
    assert losses["b1"] == losses["c"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_gradients_reach_every_parameter_and_no_guide():
    model, x = head(), images()
    losses = model.loss(model(x, LABELS), TARGETS)
    sum(losses.values()).backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    guides = {"b2": model.branch, "b1": model.b2, "c": model.b1}
    for name, guide in guides.items():
        allowed = torch.autograd.grad(losses[name], list(guide.parameters()), retain_graph=True, allow_unused=True)
        reached = [gradient is not None for gradient in allowed]
        # SPG-C reads what the classifier's convolutions make; no mask carries a gradient.
        assert not any(reached), f"{name} must not train what made its mask"


@torch.no_grad()
def test_each_image_is_on_its_own():
    model, x = head(training=False), images()
    together = model(x)
    for n in range(3):
        alone = model({name: value[n : n + 1] for name, value in x.items()})
        assert torch.allclose(alone.logits[0], together.logits[n], atol=1e-4)
        classes = torch.tensor([[1, 2]])
        assert torch.allclose(model.maps(alone, classes)[0], model.maps(together, classes.expand(3, 2))[n], atol=1e-4)


@torch.no_grad()
def test_layout_and_bf16_change_nothing_of_weight():
    model, x = head(), images()
    plain = model.loss(model(x, LABELS), TARGETS)
    laid = {name: value.contiguous(memory_format=torch.channels_last) for name, value in x.items()}
    model = model.to(memory_format=torch.channels_last)
    for name, value in model.loss(model(laid, LABELS), TARGETS).items():
        assert torch.allclose(value, plain[name], rtol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model({name: value.bfloat16() for name, value in laid.items()}, LABELS)
        losses = model.loss(output, TARGETS)
    assert output.state["hidden"].dtype == torch.bfloat16
    assert output.logits.dtype == torch.float32
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())


def test_soft_targets_and_smoothing_reach_the_classification():
    model, x = head(), images()
    mixed = torch.tensor([[0.3, 0, 0, 0.7, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0]])
    output = model(x, mixed.argmax(1))
    value = model.loss(output, mixed, label_smoothing=0.1)["classification"]
    smoothed = 0.9 * mixed + 0.1 / K
    assert torch.allclose(value, -(smoothed * output.logits.log_softmax(1)).sum(1).mean())


@torch.no_grad()
def test_dropout_acts_in_training_alone_and_reaches_branch_c():
    model, x = head(training=False, dropout=0.5, depth=0), images()
    assert torch.equal(model(x).state["hidden"], x["last"])
    model.train()
    assert ((model(x).state["hidden"] == 0).float().mean() - 0.5).abs() < 0.1


def test_the_loss_decreases_on_a_toy_problem():
    """A bright square says the class by its channel; all branches learn."""
    torch.manual_seed(0)
    points = {name: FeatureInfo(K, 4) for name in POINTS}
    model = SpgHead(points, K, width=16, b_width=8, c_width=8, depth=1, min_foreground=4).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    labels = torch.arange(K).repeat(2)
    square = torch.zeros(8, 8)
    square[2:5, 3:6] = 1
    features = F.one_hot(labels, K)[:, :, None, None] * square + 0.05 * torch.rand(len(labels), K, 8, 8)
    history = []
    for _ in range(60):
        losses = model.loss(model(dict.fromkeys(points, features), labels), torch.eye(K)[labels])
        history.append({name: value.item() for name, value in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert all(history[-1][name] < 0.8 * history[0][name] for name in history[0])
    assert sum(history[-1].values()) < 0.5 * sum(history[0].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early": "layer9"}, "unknown point 'layer9'.*early, last, mid"),
        ({"mid": "pool9"}, "unknown point 'pool9'"),
        ({"point": "las"}, "did you mean 'last'"),
        ({"thresholds": [[0.7, 0.05], [0.5, 0.05]]}, "thresholds: expected three pairs"),
        ({"thresholds": [[0.7, 0.05, 0.1]] * 3}, "thresholds: expected three pairs"),
        ({"thresholds": [[0.05, 0.7], [0.5, 0.05], [0.7, 0.1]]}, "low < high"),
        ({"thresholds": [[1.7, 0.05], [0.5, 0.05], [0.7, 0.1]]}, "high <= 1.*1.7"),
        ({"min_foreground": -1}, "min_foreground"),
        ({"depth": -1}, "depth"),
        ({"kernel": 4}, "kernel"),
        ({"b_width": 0}, "width"),
        ({"dropout": -0.1}, "dropout"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        head(**options)
