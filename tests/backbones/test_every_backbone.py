"""What holds for every file of configs/backbone: a newcomer is tested by being there."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.backbones.conftest import fitting
from wsol.errors import InputError
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer

CLASSES = 5


class Scaled(nn.Module):
    def forward(self, x):
        return x * 0.5


def localizer(backbone, **options):
    torch.manual_seed(0)
    return Localizer(backbone, partial(GapHead, **options), num_classes=CLASSES).eval()


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@torch.no_grad()
def test_points_say_the_real_channels_and_strides(backbone):
    names, by = list(backbone.named_points), fitting(backbone, 32)
    h, w = fitting(backbone, 96), fitting(backbone, 128)
    small, large = (backbone(torch.randn(1, 3, *size), taps=names) for size in ((h, w), (h + by, w + 2 * by)))
    assert list(small) == names
    for name, point in backbone.named_points.items():
        height, width = small[name].shape[2:]
        assert len(small[name]) == 1
        if point.channels:
            assert small[name].shape[1] == point.channels
        else:
            assert name in backbone.read_only
            assert small[name].shape[1] == height * width
        if point.stride:
            assert large[name].shape[2:] == (height + by // point.stride, width + 2 * by // point.stride)
            assert abs(height - h / point.stride) <= 4
            assert abs(width - w / point.stride) <= 4
        else:
            assert name in backbone.read_only
            assert (height, width) == large[name].shape[2:] == (1, 1)


@torch.no_grad()
def test_last_and_aliases_name_points(backbone, images):
    assert list(backbone.points)[-1] == "last"
    assert list(backbone.aliases) == ["early", "mid", "late"]
    features = backbone(images, taps=["early", *backbone.aliases.values()])
    assert torch.equal(features["early"], features[backbone.aliases["early"]])
    strides = [backbone.points[name].stride for name in backbone.aliases.values()]
    assert strides == sorted(strides)


@torch.no_grad()
def test_unknown_names_are_refused_with_those_there_are(backbone, images):
    with pytest.raises(InputError, match=r"'layr9'.*last"):
        backbone(images, taps=["layr9"])
    with pytest.raises(InputError, match=r"'layr9'.*last"):
        backbone(images, edits={"layr9": Scaled()})
    with pytest.raises(InputError, match="same point"):
        backbone(images, edits={"late": Scaled(), backbone.aliases["late"]: Scaled()})
    for name in backbone.read_only:
        with pytest.raises(InputError, match=rf"edit cannot be placed at '{name}'.*read-only.*for edits: .*last"):
            backbone(images, edits={name: Scaled()})


@torch.no_grad()
def test_an_edit_replaces_the_features_of_its_point_and_nothing_before(backbone, images):
    places = [name for name in backbone.points if name not in backbone.read_only]
    points = list(dict.fromkeys(backbone.resolve(name) for name in places))
    plain = backbone(images, taps=[*points, "last"])
    for place in ("early", "last"):
        edited = backbone(images, taps=[*points, "last"], edits={place: Scaled()})
        at = points.index(backbone.resolve(place))
        assert all(torch.equal(edited[name], plain[name]) for name in points[:at])
        assert torch.allclose(edited[points[at]], plain[points[at]] * 0.5)
        assert not torch.allclose(edited["last"], plain["last"])
    assert torch.equal(backbone(images)["last"], plain["last"])


@torch.no_grad()
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 4, 64, 64)])
def test_images_of_another_shape_are_refused(backbone, shape):
    with pytest.raises(InputError, match="expected float images"):
        backbone(torch.zeros(shape))


@torch.no_grad()
def test_smallest_input_works_and_smaller_is_refused(backbone):
    side = fitting(backbone, max(backbone.min_size, 32))
    assert backbone(torch.zeros(1, 3, side, side))["last"].numel() > 0
    if backbone.multiple > 1:
        with pytest.raises(InputError, match=f"multiples of {backbone.multiple} pixels.*got {side + 1}x{side}"):
            backbone(torch.zeros(1, 3, side, side + 1))
    if backbone.min_size > 1:
        assert backbone(torch.zeros(1, 3, backbone.min_size, backbone.min_size))["last"].numel() > 0
        with pytest.raises(InputError, match="at least"):
            backbone(torch.zeros(1, 3, backbone.min_size - 1, 200))


@torch.no_grad()
@pytest.mark.parametrize("conv_channels", [None, 16])
def test_mean_of_the_map_plus_bias_is_the_logit(backbone, images, conv_channels):
    model = localizer(backbone, conv_channels=conv_channels)
    output = model(images)
    maps = model.maps(output, torch.arange(CLASSES).expand(2, -1))
    assert maps.dtype == torch.float32
    assert relative(maps.mean((2, 3)) + model.head.classifier.bias, output.logits) < 1e-5


@torch.no_grad()
def test_one_by_one_convolution_gives_the_weighted_sum_of_features(backbone, images):
    model = localizer(backbone)
    classes = torch.tensor([[3, 0], [1, 1]])
    maps = model.maps(model(images), classes)
    features, weights = backbone(images)["last"], model.head.classifier.weight
    planes = F.conv2d(features, weights[:, :, None, None])
    for image in range(2):
        for place, label in enumerate(classes[image]):
            weighted = sum(weights[label, k] * features[image, k] for k in range(features.shape[1]))
            assert relative(maps[image, place], planes[image, label]) < 1e-5
            assert relative(maps[image, place], weighted) < 1e-5


@torch.no_grad()
def test_eval_repeats_itself_and_images_do_not_see_each_other(backbone, images):
    model = localizer(backbone)
    logits = model(images).logits
    assert torch.equal(model(images).logits, logits)
    assert torch.allclose(torch.cat([model(image[None]).logits for image in images]), logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_channels_last_gives_the_same(backbone, images):
    model = localizer(backbone)
    logits = model(images).logits
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    assert relative(other(images.to(memory_format=torch.channels_last)).logits, logits) < 1e-4


@torch.no_grad()
def test_bf16_autocast_is_finite_and_its_maps_still_add_up(backbone):
    model = localizer(backbone)
    side = fitting(backbone, max(32, backbone.min_size))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.randn(1, 3, side, side))
        maps = model.maps(output, torch.arange(CLASSES)[None])
    assert output.logits.dtype == maps.dtype == torch.float32
    assert output.logits.isfinite().all()
    assert relative(maps.mean((2, 3)) + model.head.classifier.bias, output.logits) < 1e-5


def test_gradients_reach_every_parameter(backbone, images):
    model = localizer(copy.deepcopy(backbone)).train()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.ones_(parameter)  # timm starts some residual branches with a factor of 0
    sum(model.loss(model(images), torch.eye(CLASSES)[:2]).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.ndim == 1 or parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_state_dict_round_trip(backbone, images, tmp_path):
    torch.save(backbone.state_dict(), tmp_path / "state.pth")
    other = copy.deepcopy(backbone)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert torch.equal(other(images)["last"], backbone(images)["last"])


@torch.no_grad()
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_strides(build, name, stride):
    try:
        network = build(name, output_stride=stride).eval()
    except InputError as error:
        refused = {"alexnet_star": {32}, "googlenet": {32}, "inception_v3": {32}, "tiny": {8, 16, 32}}
        refused |= {key: {8, 32} for key in ("deit_b", "deit_s", "deit_s_gated", "deit_t", "vit_s16_dino")}
        refused |= {"squeezenet1_0": {32}, "squeezenet1_1": {32}}
        refused["dinov2_s14"] = {8, 16, 32}
        assert stride in refused[name]
        assert "expected one of" in str(error)  # noqa: PT017 which of them are refused is the point
        return
    assert network.points["last"].stride == stride
    small, large = (network(torch.zeros(1, 3, side, 96))["last"].shape for side in (96, 128))
    assert large[2] - small[2] == 32 // stride


def test_preprocessing_can_be_replaced(build, name):
    chosen = build(name, preprocessing={"size": 100, "std": [0.1, 0.2, 0.3]}).preprocessing
    assert (chosen.size, chosen.std) == (100, (0.1, 0.2, 0.3))
    assert len(chosen.mean) == 3


@pytest.mark.parametrize("wish", [{"size": 0}, {"size": "big"}, {"std": [1, 1, 0]}, {"mean": [0.5]}])
def test_impossible_preprocessing_is_refused(build, wish):
    with pytest.raises(InputError, match=f"preprocessing.{next(iter(wish))}"):
        build("tiny", preprocessing=wish)


def test_a_network_stops_behind_the_last_point_that_is_needed(backbone, images) -> None:
    """What does not run gets no gradient, and is named; where a network runs whole, what gets none is found."""
    early, last = backbone.aliases["early"], backbone.resolve("last")
    assert list(backbone(images, taps=[early])) == [early]
    assert list(backbone(images)) == ["last"]
    for taps in ((early,), ("last",)):
        backbone.zero_grad()
        sum(value.sum() for value in backbone(images, taps=taps).values()).backward()
        without = {name for name, parameter in backbone.named_parameters() if parameter.grad is None}
        assert set(backbone.unused_parameters(taps)) == without
    backbone.zero_grad()
    if backbone.resolve(early) != last:
        assert backbone.unused_parameters([early])
        assert not set(backbone.unused_parameters([early], edits=["last"])) or hasattr(backbone, "network")
