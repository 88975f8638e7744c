"""Inception-v3: torchvision's features where it is whole and unpadded, and the surgery of SPG and Choe et al. 2020."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from wsol.backbones.inception import InceptionV3
from wsol.errors import InputError
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer


@pytest.fixture(scope="module")
def whole():
    """Torchvision's network with lively weights, in eval mode."""
    network = models.inception_v3(weights=None, init_weights=False, aux_logits=True)
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        if value.ndim > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif value.is_floating_point():
            value.uniform_(0.5, 1, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def file(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(whole.state_dict(), path)
    return str(path)


@pytest.fixture
def images():
    return torch.randn(2, 3, 80, 112, generator=torch.Generator().manual_seed(3))


def close(a, b):
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


@torch.no_grad()
def test_unpadded_features_equal_torchvisions(whole, file, images):
    points = {
        "maxpool1": "maxpool1",
        "Mixed_5d": "Mixed_5d.cat",
        "Mixed_6a": "Mixed_6a.cat",
        "Mixed_7c": "Mixed_7c.cat_2",
    }
    expected = create_feature_extractor(
        whole, {node: point for point, node in points.items()}, suppress_diff_warning=True
    )
    network = InceptionV3("whole", padded=False, weights=file).eval()
    for point, features in expected(images).items():
        assert close(network(images, taps=[point])[point], features)
    assert network.points["last"][:2] == (2048, 32)


@torch.no_grad()
def test_input_transform_and_classifier_give_torchvisions_logits(whole, file, images):
    whole.transform_input = True
    expected = whole(images)
    whole.transform_input = False
    for wanted, equal in ((True, True), (None, False)):
        backbone = InceptionV3("whole", padded=False, weights=file, transform_input=wanted)
        model = Localizer(backbone, GapHead, 1000, pretrained_classifier=True).eval()
        assert close(model(images).logits, expected) == equal


def test_published_weights_come_with_their_preprocessing_and_rescaling(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    entry = models.Inception_V3_Weights.DEFAULT
    torch.save(whole.state_dict(), tmp_path / "hub" / "checkpoints" / entry.url.rpartition("/")[2])
    network = InceptionV3(extra_convs=2, weights="DEFAULT")
    assert network.preprocessing.size == 299
    assert network.scale.flatten().tolist() == pytest.approx([0.458, 0.448, 0.45])
    assert network.shift.flatten().tolist() == pytest.approx([-0.03, -0.088, -0.188])
    assert torch.equal(network.state_dict()["Mixed_6e.branch1x1.conv.weight"], whole.Mixed_6e.branch1x1.conv.weight)
    plain = InceptionV3(weights="DEFAULT", transform_input=False, preprocessing={"size": 224})
    assert (plain.scale == 1).all()
    assert plain.preprocessing.size == 224


@torch.no_grad()
@pytest.mark.parametrize(("stride", "side"), [(16, 14), (8, 28)])
def test_padded_network_layer_by_layer(file, images, stride, side):
    """The released code of Choe et al. 2020, written out with functions on this network's own weights."""
    net = InceptionV3(output_stride=stride, extra_convs=2, extra_dropout=0.5, weights=file).eval()

    def unit(block, x, **options):
        return F.relu(block.bn(F.conv2d(x, block.conv.weight, **options)))

    def trunk(x):
        x = unit(net.Conv2d_1a_3x3, x, stride=2, padding=1)
        x = unit(net.Conv2d_2b_3x3, unit(net.Conv2d_2a_3x3, x), padding=1)
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        x = unit(net.Conv2d_4a_3x3, unit(net.Conv2d_3b_1x1, x))
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        seen = {"early": (x := net.Mixed_5d(net.Mixed_5c(net.Mixed_5b(x))))}
        if stride == 16:
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        a = net.Mixed_6a
        twice = unit(a.branch3x3dbl_2, unit(a.branch3x3dbl_1, x), padding=1)
        three = [unit(a.branch3x3, x, padding=1), unit(a.branch3x3dbl_3, twice, padding=1), F.max_pool2d(x, 3, 1, 1)]
        seen["Mixed_6a"] = x = torch.cat(three, 1)
        seen["mid"] = x = net.Mixed_6e(net.Mixed_6d(net.Mixed_6c(net.Mixed_6b(x))))
        for extra in (net.extra1, net.extra2):
            x = F.relu(F.conv2d(x, extra[1].weight, extra[1].bias, padding=1))
        return seen | {"late": x, "last": x}

    got, wanted = net(images, taps=["early", "Mixed_6a", "mid", "late", "last"]), trunk(images)
    assert got.keys() == wanted.keys()
    assert all(close(got[name], wanted[name]) for name in wanted)
    assert net(torch.zeros(1, 3, 224, 224))["last"].shape == (1, 1024, side, side)


@torch.no_grad()
@pytest.mark.parametrize("cut", ["Mixed_6e", "whole"])
@pytest.mark.parametrize("padded", [True, False])
def test_every_variant_has_the_strides_it_says(cut, padded):
    for stride in (8, 16, 32):
        make = partial(InceptionV3, cut, padded=padded, output_stride=stride)
        if (cut, stride) == ("Mixed_6e", 32):
            with pytest.raises(InputError, match="expected one of 8, 16"):
                make()
            continue
        net = make().eval()
        names = [name for name in net.points if name != "last"]
        small, large = (net(torch.zeros(1, 3, side, 80), taps=names) for side in (80, 112))
        for name in names:
            assert large[name].shape[2] - small[name].shape[2] == 32 // net.points[name].stride
            assert small[name].shape[1] == net.points[name].channels
        assert net.points["last"].stride == stride


def test_weights_load_strictly(whole, file, tmp_path):
    InceptionV3(weights=file)
    state = whole.state_dict()
    missing = {key: value for key, value in state.items() if key != "Mixed_5b.branch1x1.conv.weight"}
    torch.save(missing, tmp_path / "missing.pth")
    with pytest.raises(InputError, match=r"missing keys \(Mixed_5b\.branch1x1\.conv\.weight\)"):
        InceptionV3(weights=str(tmp_path / "missing.pth"))
    torch.save(state | {"Mixed_5e.conv.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(InputError, match=r"unexpected keys \(Mixed_5e"):
        InceptionV3(weights=str(tmp_path / "more.pth"))


@torch.no_grad()
def test_files_of_this_network_bring_all_its_layers(images, tmp_path):
    net = InceptionV3(extra_convs=1, extra_channels=16, transform_input=True).eval()
    torch.save(net.state_dict(), tmp_path / "own.pth")
    again = InceptionV3(extra_convs=1, extra_channels=16, weights=str(tmp_path / "own.pth")).eval()
    assert torch.equal(again(images)["last"], net(images)["last"])
    with pytest.raises(InputError, match=r"other shapes \(extra1"):
        InceptionV3(extra_convs=1, extra_channels=8, weights=str(tmp_path / "own.pth"))


def test_dropout_stands_before_each_extra_convolution():
    net = InceptionV3(extra_convs=2, extra_channels=8, extra_dropout=0.5)
    assert [type(layer) for layer in net.extra2] == [nn.Dropout, nn.Conv2d, nn.ReLU]
    assert net.extra1[0].p == 0.5
    assert net.classifier_name is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cut": "Mixed_6d"}, "did you mean 'Mixed_6e'"),
        ({"output_stride": 4}, "expected one of 8, 16"),
        ({"extra_convs": -1}, "extra_convs"),
        ({"extra_channels": 0}, "extra_channels"),
        ({"extra_dropout": 1.0}, "extra_dropout"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        InceptionV3(**wrong)
