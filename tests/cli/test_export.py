"""`wsol export` of a small finished run, and what the docs show of its files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.pages import check_command, commands
from wsol import load
from wsol.cli import main
from wsol.data.datasets.creatures import Creatures
from wsol.errors import InputError
from wsol.interop import safetensors_file
from wsol.runs import checkpoints

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run with the mean over classes taken off its classifier's weights: the same probabilities, but maps of
    the best classes that are positive somewhere, which so short a training does not bring about.
    """
    folder = tmp_path_factory.mktemp("centred") / "run"
    shutil.copytree(finished_run, folder)
    for file in folder.glob("checkpoints/*.ckpt"):
        checkpoint = torch.load(file, weights_only=True)
        weight = checkpoint["state_dict"]["localizer.head.classifier.weight"]
        weight -= weight.mean(0)
        checkpoints.write(checkpoint, file)
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run in all three formats and a photograph."""
    folder = tmp_path_factory.mktemp("exported")
    for format, suffix in (("onnx", "onnx"), ("torch_export", "pt2"), ("safetensors", "safetensors")):
        assert main(["export", f"run={run}", f"format={format}", f"out={folder / 'out'}/model.{suffix}"]) == 0
    data = {"train_images": 48, "val_images": 16, "test_images": 24, "size": 32}
    image = Creatures(folder / "creatures", **data).split("test").image(3)
    Image.fromarray(image).resize((90, 70)).save(folder / "out" / "photo.jpg", quality=100, subsampling=0)
    return folder / "out"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["export", *words]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_the_example_needs_nothing_else(exported: Path) -> None:
    """The first block of docs/export.md, in a program where neither torch nor this package can be imported."""
    banned = "import sys\nfor name in ('torch', 'wsol', 'cv2'):\n    sys.modules[name] = None\n"
    assert len(BLOCKS[0].strip().splitlines()) <= 25
    done = subprocess.run(
        [sys.executable, "-c", banned + BLOCKS[0]], cwd=exported, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"(.+) (\d\.\d\d) \((\d+), (\d+), (\d+), (\d+)\)\n", done.stdout)
    assert found, done.stdout
    ours = load(exported / "model.safetensors", device="cpu").predict(exported / "photo.jpg")
    assert found[1] == ours.name
    assert float(found[2]) == pytest.approx(ours.score, abs=0.02)
    components = cv2.connectedComponents((ours.map >= 0.2).astype(np.uint8), connectivity=4)[1]
    region = components == components[np.unravel_index(ours.map.argmax(), ours.map.shape)]
    x, y = region.any(0).nonzero()[0], region.any(1).nonzero()[0]
    box = [x[0], y[0], x[-1] + 1, y[-1] + 1]
    assert [int(found[n]) for n in range(3, 7)] == pytest.approx(box, abs=4)


def test_the_other_example_runs(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported)
    scope: dict = {}
    exec(compile(BLOCKS[1].replace("64, 64", "32, 32"), str(PAGE), "exec"), scope)
    assert tuple(scope["maps"].shape) == (4, 5, 8, 8)


def test_commands_of_the_page_are_understood() -> None:
    found = commands(PAGE.read_text())
    assert {command.split()[1] for command in found} == {"export", "eval", "predict", "convert"}
    for command in found:
        check_command(command)


def test_a_file_says_how_to_use_it(exported: Path, run: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "model.onnx")
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    header = checkpoints.read(run / "checkpoints" / "best.ckpt")["wsol"]
    assert about["classes"] == header["classes"]
    assert (about["size"], about["mean"], about["std"]) == (32, *(header["preprocessing"][k] for k in ("mean", "std")))
    assert about["transform"] == {"name": "ResizeSquare", "size": 32, "interpolation": "bilinear"}
    assert about["input"] == "RGB in [0, 1]"


def test_safetensors_are_as_good_as_the_run(exported: Path, run: Path, tmp_path: Path) -> None:
    file = exported / "model.safetensors"
    ours, theirs = checkpoints.read(run / "checkpoints" / "best.ckpt"), checkpoints.read(file)
    assert theirs["wsol"] == ours["wsol"]
    wanted = checkpoints.own_state(ours["state_dict"])
    assert wanted.keys() == load_file(file).keys()
    assert all(torch.equal(value, wanted[name]) for name, value in load_file(file).items())
    photo = exported / "photo.jpg"
    for of, out in ((run, "a"), (file, "b")):
        words = [f"run={of}", f"images={photo}", f"out={tmp_path / out}", "maps=npy", "overlays=false", "device=cpu"]
        assert main(["predict", *words]) == 0
    for name in ("predictions.csv", "maps/photo.jpg.npy"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_results_of_a_single_file_go_beside_it(exported: Path, tmp_path: Path) -> None:
    (file := tmp_path / "mine.safetensors").write_bytes((exported / "model.safetensors").read_bytes())
    assert main(["predict", f"run={file}", f"images={exported / 'photo.jpg'}", "device=cpu"]) == 0
    assert list(tmp_path.glob("mine/predict/*/predictions.csv"))


def test_settings_of_graphs(run: Path, tmp_path: Path, capsys) -> None:
    import onnx

    words = ["normalise=false", "top=2", "image_size=48", "opset=18", "check=false", f"out={tmp_path / 'a.onnx'}"]
    assert main(["export", f"run={run}", "checkpoint=last", *words]) == 0
    assert "not compared" in capsys.readouterr().out
    model = onnx.load(tmp_path / "a.onnx")
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    about = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert (about["size"], about["input"]) == (48, "RGB in [0, 1], minus mean, over std")
    shapes = [[dim.dim_value for dim in entry.type.tensor_type.shape.dim] for entry in model.graph.output]
    assert shapes == [[0, 8], [0, 2], [0, 2, 12, 12]]


def test_a_graph_that_differs_is_not_kept(run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    def differs(*_args) -> float:
        raise InputError("the exported graph differs")

    monkeypatch.setattr("wsol.engine.network_export.compare", differs)
    words = [f"run={run}", "format=torch_export", f"out={tmp_path / 'a.pt2'}"]
    assert "the exported graph differs" in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_without_force(run: Path, tmp_path: Path, capsys) -> None:
    (file := tmp_path / "a.safetensors").write_text("mine")
    words = [f"run={run}", "format=safetensors", f"out={file}"]
    assert "a.safetensors exists already: replace it with force=true" in refused(capsys, *words)
    assert file.read_text() == "mine"
    assert main(["export", *words, "force=true"]) == 0
    assert safetensors_file.read_header(file)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["format=onxx"], "unknown format 'onxx': did you mean 'onnx'"),
        (["run=null"], "which run? wsol export <run>"),
        (["run=/nowhere"], "/nowhere: not a run"),
        (["checkpoint=wrost"], "unknown checkpoint of"),
        (["top=9"], "top: expected 1 to 8, the number of classes, got 9"),
        (["out={tmp}/model.bin"], "ends in .onnx"),
        (["format=safetensors", "top=3"], "top=3: has no effect with format=safetensors"),
        (["format=torch_export", "opset=18"], "opset=18: has no effect with format=torch_export"),
        (["image_size=0"], "size must be a whole number of pixels above 0, got 0"),
        (["fromat=onnx"], "did you mean 'format'"),
    ],
)
def test_bad_input_is_one_clear_message(run: Path, tmp_path: Path, capsys, words, message) -> None:
    given = [f"run={run}", f"out={tmp_path / 'a.onnx'}"]
    suffix = "a.safetensors" if "format=safetensors" in words else "a.pt2"
    given += [f"out={tmp_path / suffix}"] if any(word.startswith("format=") for word in words) else []
    assert message in refused(capsys, *given, *(word.format(tmp=tmp_path) for word in words))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "its metadata has no entry 'wsol'"),
        ({"wsol": "{"}, "not a readable .safetensors file"),
        ({"wsol": "[]"}, "is not a JSON object"),
        ({"wsol": '{"format": 99}'}, "checkpoint format 99, this version reads 1"),
    ],
)
def test_other_safetensors_are_refused(metadata, message: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(InputError, match=re.escape(message)):
        checkpoints.read(tmp_path / "a.safetensors")


def test_unreadable_safetensors_are_refused(exported: Path, tmp_path: Path) -> None:
    content = (exported / "model.safetensors").read_bytes()
    for name, part in (("empty", b""), ("torn", content[:-100]), ("text", b"not tensors at all")):
        (file := tmp_path / f"{name}.safetensors").write_bytes(part)
        with pytest.raises(InputError, match=f"{name}.safetensors: not a readable"):
            checkpoints.read(file)
