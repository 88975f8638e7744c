"""The GAP head against slow references, its pooling limits, and every file of configs/method that uses it."""

import math

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.choices import choices, load_choice
from wsol.errors import InputError
from wsol.heads.base import soft_cross_entropy
from wsol.heads.gap import GapHead
from wsol.types import FeatureInfo

POINTS = {"mid": FeatureInfo(6, 8), "last": FeatureInfo(12, 16)}


def head(**options):
    torch.manual_seed(0)
    return GapHead(POINTS, num_classes=4, **options).eval()


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(3, point.channels, 5, 7, generator=generator) for name, point in POINTS.items()}


def reference_scores(model, x):
    """Loop over images and classes."""
    weight, bias = model.classifier.weight, model.classifier.bias
    pools = {
        "avg": lambda plane: sum(plane.flatten().tolist()) / plane.numel(),
        "max": lambda plane: max(plane.flatten().tolist()),
        "lse": lambda plane: math.log(sum(math.exp(5 * v) for v in plane.flatten().tolist()) / plane.numel()) / 5,
    }
    pool = pools[model.pool]
    scores = torch.zeros(len(x), len(weight))
    for n, image in enumerate(x):
        for k in range(len(weight)):
            if model.pool_at == "features":
                scores[n, k] = sum(weight[k, c] * pool(plane) for c, plane in enumerate(image))
            else:
                scores[n, k] = pool(sum(weight[k, c] * plane for c, plane in enumerate(image)))
    return scores + bias


@torch.no_grad()
@pytest.mark.parametrize("pool", ["avg", "max", "lse"])
@pytest.mark.parametrize("pool_at", ["features", "scores"])
def test_scores_and_maps_equal_loops(features, pool, pool_at):
    model = head(pool=pool, pool_at=pool_at)
    output = model(features)
    assert torch.allclose(output.logits, reference_scores(model, features["last"]), atol=1e-5)
    classes = torch.tensor([[0, 3, 3], [1, 1, 2], [2, 0, 1]])
    maps = model.maps(output, classes)
    assert maps.shape == (3, 3, 5, 7)
    for n, row in enumerate(classes.tolist()):
        for m, label in enumerate(row):
            expected = sum(model.classifier.weight[label, c] * features["last"][n, c] for c in range(12))
            assert torch.allclose(maps[n, m], expected, atol=1e-5)


@torch.no_grad()
@settings(deadline=None, max_examples=25)
@given(sharpness=st.floats(0.01, 50), scale=st.floats(0.01, 300))
def test_log_sum_exp_lies_between_mean_and_maximum(sharpness, scale):
    x = {"last": scale * torch.randn(2, 12, 3, 4, generator=torch.Generator().manual_seed(5))}
    low, between, high = (
        head(pool=pool, pool_at="scores", lse_sharpness=sharpness)(x).logits for pool in ("avg", "lse", "max")
    )
    slack = 1e-4 * scale + 1e-4 / sharpness
    assert ((low - slack <= between) & (between <= high + slack)).all()


@torch.no_grad()
def test_log_sum_exp_tends_to_mean_and_maximum(features):
    for pool_at in ("features", "scores"):
        soft, sharp = (head(pool="lse", pool_at=pool_at, lse_sharpness=r)(features).logits for r in (1e-3, 1e4))
        assert torch.allclose(soft, head(pool="avg", pool_at=pool_at)(features).logits, atol=1e-2)
        assert torch.allclose(sharp, head(pool="max", pool_at=pool_at)(features).logits, atol=1e-2)


@torch.no_grad()
def test_convolution_comes_before_the_pooling(features):
    model = head(conv_channels=8, conv_groups=2, conv_bias=1.0)
    output = model(features)
    conv = model.conv[0]
    assert conv.weight.shape == (8, 6, 3, 3)
    expected = F.conv2d(features["last"], conv.weight, conv.bias, padding=1, groups=2).relu()
    assert torch.equal(output.state["features"], expected)
    assert torch.allclose(output.logits, model.classifier(expected.mean((2, 3))), atol=1e-6)


@torch.no_grad()
def test_other_points_are_read(features):
    model = head(point="mid")
    assert model.taps == ("mid",)
    assert model(features).state["features"] is features["mid"]


def test_dropout_acts_in_training_alone(features):
    model = head(dropout=0.5)
    assert torch.equal(model(features).logits, model(features).logits)
    model.train()
    assert not torch.equal(model(features).logits, model(features).logits)


def test_loss_is_the_smoothed_cross_entropy_of_soft_targets(features):
    output = head()(features)
    targets = torch.tensor([[1, 0, 0, 0], [0.3, 0.7, 0, 0], [0, 0, 0, 1.0]])
    smoothed = 0.9 * targets + 0.1 / 4
    logits = output.logits.detach().double()
    expected = -(smoothed * (logits - logits.logsumexp(1, keepdim=True))).sum(1).mean()
    losses = head().loss(output, targets, label_smoothing=0.1)
    assert list(losses) == ["classification"]
    assert torch.allclose(losses["classification"].double(), expected)
    hard = soft_cross_entropy(output.logits, F.one_hot(torch.tensor([2, 0, 1]), 4))
    assert torch.allclose(hard, F.cross_entropy(output.logits, torch.tensor([2, 0, 1])))


@torch.no_grad()
def test_maps_of_bf16_features_are_full_precision(features):
    model = head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model({"last": features["last"].bfloat16()})
        maps = model.maps(output, torch.zeros(3, 1, dtype=torch.int64))
    assert output.logits.dtype == maps.dtype == torch.float32
    assert torch.allclose(maps.mean((1, 2, 3)) + model.classifier.bias[0], output.logits[:, 0], atol=1e-5)


@torch.no_grad()
def test_maps_never_hold_all_classes():
    """One asked class of 100,000 costs one map, not 100,000."""
    model = GapHead({"last": FeatureInfo(2, 4)}, num_classes=100_000).eval()
    maps = model.maps(model({"last": torch.randn(1, 2, 64, 64)}), torch.tensor([[99_999]]))
    assert maps.untyped_storage().nbytes() <= 64 * 64 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"point": "layer9"}, "unknown point 'layer9'.*last, mid"),
        ({"pool": "mean"}, "unknown pool"),
        ({"pool_at": "feature"}, "did you mean 'features'"),
        ({"lse_sharpness": 0}, "lse_sharpness.*more than 0"),
        ({"dropout": 1.0}, "dropout"),
        ({"conv_channels": 9, "conv_groups": 2}, "conv_groups: 2 does not divide 12 input and 9 output"),
        ({"conv_channels": 8, "conv_kernel": 2}, "conv_kernel.*odd"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        head(**options)


def test_no_classes_are_refused():
    with pytest.raises(InputError, match="num_classes"):
        GapHead(POINTS, num_classes=0)


GAP_METHODS = {
    name: config
    for name in choices("method")
    if "gap.GapHead" in str((config := load_choice("method", name)).head._target_)
}


@torch.no_grad()
@pytest.mark.parametrize("name", GAP_METHODS)
def test_every_method_file_makes_a_head(name, features):
    model = instantiate(GAP_METHODS[name].head)(points=POINTS, num_classes=4)
    assert isinstance(model, nn.Module)
    assert model.eval()(features).logits.shape == (3, 4)


def test_method_files_say_what_the_paper_and_the_code_do():
    assert GAP_METHODS["cam"].head.conv_channels is None
    paper, code = GAP_METHODS["cam_conv"].head, GAP_METHODS["cam_code"].head
    assert (paper.conv_channels, paper.conv_groups, paper.dropout) == (1024, 1, 0.0)
    assert (code.conv_channels, code.conv_groups, code.dropout) == (1024, 2, 0.5)
    assert (GAP_METHODS["gmp"].head.pool, GAP_METHODS["gmp"].head.pool_at) == ("max", "features")
    assert (GAP_METHODS["lse"].head.pool, GAP_METHODS["lse"].head.pool_at) == ("lse", "scores")
    assert (GAP_METHODS["cam_1x1"].head.rectify, GAP_METHODS["cam_1x1"].head.pool_at) == (True, "scores")


@torch.no_grad()
def test_rectified_planes_are_the_maps_and_their_means_the_scores(features):
    model = GapHead(POINTS, num_classes=4, pool_at="scores", rectify=True).eval()
    output = model(features)
    maps = model.maps(output, torch.arange(4).expand(3, -1))
    torch.testing.assert_close(maps.mean((2, 3)), output.logits)
    planes = F.conv2d(features["last"], model.classifier.weight[:, :, None, None], model.classifier.bias)
    torch.testing.assert_close(maps, planes.relu())
    with pytest.raises(InputError, match="set pool_at=scores"):
        GapHead(POINTS, num_classes=4, rectify=True)


@torch.no_grad()
@given(st.floats(0, 0.95), st.booleans())
@settings(max_examples=10)
def test_tap_averages_active_cells_and_maps_may_leave_out_negative_weights(threshold, positive):
    model = head(pool="thresholded", tap_threshold=threshold, positive_weights=positive)
    x = torch.randn(2, 12, 4, 5, generator=torch.Generator().manual_seed(round(threshold * 1000)))
    x[0, 3], x[0, 4] = -1.0, 0.0  # no active cell at all
    pooled = torch.zeros(2, 12)
    for n in range(2):
        for c in range(12):
            values = x[n, c].flatten().tolist()
            active = [v for v in values if v > threshold * max(values) and v > 0]
            pooled[n, c] = sum(active) / max(len(active), 1)
    output = model({"last": x})
    weights = model.classifier.weight
    assert torch.allclose(output.logits, pooled @ weights.T + model.classifier.bias, atol=1e-5)
    used = torch.where(weights > 0, weights, 0.0) if positive else weights
    expected = torch.stack([(used[k][:, None, None] * x[1]).sum(0) for k in (0, 3)])
    assert torch.allclose(model.maps(output, torch.tensor([[1, 2], [0, 3]]))[1], expected, atol=1e-5)


def test_tap_options_are_checked():
    for options, match in (
        ({"pool": "thresholded", "pool_at": "scores"}, "set pool_at=features"),
        ({"tap_threshold": 1.0}, r"tap_threshold: expected a number in \[0, 1\)"),
        ({"positive_weights": True, "rectify": True, "pool_at": "scores"}, "choose one"),
    ):
        with pytest.raises(InputError, match=match):
            head(**options)
