"""`wsol convert` from a file of another program to an evaluation."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision.models import resnet18, vgg16

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.config.compose import compose
from wsol.engine import conversion
from wsol.interop import safetensors_file
from wsol.interop.peers import PEERS
from wsol.runs import checkpoints

DATA = ["data=creatures", *(word for word in SMALL_RUN if word.startswith("data."))]


def cam_state(classes: int) -> OrderedDict[str, torch.Tensor]:
    """Tensors as wsolevaluation's CAM on VGG-16 names them, of 14x14 maps."""
    with torch.device("meta"):
        features = vgg16().features
    layers = {
        "features": features.to_empty(device="cpu"),
        "conv6": nn.Conv2d(512, 1024, 3),
        "fc": nn.Linear(1024, classes),
    }
    torch.manual_seed(0)
    for value in layers["features"].state_dict().values():
        value.normal_(0, (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1)
    return nn.ModuleDict(layers).state_dict()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of wsolevaluation's trainer, for the eight kinds of creatures."""
    file = tmp_path_factory.mktemp("peer") / "last_checkpoint.pth.tar"
    torch.save({"architecture": "vgg16", "epoch": 1, "state_dict": cam_state(8), "optimizer": {}}, file)
    return file


def tensors(weights: Path) -> dict[str, torch.Tensor]:
    return torch.load(weights, weights_only=True)["state_dict"]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["convert", *words]) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err


def test_from_weights_to_an_evaluation(weights: Path, data_dir: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"weights={weights}", f"data_dir={data_dir}", *DATA]
    assert main(["convert", *words]) == 0
    assert "CAM of wsolevaluation, VGG-16, 14x14, output stride 16, 8 classes" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / "convert-last_checkpoint").iterdir()
    file = folder / "checkpoints" / "last.ckpt"
    checkpoint = checkpoints.read(file)
    localizer, config = checkpoints.load_localizer(checkpoint, file)
    assert len(localizer.classes or ()) == 8
    assert (config.choices.data, config.choices.method, config.choices.backbone) == ("creatures", "cam_conv", "vgg16")
    assert checkpoint["converted"] == {"from": "CAM of wsolevaluation, VGG-16, 14x14", "file": weights.name}
    assert torch.equal(localizer.head.get_submodule("classifier").weight, tensors(weights)["fc.weight"])

    quick = ["image_size=32", "num_workers=0", "batch_size=8", "trainer.accelerator=cpu"]
    assert main(["eval", f"run={file}", f"out={tmp_path / 'out'}", "protocol=choe2020", *quick]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["protocol"] for row in results["localization"]} == {"choe2020"}
    assert results["choices"]["method"] == "cam_conv"


def test_classes_are_numbers_without_a_dataset(weights: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["convert", f"weights={weights}", f"out={out}"]) == 0
    assert "convert it with the dataset" in capsys.readouterr().out
    file = out / "checkpoints" / "last.ckpt"
    localizer, _ = checkpoints.load_localizer(checkpoints.read(file), file)
    assert localizer.classes == tuple("01234567")
    assert "replace it with force=true" in refused(capsys, f"weights={weights}", f"out={out}")
    assert "a checkpoint of `wsol train` already" in refused(capsys, f"weights={file}")


def test_edits_thresholds_and_strides_of_the_command_line(tmp_path: Path) -> None:
    """What the tensors do not hold: the config is that of the peer but for what the command line says."""
    by_name = {peer.name: peer for peer in PEERS}
    config = compose("convert", ["weights=a.pth", "delta=0.55"])
    acol = conversion._settings(by_name["ACoL of wsolevaluation, ResNet-50"], 8, config)
    assert acol.method.head.delta == 0.55
    assert acol.backbone.output_stride == 8
    config.delta = None
    assert conversion._settings(by_name["ACoL of its authors, VGG-16"], 8, config).method.head.delta == 0.6
    adl = conversion._settings(by_name["ADL of wsolevaluation, ResNet-50"], 16, config)
    assert list(adl.method.edits) == ["layer3.0", "layer4.0", "layer4.2"]
    assert all(edit.drop_rate == 0.75 for edit in adl.method.edits.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which weights?"),
        (["weights=nowhere.pth"], "nowhere.pth: cannot be read"),
        (["weights={weights}", "output_stride=8"], "has output stride 16, got output_stride=8"),
        (["weights={weights}", "delta=0.6"], "erases nothing by a threshold"),
        (["weights={weights}", "dleta=0.6"], "did you mean 'delta'"),
        (["weights={weights}", "data_dir={data_dir}", *DATA, "data.num_classes=6"], "8 classes, data=creatures has 6"),
    ],
    ids=["none", "missing", "stride", "delta", "misspelt", "classes"],
)
def test_bad_input_is_one_clear_message(
    words: list[str], message: str, weights: Path, data_dir: Path, tmp_path: Path, capsys
) -> None:
    filled = [word.format(weights=weights, data_dir=data_dir) for word in words]
    assert message in refused(capsys, *filled, f"out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [["layer1.0.conv1.weight"], ["fc.weight", "fc.bias"]])
def test_unknown_networks(names: list[str], tmp_path: Path, capsys) -> None:
    torch.save({name: torch.zeros(2, 2) for name in names}, tmp_path / "other.pth")
    message = refused(capsys, f"weights={tmp_path / 'other.pth'}", f"out={tmp_path / 'out'}")
    assert "of an unknown network" in message
    assert "Known: ACoL of its authors, VGG-16 (features.28.weight, cls.4.weight, cls_erase.4.weight)" in message


def test_tensors_that_do_not_fit(weights: Path, tmp_path: Path, capsys) -> None:
    state = tensors(weights)
    del state["features.5.weight"]
    state["conv6.weight"] = state["conv6.weight"][:, :256]
    torch.save(state, tmp_path / "torn.pth")
    message = refused(capsys, f"weights={tmp_path / 'torn.pth'}", f"out={tmp_path / 'out'}")
    assert "1 missing keys (backbone.features.5.weight)" in message
    assert "head.conv.0.weight (1024, 256, 3, 3) instead of (1024, 512, 3, 3)" in message
    assert not (tmp_path / "out").exists()


def test_pickled_objects_are_not_loaded(tmp_path: Path, capsys) -> None:
    torch.save({"state_dict": {"fc.weight": torch.zeros(2, 2)}, "hook": Path}, tmp_path / "objects.pth")
    message = refused(capsys, f"weights={tmp_path / 'objects.pth'}", f"out={tmp_path / 'out'}")
    assert "contains pickled objects of" in message


def classifier(kind: str, tmp_path: Path) -> tuple[nn.Module, list[str]]:
    """A classifier of five classes saved as its library saves it, and the words that convert it."""
    torch.manual_seed(0)
    network: nn.Module
    if kind == "torchvision":
        network, words = resnet18(num_classes=5), ["backbone=resnet18", "output_stride=32"]
    else:
        network, words = timm.create_model(kind, num_classes=5), ["backbone=timm", f"backbone.name={kind}"]
    torch.save(network.state_dict(), tmp_path / "net.pth")
    return network.eval(), [f"weights={tmp_path / 'net.pth'}", *words]


@pytest.mark.parametrize("kind", ["torchvision", "resnet10t", "test_byobnet", "test_efficientnet"])
@torch.no_grad()
def test_classifiers_of_libraries_have_maps_without_training(kind: str, tmp_path: Path, capsys) -> None:
    """Same scores as the library's network, and maps whose means plus biases are the scores."""
    network, words = classifier(kind, tmp_path)
    assert main(["convert", *words, f"out={tmp_path / 'out'}"]) == 0
    assert "output stride 32, 5 classes" in capsys.readouterr().out
    file = tmp_path / "out" / "checkpoints" / "last.ckpt"
    localizer, config = checkpoints.load_localizer(checkpoints.read(file), file)
    assert (config.backbone.weights, config.method.pretrained_classifier) == (None, False)
    images = torch.rand(2, 3, 96, 96)
    output = localizer.eval()(images)
    torch.testing.assert_close(output.logits, network(images), rtol=1e-4, atol=1e-5)
    maps = localizer.maps(output, torch.arange(5).expand(2, -1))
    bias = localizer.head.get_submodule("classifier").bias
    torch.testing.assert_close(maps.mean((2, 3)) + bias, output.logits, rtol=1e-4, atol=1e-5)


def test_a_classifier_with_its_dataset_and_method(tmp_path: Path, data_dir: Path) -> None:
    torch.save(resnet18(num_classes=8).state_dict(), tmp_path / "net.pth")
    words = [f"weights={tmp_path / 'net.pth'}", "backbone=resnet18", "method=adl", f"data_dir={data_dir}", *DATA]
    assert main(["convert", *words, f"out={tmp_path / 'out.safetensors'}"]) == 0
    localizer, config = checkpoints.load_localizer(checkpoints.read(tmp_path / "out.safetensors"), tmp_path)
    assert (len(localizer.edits), config.choices.method, config.choices.data) == (3, "adl", "creatures")
    assert len(set(localizer.classes or ())) == 8


@pytest.mark.parametrize("kind", ["test_convnext", "test_vit"])
def test_classifiers_that_have_no_such_maps_are_refused(kind: str, tmp_path: Path, capsys) -> None:
    """A ConvNeXt normalises behind the mean, a ViT reads a token."""
    _, words = classifier(kind, tmp_path)
    message = refused(capsys, *words, f"out={tmp_path / 'out'}")
    assert "no linear classifier on the mean of the last features of backbone=timm" in message
    assert {"test_convnext": "head.norm", "test_vit": "a class token"}[kind] in message
    assert "explainer=gradcam" in message


def test_from_and_to_one_file(weights: Path, finished_run: Path, tmp_path: Path, capsys) -> None:
    """A peer's weights, or a checkpoint, to one file; that to a run folder; the tensors stay what they are."""
    one, two, again = tmp_path / "one.safetensors", tmp_path / "two.safetensors", tmp_path / "again"
    assert main(["convert", f"weights={weights}", f"out={one}"]) == 0
    fc = checkpoints.read(one)["state_dict"]["localizer.head.classifier.weight"]
    assert torch.equal(fc, tensors(weights)["fc.weight"])
    ckpt = finished_run / "checkpoints" / "best.ckpt"
    assert main(["convert", f"weights={ckpt}", f"out={two}"]) == 0
    assert main(["convert", f"weights={two}", f"out={again}"]) == 0
    ours, theirs = checkpoints.read(ckpt), checkpoints.read(again / "checkpoints" / "last.ckpt")
    assert theirs["wsol"] == ours["wsol"] == safetensors_file.read_header(two)
    wanted, given = (checkpoints.own_state(content["state_dict"]) for content in (ours, theirs))
    assert wanted.keys() == given.keys()
    assert all(torch.equal(value, given[name]) for name, value in wanted.items())
    assert (again / "config.yaml").read_text() == (finished_run / "config.yaml").read_text()
    capsys.readouterr()
    assert "exists already" in refused(capsys, f"weights={ckpt}", f"out={two}")
    assert main(["convert", f"weights={ckpt}", f"out={one}", "force=true"]) == 0
    assert safetensors_file.read_header(one) == ours["wsol"]
    capsys.readouterr()
    assert "has its own; leave data out" in refused(capsys, f"weights={two}", f"out={tmp_path / 'x'}", "data=cub")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=acol"], "method=...: the tensors determine it"),
        (["backbone=resnet50", "delta=0.6"], "goes with weights of ACoL"),
        (["backbone=vgg16"], "weights"),
        (["backbone=resnte50"], "did you mean 'resnet50'"),
    ],
)
def test_words_that_do_not_go_together(words: list[str], message: str, weights: Path, tmp_path: Path, capsys) -> None:
    assert message in refused(capsys, f"weights={weights}", f"out={tmp_path / 'out'}", *words)
    assert not (tmp_path / "out").exists()
