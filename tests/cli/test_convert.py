"""`wsol convert` from a file of another program to an evaluation."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import vgg16

from tests.conftest import SMALL_RUN
from wsol import checkpoints
from wsol.cli import convert, main
from wsol.cli.compose import compose
from wsol.interop.peers import PEERS

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
    assert "holds a run already" in refused(capsys, f"weights={weights}", f"out={out}")
    assert "of `wsol train` already" in refused(capsys, f"weights={file}")


def test_edits_thresholds_and_strides_of_the_command_line(tmp_path: Path) -> None:
    """What the tensors do not hold: the config is that of the peer but for what the command line says."""
    by_name = {peer.name: peer for peer in PEERS}
    config = compose("convert", ["weights=a.pth", "delta=0.55"])
    acol = convert._settings(by_name["ACoL of wsolevaluation, ResNet-50"], 8, config)
    assert acol.method.head.deltas == [0.55]
    assert acol.backbone.output_stride == 8
    config.delta = None
    assert convert._settings(by_name["ACoL of its authors, VGG-16"], 8, config).method.head.deltas == [0.6]
    adl = convert._settings(by_name["ADL of wsolevaluation, ResNet-50"], 16, config)
    assert list(adl.method.edits) == ["layer3.0", "layer4.0", "layer4.2"]
    assert all(edit.drop_rate == 0.75 for edit in adl.method.edits.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which weights?"),
        (["weights=nowhere.pth"], "nowhere.pth: cannot be read"),
        (["weights={weights}", "output_stride=8"], "has the output stride 16, got output_stride=8"),
        (["weights={weights}", "delta=0.6"], "erases nothing by a threshold"),
        (["weights={weights}", "dleta=0.6"], "did you mean 'delta'"),
        (["weights={weights}", "data_dir={data_dir}", *DATA, "data.num_classes=6"], "8 classes, data=creatures has 6"),
    ],
    ids=["none", "missing", "stride", "delta", "misspelt", "classes"],
)
def test_bad_input(words: list[str], message: str, weights: Path, data_dir: Path, tmp_path: Path, capsys) -> None:
    filled = [word.format(weights=weights, data_dir=data_dir) for word in words]
    assert message in refused(capsys, *filled, f"out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [["layer1.0.conv1.weight"], ["fc.weight", "fc.bias"]])
def test_unknown_networks(names: list[str], tmp_path: Path, capsys) -> None:
    torch.save({name: torch.zeros(2, 2) for name in names}, tmp_path / "other.pth")
    message = refused(capsys, f"weights={tmp_path / 'other.pth'}", f"out={tmp_path / 'out'}")
    assert "of no known network" in message
    assert "Looked for: ACoL of its authors, VGG-16 (features.28.weight, cls.4.weight, cls_erase.4.weight)" in message


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
    assert "holds pickled objects" in message
