"""The chain head against a slow reference that loops over images, with its invariants and ablations."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol.errors import InputError
from wsol.heads import erasing
from wsol.heads.acol_chain import AcolChainHead
from wsol.types import FeatureInfo

POINTS = {"mid": FeatureInfo(6, 8), "last": FeatureInfo(12, 16)}
K = 5
LABELS = torch.tensor([3, 0, 3])


def head(recipe="pp", deltas=None, training=False, **options):
    torch.manual_seed(0)
    deltas = [0.6, 0.4, 0.7][: len(recipe) - 1] if deltas is None else deltas
    model = AcolChainHead(POINTS, K, recipe=recipe, deltas=deltas, **{"width": 8, "depth": 2, **options})
    for branch in model.branches.values():
        torch.nn.init.normal_(branch.classifier.bias)
    return model.train(training)


def images(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, point.channels, 5, 7, generator=generator) for name, point in POINTS.items()}


def scaled(plane):
    span = plane.max() - plane.min()
    return (plane - plane.min()) / span if span > 0 else torch.zeros_like(plane)


def reference(model, image, eraser):
    """All planes of each classifier for one image (C, h, w), with a class that erases, or None."""
    x, planes = image[None], []
    for branch, delta in zip(model.branches.values(), [*model.deltas, None], strict=True):
        hidden = x
        for layer in branch.trunk:
            if isinstance(layer, torch.nn.Conv2d):
                hidden = F.conv2d(hidden, layer.weight, layer.bias, padding="same").relu()
        plane = F.conv2d(hidden, branch.classifier.weight[:, :, None, None], branch.classifier.bias)[0]
        planes.append(plane)
        if delta is not None and eraser is not None:
            mask = scaled(plane[eraser])
            x = x.clone()
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    if mask[row, column] >= delta:
                        x[0, :, row, column] = 0
    return planes


def reference_map(model, image, eraser, label, used):
    planes = [scaled(planes[label]) for planes in reference(model, image, eraser)]
    return torch.stack([planes[index] for index in used]).amax(0)


STRUCTURES = {
    "two convolutions": {},
    "1x1": {"depth": 0},
    "one wide convolution": {"depth": 1, "kernel": 5, "width": 16},
    "other point": {"point": "mid"},
}


@torch.no_grad()
@pytest.mark.parametrize("recipe", ["p", "pp", "pn", "ppp", "pnp", "pppp"])
@pytest.mark.parametrize("options", STRUCTURES.values(), ids=STRUCTURES)
def test_loss_and_maps_equal_loops(recipe, options):
    model, x = head(recipe, training=True, **options), images()
    output = model(x, LABELS)
    read = x[options.get("point", "last")]
    expected = dict.fromkeys("abcd"[: len(recipe)], 0.0)
    for image, label in zip(read, LABELS.tolist(), strict=True):
        for (name, letter), planes in zip(model.recipe.items(), reference(model, image, label), strict=True):
            chances = planes.mean((1, 2)).log_softmax(0)
            others = [chances[k] for k in range(K) if k != label]
            expected[name] -= (chances[label] if letter == "p" else sum(others) / len(others)) / 3
    losses = model.loss(output, F.one_hot(LABELS, K).float())
    assert list(losses) == list(expected)
    for name, value in losses.items():
        assert torch.allclose(value, expected[name], atol=1e-5)
    firsts = [reference(model, image, None)[0].mean((1, 2)) for image in read]
    assert torch.allclose(output.logits, torch.stack(firsts), atol=1e-5)

    classes = torch.tensor([[0, 3], [4, 4], [2, 1]])
    maps = model.eval().maps(model(x), classes)
    used = [index for index, letter in enumerate(recipe) if letter == "p"]
    for n, row in enumerate(classes.tolist()):
        for m, label in enumerate(row):
            assert torch.allclose(maps[n, m], reference_map(model, read[n], label, label, used), atol=1e-5)
    assert maps.amin() >= 0
    assert maps.amax() == 1


@torch.no_grad()
@pytest.mark.parametrize(("mode", "erasers"), [("asked", None), ("predicted", "argmax"), ("label", "labels")])
def test_who_erases_at_test(mode, erasers):
    model, x = head("ppp", erase_at_test=mode, maps_from="bc"), images()
    classes = torch.tensor([[0, 3], [4, 4], [2, 1]])
    output = model(x, LABELS)
    best = output.logits.argmax(1)
    maps = model.maps(output, classes)
    for n in range(3):
        for m in range(2):
            eraser = {None: classes[n, m], "argmax": best[n], "labels": LABELS[n]}[erasers]
            expected = reference_map(model, x["last"][n], eraser, classes[n, m], [1, 2])
            assert torch.allclose(maps[n, m], expected, atol=1e-5)


@torch.no_grad()
def test_labels_at_test_act_where_asked_for_alone():
    x, classes = images(), torch.tensor([[1], [4], [2]])
    for mode in ("asked", "predicted"):
        model = head(erase_at_test=mode, scores="mean")
        with_labels, without = model(x, LABELS), model(x)
        assert torch.equal(with_labels.logits, without.logits), "true labels must not leak into scores"
        assert torch.equal(model.maps(with_labels, classes), model.maps(without, classes))
    by_label = head(erase_at_test="label", maps_from="b")
    assert torch.equal(by_label.maps(by_label(x), classes), head(maps_from="b").maps(head()(x), classes))
    assert not torch.equal(by_label.maps(by_label(x, LABELS), classes), by_label.maps(by_label(x), classes))


@torch.no_grad()
def test_without_labels_the_best_class_erases_in_training():
    model, x = head("ppp", training=True), images()
    targets = torch.eye(K)[LABELS]
    output = model(x)
    expected = model.loss(model(x, output.logits.argmax(1)), targets)
    assert model.loss(output, targets) == expected
    assert model.loss(model(x, LABELS), targets) != expected


@torch.no_grad()
@pytest.mark.parametrize("recipe", ["pp", "pnp"])
def test_mean_scores_are_those_of_the_ordinary_classifiers(recipe):
    model, x = head(recipe, scores="mean"), images()
    for image, logits in zip(x["last"], model(x).logits, strict=True):
        best = reference(model, image, None)[0].mean((1, 2)).argmax()
        planes = reference(model, image, best)
        means = [planes.mean((1, 2)) for planes, letter in zip(planes, recipe, strict=True) if letter == "p"]
        assert torch.allclose(logits, sum(means) / 2, atol=1e-5)
    trained, targets = model.train()(x, LABELS), torch.eye(K)[LABELS]
    assert model.loss(trained, targets) == model.loss(head(recipe, training=True)(x, LABELS), targets)


@torch.no_grad()
@settings(deadline=None, max_examples=25)
@given(
    cells=st.sampled_from([1, 40, 300, 2**16]),
    chosen=st.lists(st.lists(st.integers(0, K - 1), min_size=3, max_size=3), min_size=0, max_size=7),
    mode=st.sampled_from(erasing.ERASERS),
    recipe=st.sampled_from(["p", "pp", "pnp"]),
)
def test_maps_asked_together_are_those_asked_one_by_one(cells, chosen, mode, recipe):
    model, x = head(recipe, erase_at_test=mode), images()
    output = model(x, LABELS)
    classes = torch.tensor(chosen, dtype=torch.int64).reshape(-1, 3).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erasing, "CELLS", cells)
        together = model.maps(output, classes)
    assert together.shape == (3, len(chosen), 5, 7)
    for m in range(len(chosen)):
        assert torch.allclose(together[:, m : m + 1], model.maps(output, classes[:, m : m + 1]), atol=1e-5)


@torch.no_grad()
def test_maps_of_many_classes_never_hold_more_than_a_bounded_batch():
    model, x, largest = head(depth=1), images(), []
    model.branches["b"].register_forward_hook(lambda _, inputs, __: largest.append(len(inputs[0])))
    output = model(x)
    assert not largest, "scores of A need A alone"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erasing, "CELLS", 10 * 35)
        model.maps(output, torch.arange(K).repeat(3, 2))
    assert (max(largest), sum(largest)) == (10, 30)


@torch.no_grad()
def test_each_image_is_on_its_own():
    model, x = head("ppp"), images()
    together = model(x)
    classes = torch.tensor([[1, 2], [0, 4], [3, 3]])
    for n in range(3):
        alone = model({"last": x["last"][n : n + 1]})
        assert torch.allclose(alone.logits[0], together.logits[n], atol=1e-6)
        maps = model.maps(alone, classes[n : n + 1])
        assert torch.allclose(maps[0], model.maps(together, classes)[n], atol=1e-5)


@torch.no_grad()
def test_layout_and_bf16_change_nothing_of_weight():
    model, x = head(), images()
    classes = torch.tensor([[1, 2], [0, 4], [3, 3]])
    plain = model.maps(model(x), classes)
    laid = {"last": x["last"].contiguous(memory_format=torch.channels_last)}
    model = model.to(memory_format=torch.channels_last)
    assert torch.allclose(model.maps(model(laid), classes), plain, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model({"last": laid["last"].bfloat16()}, LABELS)
        maps = model.maps(output, classes)
        losses = model.loss(output, torch.eye(K)[LABELS])
    assert output.state["a"].dtype == torch.bfloat16
    assert output.logits.dtype == maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert all(value.isfinite() for value in losses.values())
    assert torch.allclose(output.logits, model(x).logits, atol=0.05)


@pytest.mark.parametrize("recipe", ["p", "pp", "pn", "ppp"])
def test_gradients_reach_every_parameter_but_do_not_pass_the_mask(recipe):
    model, x = head(recipe, training=True), images()
    losses = model.loss(model(x, LABELS), torch.eye(K)[LABELS])
    for name, value in losses.items():
        own = torch.autograd.grad(value, list(model.branches[name].parameters()), retain_graph=True)
        assert all(gradient.abs().max() > 0 for gradient in own)
        others = [p for other, branch in model.branches.items() if other != name for p in branch.parameters()]
        through = torch.autograd.grad(value, others, retain_graph=True, allow_unused=True) if others else ()
        assert all(gradient is None for gradient in through), "a classifier learns nothing from what it erased"


@pytest.mark.parametrize("recipe", ["pp", "pn"])
def test_soft_targets_and_smoothing(recipe):
    model, x = head(recipe, training=True), images()
    mixed = torch.tensor([[0.3, 0, 0, 0.7, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0]])
    output = model(x, mixed.argmax(1))
    losses = model.loss(output, mixed, label_smoothing=0.1)
    smoothed = 0.9 * mixed + 0.1 / K
    goal = smoothed if recipe == "pp" else (1 - smoothed) / (K - 1)
    last = torch.stack(
        [reference(model, image, label)[-1].mean((1, 2)) for image, label in zip(x["last"], LABELS, strict=True)]
    )
    assert torch.allclose(losses["b"], -(goal * last.log_softmax(1)).sum(1).mean(), atol=1e-5)


@torch.no_grad()
def test_ablations_differ_and_say_what_they_do():
    x, classes = images(), torch.tensor([[1, 2], [0, 4], [3, 2]])

    def maps(**options):
        model = head(**options)
        return model.maps(model(x), classes)

    a, b, both = maps(maps_from="a"), maps(maps_from="b"), maps()
    assert torch.equal(both, torch.maximum(a, b))
    assert torch.equal(maps(maps_from="ba"), both)
    assert torch.allclose(maps(fusion="mean"), (a + b) / 2)
    assert torch.allclose(maps(recipe="p"), a, atol=1e-6)
    different = [a, b, both, maps(deltas=[0.3]), maps(fusion="mean"), maps(map_scaling="max")]
    assert all(not torch.equal(p, q) for i, p in enumerate(different) for q in different[:i])


@torch.no_grad()
def test_maps_over_their_maximum_have_no_negative_values():
    model, x, classes = head(map_scaling="max", maps_from="a"), images(), torch.tensor([[1], [0], [3]])
    output = model(x)
    planes = model.branches["a"].class_maps(output.state["a"], classes)
    assert (planes < 0).any()
    assert torch.allclose(model.maps(output, classes), planes.clamp(min=0) / planes.amax((2, 3), keepdim=True))


@torch.no_grad()
def test_features_without_any_difference_give_finite_maps_and_loss():
    """No feature at all, as behind dead units: min-max scaling has nothing to divide by."""
    model = head("ppp", depth=0, training=True)
    output = model({"last": torch.zeros(3, 12, 5, 7)}, LABELS)
    assert all(value.isfinite() for value in model.loss(output, torch.eye(K)[LABELS]).values())
    assert not model.maps(output, LABELS[:, None]).any()


def test_dropout_acts_in_training_alone():
    model, x = head(dropout=0.5), images()
    assert torch.equal(model(x).logits, model(x).logits)
    model.train()
    assert not torch.equal(model(x).logits, model(x).logits)


def test_adversarial_classifier_learns_to_avoid_the_label():
    """Toy problem: each class lights up a channel of its own; A learns the class and B, told otherwise, avoids it."""
    torch.manual_seed(0)
    model = AcolChainHead({"last": FeatureInfo(K, 1)}, K, recipe="pn", deltas=[0.9], depth=0).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    labels = torch.arange(K).repeat(4)
    x = {"last": F.one_hot(labels, K)[:, :, None, None] * (0.5 + torch.rand(20, K, 4, 4))}
    targets = F.one_hot(labels, K).float()
    history = []
    for _ in range(60):
        losses = model.loss(model(x, labels), targets)
        history.append({name: value.item() for name, value in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert history[-1]["a"] < 0.5 * history[0]["a"]
    assert history[-1]["b"] < history[0]["b"]
    scores = model.branches["b"].scores(x["last"])
    assert (scores.argmin(1) == labels).all()
    assert (model(x).logits.argmax(1) == labels).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "px"}, "recipe: expected a letter.*'px'"),
        ({"recipe": ""}, "recipe"),
        ({"recipe": "np"}, "starting with p"),
        ({"recipe": "p" * 27}, "at most 26"),
        ({"deltas": []}, r"recipe 'pp' has 1 erasing steps.*got 0: \[\]"),
        ({"recipe": "p", "deltas": [0.5]}, "has 0 erasing steps.*got 1"),
        ({"deltas": [0.0]}, "deltas: .*strictly between 0 and 1, got 0.0"),
        ({"deltas": [1.0]}, "deltas: .*strictly between 0 and 1, got 1.0"),
        ({"deltas": [float("nan")]}, "deltas: .*got nan"),
        ({"recipe": "ppp", "deltas": [0.5, -1]}, "got -1"),
        ({"point": "layer9"}, "unknown point 'layer9'.*last, mid"),
        ({"scores": "a"}, "unknown scores 'a'.*first, mean"),
        ({"fusion": "min"}, "unknown fusion"),
        ({"map_scaling": "min-max"}, "did you mean 'minmax'"),
        ({"erase_at_test": "labels"}, "did you mean 'label'"),
        ({"maps_from": "c"}, "maps_from: expected letters of the classifiers 'ab', got 'c'"),
        ({"maps_from": ""}, "maps_from"),
        ({"depth": -1}, "depth"),
        ({"kernel": 2}, "kernel: expected positive and odd"),
        ({"width": 0}, "width"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        head(**options)


def test_one_class_has_no_others():
    with pytest.raises(InputError, match=re.escape("needs at least 2 classes, got 1")):
        AcolChainHead(POINTS, num_classes=1, recipe="pn", deltas=[0.5])
