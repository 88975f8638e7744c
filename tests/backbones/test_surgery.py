"""Layer shapes and parameter counts of what the CAM and ACoL papers cut out of VGG, GoogLeNet and AlexNet."""

from functools import partial

import pytest
import torch
from torch import nn

from wsol.backbones.alexnet import AlexNet, AlexNetStar
from wsol.backbones.base import lower_strides
from wsol.backbones.googlenet import GoogLeNet
from wsol.backbones.resnet import ResNet
from wsol.backbones.tiny import Tiny
from wsol.backbones.vgg import VGG
from wsol.errors import InputError
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer


def conv(before, after, kernel, groups=1):
    return before // groups * after * kernel**2 + after


VGG16 = sum(
    conv(a, b, 3)
    for a, b in zip(
        [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512],
        [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512],
        strict=True,
    )
)
STAR = (
    conv(3, 96, 11) + conv(96, 256, 5, 2) + conv(256, 384, 3) + 2 * conv(384, 384, 3, 2)
    + conv(384, 512, 3, 2) + conv(512, 512, 3, 2)
)  # fmt: skip


def inception(before, one, three_in, three, five_in, five, pool):
    """Parameters of torchvision's block: bias-free convolutions with batch norms, 3x3 where the paper has 5x5."""
    norms = 2 * (one + three_in + three + five_in + five + pool)
    return before * (one + three_in + five_in + pool) + 9 * (three_in * three + five_in * five) + norms


INCEPTIONS = [
    (192, 64, 96, 128, 16, 32, 32),
    (256, 128, 128, 192, 32, 96, 64),
    (480, 192, 96, 208, 16, 48, 64),
    (512, 160, 112, 224, 24, 64, 64),
    (512, 128, 128, 256, 24, 64, 64),
    (512, 112, 144, 288, 32, 64, 64),
    (528, 256, 160, 320, 32, 128, 128),
]
GOOGLENET = 3 * 64 * 49 + 128 + 64 * 64 + 128 + 64 * 192 * 9 + 384 + sum(inception(*row) for row in INCEPTIONS)

PAPER = {"conv_channels": 1024}
CODE = {"conv_channels": 1024, "conv_groups": 2, "dropout": 0.5}


@torch.no_grad()
@pytest.mark.parametrize(
    ("backbone", "head", "side", "shape", "count"),
    [
        (VGG, PAPER, 224, (1024, 14, 14), VGG16 + conv(512, 1024, 3)),
        (VGG, CODE, 224, (1024, 14, 14), VGG16 + conv(512, 1024, 3, 2)),
        (GoogLeNet, PAPER, 224, (1024, 14, 14), GOOGLENET + conv(832, 1024, 3)),
        (GoogLeNet, CODE | {"conv_bias": 1.0, "dropout": 0.0}, 224, (1024, 14, 14), GOOGLENET + conv(832, 1024, 3, 2)),
        (AlexNetStar, {"dropout": 0.5}, 227, (512, 11, 11), STAR),
        (AlexNet, PAPER, 224, (1024, 13, 13), None),
        (partial(VGG, pooling="acol"), {}, 224, (512, 28, 28), VGG16),
    ],
)
def test_shapes_and_counts(backbone, head, side, shape, count):
    model = Localizer(backbone(), partial(GapHead, **head), num_classes=1000).eval()
    state = model(torch.zeros(1, 3, side, side)).state
    assert tuple(state["features"].shape[1:]) == shape
    if count is not None:
        assert sum(p.numel() for p in model.parameters()) == count + 1000 * shape[0] + 1000


def test_released_code_is_options_of_the_head():
    head = GapHead(VGG(depth=11).points, 7, **CODE, conv_bias=1.0)
    assert head.conv[0].groups == 2
    assert head.dropout.p == 0.5
    assert (head.conv[0].bias == 1).all()


@torch.no_grad()
def test_alexnet_star_layers():
    network = AlexNetStar().eval()
    features = network(torch.zeros(1, 3, 227, 227), taps=list(network.points))
    sizes = {name: tuple(x.shape[1:3]) for name, x in features.items()}
    assert sizes == {
        "conv1": (96, 55), "pool1": (96, 27), "conv2": (256, 27), "pool2": (256, 13), "conv3": (384, 13),
        "conv4": (384, 13), "conv5": (384, 13), "pool5": (384, 11), "conv6": (512, 11), "conv7": (512, 11),
        "last": (512, 11),
    }  # fmt: skip
    groups = [layer.groups for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert groups == [1, 2, 1, 2, 2, 2, 2]
    assert sum(layer.groups for layer in AlexNetStar(groups=1).modules() if isinstance(layer, nn.Conv2d)) == 7


@torch.no_grad()
def test_vgg_points_and_acol_pools():
    assert [name for name in VGG().points if name.startswith("pool")] == ["pool1", "pool2", "pool3", "pool4"]
    assert VGG(output_stride=32).points["pool5"].stride == 32
    acol = VGG(pooling="acol")
    assert [acol.points[f"pool{stage}"].stride for stage in range(1, 6)] == [2, 4, 8, 8, 8]
    pools = [layer for layer in acol.modules() if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.padding) for pool in pools] == [(3, 1)] * 5
    assert list(acol.points)[-2:] == ["avgpool", "last"]


@torch.no_grad()
@pytest.mark.parametrize("depth", [18, 50])
def test_dilated_resnet_agrees_with_the_plain_one_at_every_fourth_position(depth):
    torch.manual_seed(0)
    plain = ResNet(depth, width=16 if depth < 50 else 64, output_stride=32).eval()
    dense = ResNet(depth, width=16 if depth < 50 else 64, output_stride=8, dilate=True).eval()
    dense.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 96)
    expected, got = (network(images)["last"] for network in (plain, dense))
    assert got.shape[2:] == (8, 12)
    assert torch.allclose(got[:, :, ::4, ::4], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@torch.no_grad()
def test_small_stem_and_width():
    network = ResNet(18, stem="small", width=16, output_stride=8).eval()
    assert network(torch.zeros(1, 3, 64, 64))["last"].shape == (1, 128, 8, 8)
    assert network.points["stem"][:2] == (16, 1)
    assert network(torch.zeros(1, 3, 64, 64), taps=["layer2", "layer2.1"])["layer2"].shape == (1, 32, 32, 32)


def test_tiny_sees_eighteen_pixels():
    network = Tiny().eval()
    for pool in (network.pool1, network.pool2):  # the mean of a window lets every pixel of it through
        pool.forward = partial(torch.nn.functional.avg_pool2d, kernel_size=2)
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.abs_()
    network(images)["last"][0, :, 8, 8].sum().backward()
    touched = images.grad[0].abs().sum(0).nonzero()
    assert (touched.amax(0) - touched.amin(0) + 1).tolist() == [18, 18]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ResNet(output_stride=7), "output_stride 7.*4, 8, 16, 32"),
        (lambda: ResNet(18, stem="small", output_stride=16), "output_stride 16.*1, 2, 4, 8"),
        (lambda: VGG(output_stride=64), "output_stride 64.*4, 8, 16, 32"),
        (lambda: GoogLeNet(output_stride=32), "output_stride 32.*inception4e.*8, 16"),
        (lambda: AlexNetStar(output_stride=32), "output_stride 32.*4, 8, 16"),
        (lambda: ResNet(20), "depth.*'20'.*18"),
        (lambda: ResNet(18, stem="tiny"), "stem.*imagenet, small"),
        (lambda: ResNet(18, width=0), "width.*at least 1"),
        (lambda: VGG(12), "depth.*'12'"),
        (lambda: VGG(pooling="akol"), "did you mean 'acol'"),
        (lambda: GoogLeNet(cut="inception4f"), "did you mean 'inception4e'"),
        (lambda: Tiny(widths=[8, 8]), "four positive numbers"),
    ],
)
def test_options_a_network_does_not_have_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_lower_strides_leaves_the_network_as_it_is_for_none():
    assert lower_strides([4, 2, 2], None, fixed=1, network="x") == [4, 2, 2]
