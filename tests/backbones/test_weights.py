"""Weights of torchvision fit by name and give torchvision's features; what does not fit is refused with its keys."""

import urllib.error
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from wsol.backbones.alexnet import AlexNet, AlexNetStar
from wsol.backbones.googlenet import GoogLeNet
from wsol.backbones.resnet import ResNet
from wsol.backbones.tiny import Tiny
from wsol.backbones.vgg import VGG
from wsol.backbones.weights import find_weights
from wsol.errors import InputError
from wsol.heads.gap import GapHead
from wsol.models.localizer import Localizer
from wsol.types import Preprocessing


def torchvision_model(name, **options):
    """Make a torchvision network in eval mode, with lively weights and, where it is huge, a small classifier."""
    with torch.device("meta"):
        network = models.get_model(name, **options)
        if hasattr(network, "classifier"):
            network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(network_width(name), 3)
    network = network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value.zero_()
        elif value.ndim > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        else:
            value.uniform_(0.5, 1, generator=generator)
    return network.eval()


def network_width(name):
    return 256 if name == "alexnet" else 512


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "backbone", "nodes"),
    [
        ("vgg11", partial(VGG, 11, output_stride=32), {"conv1_1": "features.1", "conv4_2": "features.14",
                                                       "pool4": "features.15", "last": "features.20"}),
        ("vgg16", VGG, {"pool3": "features.16", "conv4_3": "features.22", "last": "features.29"}),
        ("vgg16_bn", partial(VGG, batch_norm=True), {"pool3": "features.23", "last": "features.42"}),
        ("alexnet", AlexNet, {"pool1": "features.2", "conv3": "features.7", "last": "features.11"}),
        ("googlenet", GoogLeNet, {"conv3": "conv3.relu", "maxpool3": "maxpool3", "last": "inception4e.cat"}),
        ("resnet18", ResNet18 := partial(ResNet, 18), {"stem": "maxpool", "layer2.0": "layer2.0.relu_1",
                                                        "layer2": "layer2", "last": "layer4"}),
        ("resnet50", ResNet, {"layer3.2": "layer3.2.relu_2", "last": "layer4"}),
    ],
)  # fmt: skip
def test_features_equal_torchvisions(name, backbone, nodes, images, tmp_path):
    options = {"init_weights": False, "aux_logits": True} if name == "googlenet" else {}
    network = torchvision_model(name, **options)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    expected = create_feature_extractor(
        network, {node: point for point, node in nodes.items()}, suppress_diff_warning=True
    )(images)
    got = backbone(weights=str(tmp_path / "weights.pth")).eval()(images, taps=list(nodes))
    for point in nodes:
        assert torch.allclose(got[point], expected[point], rtol=1e-4, atol=1e-4 * expected[point].abs().max().item())


@torch.no_grad()
def test_googlenet_with_input_transform_and_classifier_gives_torchvisions_logits(images, tmp_path):
    network = torchvision_model("googlenet", init_weights=False, aux_logits=False, transform_input=True)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    make = partial(GoogLeNet, cut="whole", weights=str(tmp_path / "weights.safetensors"))
    logits = [
        Localizer(make(transform_input=wanted), GapHead, 1000, pretrained_classifier=True).eval()(images).logits
        for wanted in (True, None)
    ]
    expected = network(images)
    assert torch.allclose(logits[0], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    assert not torch.allclose(logits[1], expected, rtol=1e-2)


@torch.no_grad()
def test_published_weights_come_through_torchvisions_cache_with_their_preprocessing(images, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    for name, options in (("resnet18", {}), ("googlenet", {"init_weights": False})):
        entry = models.get_model_weights(name).DEFAULT
        network = torchvision_model(name, **options)
        torch.save(network.state_dict(), tmp_path / "hub" / "checkpoints" / entry.url.rpartition("/")[2])
        if name == "resnet18":
            backbone = ResNet(18, weights="ResNet18_Weights.IMAGENET1K_V1", output_stride=32)
            model = Localizer(backbone, GapHead, 1000, pretrained_classifier=True).eval()
            assert torch.allclose(model(images).logits, network(images), rtol=1e-3, atol=1e-2)
    googlenet = GoogLeNet(weights="DEFAULT")
    assert googlenet.scale.flatten().tolist() == pytest.approx([0.458, 0.448, 0.45])
    assert (GoogLeNet(weights="DEFAULT", transform_input=False).scale == 1).all()
    # A checkpoint brings the rescaling along, whether loaded into a fresh network or read as weights.
    fresh = GoogLeNet()
    fresh.load_state_dict(googlenet.state_dict())
    torch.save(googlenet.state_dict(), tmp_path / "trained.pth")
    for other in (fresh, GoogLeNet(weights=str(tmp_path / "trained.pth"))):
        assert torch.equal(other.eval()(images)["last"], googlenet.eval()(images)["last"])
    assert googlenet.preprocessing == Preprocessing()


def test_preprocessing_is_that_of_the_weights(monkeypatch):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: {})
    odd = find_weights("IMAGENET1K_FEATURES", "vgg16").preprocessing
    assert odd.std == pytest.approx((1 / 255,) * 3)
    assert find_weights("DEFAULT", "inception_v3").preprocessing.size == 299


def test_failed_download_says_what_to_do(monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(InputError, match=r"download failed.*https://.*resnet18.*path"):
        ResNet(18, weights="DEFAULT")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda weights: ResNet(18, weights=weights), "no such file and no such name.*IMAGENET1K_V1, DEFAULT"),
        (lambda weights: ResNet(18, width=16, weights=weights), "torchvision has none for this network"),
        (lambda weights: AlexNetStar(weights=weights), "torchvision has none for this network"),
    ],
)
def test_weights_that_are_not_there(make, message):
    with pytest.raises(InputError, match=message):
        make("IMAGENET1K_V9")


class Sneaky:
    def __reduce__(self):
        return print, ("code of a pickle ran",)


def truncated(path):
    torch.save(Tiny().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("empty.pth", lambda path: path.write_bytes(b""), "the file is empty"),
        (
            "noise.pth",
            lambda path: path.write_bytes(bytes(range(256)) * 9),
            "not a PyTorch checkpoint, or damaged|pickled objects.*or is corr",
        ),
        ("text.pth", lambda path: path.write_text("<html>404</html>"), "plain text"),
        ("cut.pth", truncated, "cut short"),
        ("objects.pth", lambda path: torch.save({"model": Sneaky()}, path), "can run code.*safetensors"),
        ("module.pth", lambda path: torch.save(Tiny(), path), "can run code.*state_dict"),
        ("list.pth", lambda path: torch.save([torch.zeros(1)], path), "expected a state dict.*got list"),
        ("numbers.pth", lambda path: torch.save({"epoch": 3}, path), "expected a state dict"),
        ("noise.safetensors", lambda path: path.write_bytes(b"\x09" * 99), "not a readable"),
        ("empty.safetensors", lambda path: path.write_bytes(b""), "not a readable"),
    ],
)
def test_unreadable_files_are_refused(name, write, message, tmp_path, capsys):
    write(tmp_path / name)
    with pytest.raises(InputError, match=message):
        Tiny(weights=str(tmp_path / name))
    assert "code of a pickle ran" not in capsys.readouterr().out


def test_weights_of_another_network_are_refused_with_their_keys(tmp_path):
    path = str(tmp_path / "weights.pth")
    torch.save({"state_dict": Tiny().state_dict()}, path)
    assert Tiny(weights=path)
    with pytest.raises(InputError, match=r"missing keys \(conv1.weight, .* and \d+ more\); .*unexpected keys.*conv1.0"):
        ResNet(18, weights=path)
    with pytest.raises(InputError, match=r"other shapes \(conv1.0.weight \(16, 3, 3, 3\) instead of \(8, 3, 3, 3\)"):
        Tiny(widths=[8, 32, 64, 64], weights=path)


def test_old_files_without_batch_counters_load(tmp_path):
    state = {key: value for key, value in Tiny().state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pt")
    loaded = Tiny(weights=str(tmp_path / "old.pt")).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_misspelt_entry_of_preprocessing():
    with pytest.raises(InputError, match="did you mean 'size'"):
        Tiny(preprocessing={"sise": 3})
