"""`wsol eval` with other explainers, with plain classifiers, and with a second look at the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torchvision.models import resnet18

from tests.choices import OF_TRANSFORMERS
from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.config.compose import groups
from wsol.data.datasets.creatures import Creatures
from wsol.data.transforms import ResizeSquare
from wsol.engine.recognition import Recognition, crop, weigh
from wsol.functional.maps import normalize
from wsol.interop.map_folder import open_maps
from wsol.types import Batch, Preprocessing

QUICK = ["num_workers=0", "trainer.accelerator=cpu", "protocol=choe2020"]
DATA = ["data=creatures", *(word for word in SMALL_RUN if word.startswith("data."))]
SMALL = {"occlusion": ["explainer.window=8", "explainer.stride=8"], "integrated": ["explainer.steps=2"]}


def evaluated(folder: Path, *words: str) -> dict:
    assert main(["eval", f"out={folder}", *QUICK, *words]) == 0
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("name", sorted({*groups()["explainer"]} - OF_TRANSFORMERS))
def test_every_map_maker_is_evaluated(finished_run: Path, tmp_path: Path, name: str) -> None:
    found = evaluated(
        tmp_path, f"run={finished_run}", f"explainer={name}", "split=val", "save_maps=true", *SMALL.get(name, [])
    )
    assert found["choices"]["explainer"] == name
    rows = [row for row in found["localization"] if row["maps"] == "localizer"]
    assert all(row["images"] == 16 for row in rows)
    maps, _ = open_maps(tmp_path / "maps" / "val").read(Creatures(**small_data(finished_run)).split("val").ids[0])
    assert np.ptp(maps) > 0


def small_data(run: Path) -> dict:
    data = OmegaConf.to_container(OmegaConf.load(run / "config.yaml").data)
    return {key: value for key, value in data.items() if key != "_target_"}


def scaled(folder: Path) -> np.ndarray:
    maps = open_maps(folder / "maps" / "val")
    return np.stack([normalize(maps.read(name)[0][0]) for name in maps.ids])


def test_cam_as_an_explainer_is_the_localizers_own(finished_run: Path, tmp_path: Path) -> None:
    words = [f"run={finished_run}", "trainer.precision=32-true", "split=val", "save_maps=true"]
    own = evaluated(tmp_path / "own", *words)
    cam = evaluated(tmp_path / "cam", *words, "explainer=cam")
    assert own["localization"] == cam["localization"]
    assert scaled(tmp_path / "own") == pytest.approx(scaled(tmp_path / "cam"))
    other = evaluated(tmp_path / "other", *words, "explainer=gradcam", "explainer.relu=false")
    assert scaled(tmp_path / "own") == pytest.approx(scaled(tmp_path / "other"), abs=1e-4)
    other = evaluated(tmp_path / "another", *words, "explainer=saliency")
    assert other["localization"] != own["localization"]
    assert other["classification"] == own["classification"]


def test_a_plain_classifier_is_evaluated(tmp_path: Path, data_dir: Path) -> None:
    torch.manual_seed(0)
    model = resnet18(num_classes=8)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    words = ["model=timm", "name=resnet18", "+model.options.num_classes=8", "image_size=64", f"data_dir={data_dir}"]
    found = evaluated(tmp_path / "out", *words, f"weights={tmp_path / 'weights.pth'}", "explainer=gradcam", *DATA)
    assert found["choices"]["model"] == "timm"
    assert found["name"] == "timm-resnet18"
    # The same, by hand.
    source = Creatures(**small_data(tmp_path / "out"))
    split, transform = source.split("test"), ResizeSquare(64)
    images = torch.stack([torch.from_numpy(transform(split.image(i)).copy()) for i in range(len(split))]) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    logits = model.eval()((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    error = 100 * (logits.argmax(1).numpy() != split.labels).mean()
    assert found["classification"]["test"]["top1_error"] == pytest.approx(error)


def test_a_class_agnostic_explainer_needs_no_network_of_the_same_classes(tmp_path: Path, data_dir: Path) -> None:
    """As for pseudo boxes of val images, which choose a threshold."""
    words = ["model=timm", "name=resnet10t", "explainer=pc1", "image_size=64", f"data_dir={data_dir}", *DATA]
    found = evaluated(tmp_path / "out", *words, "split=val", "save_maps=true", "protocol=[cam2016]")
    assert found["classification"]["val"] == {}
    assert {row["class_agnostic"] for row in found["localization"] if row["maps"] == "localizer"} == {True}
    assert (tmp_path / "out" / "maps" / "val").is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run={run}", "explainer=gradcma"], "did you mean 'gradcam'"),
        (["run={run}", "explainer=gradcam", "explainer.layer=conv5"], "unknown layer 'conv5': did you mean 'conv4'"),
        (["run={run}", "explainer=gradcam", "explainer.leyer=conv4"], "leyer"),
        (["run={run}", "recognize=corp"], "did you mean 'crop'"),
        (["run={run}", "name=resnet18"], "name=resnet18: requires model="),
        (["run={run}", "model=torchvision", "name=resnet18"], "run=... or model=..., not both"),
        (["model=torchvision", "name=resnet18", *DATA], "makes no maps"),
        (["model=torchvision", "name=resnet18", "explainer=gradcam"], "no dataset"),
        (["model=torchvision", "name=resnet81", "explainer=gradcam"], "did you mean 'resnet18'"),
        (["model=timm", "name=resnet81", "explainer=gradcam"], "timm has no such model"),
        (["model=timm", "name=resnet18", "explainer=gradcam", "data_dir={tmp}", *DATA], "trained on 1000 classes"),
    ],
)
def test_bad_input_is_one_clear_message(finished_run: Path, tmp_path: Path, capsys, words, message) -> None:
    words = [word.format(run=finished_run, tmp=tmp_path) for word in words]
    assert main(["eval", *words, f"out={tmp_path / 'out'}", *QUICK]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


# -- the second look ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["crop", "weighted"])
def test_the_gain_of_a_second_look_is_reported(finished_run: Path, tmp_path: Path, capsys, how: str) -> None:
    found = evaluated(tmp_path, f"run={finished_run}", f"recognize={how}")
    again, before = found["recognition"]["test"], found["classification"]["test"]
    assert again["how"] == how
    for name, error in before.items():
        assert again["gain"][name] == pytest.approx(error - again[name])
    assert f"classification error by {how}, test: top-1 {again['top1_error']:.2f} %" in capsys.readouterr().out


def test_ten_views_are_looked_at_again(finished_run: Path, tmp_path: Path) -> None:
    found = evaluated(tmp_path, f"run={finished_run}", "recognize=crop", "transform=ten_crop", "image_size=28")
    assert 0 <= found["recognition"]["test"]["top1_error"] <= 100


class Split:
    name = "test"

    def __init__(self, image: np.ndarray) -> None:
        self._image = image

    def image(self, position: int) -> np.ndarray:
        return self._image


def test_a_look_is_at_what_the_map_shows() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    split, batch = Split(image), Batch(*[torch.zeros(1, dtype=torch.int64)] * 5)
    transform = ResizeSquare(20)
    maps = np.zeros((1, 1, 20, 20), np.float32)
    maps[..., 5:10, 5:15] = 1
    hot = crop(image, np.array([15.0, 10.0, 45.0, 20.0]))
    cropped = Recognition("crop", split, transform, Preprocessing(), (1,)).second_input(batch, maps)
    assert np.abs(cropped[0].numpy().astype(int) - transform(hot)).mean() < 30  # cubic edges move the box by a pixel
    flat = Recognition("crop", split, transform, Preprocessing(), (1,)).second_input(batch, np.zeros_like(maps))
    assert np.array_equal(flat[0].numpy(), transform(image))
    weighed = Recognition("weighted", split, transform, Preprocessing(), (1,)).second_input(batch, maps)
    far = weighed[0].numpy()[:, 14:, :]
    assert np.abs(far - np.array([0.485, 0.456, 0.406])[:, None, None] * 255).mean() < 3  # a cubic resize rings
    inside = weighed[0].numpy()[:, 6:9, 7:13].astype(int)
    assert np.abs(inside - transform(image)[:, 6:9, 7:13]).mean() < 6


def test_weights_of_one_leave_the_image_and_of_zero_the_colour() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    fill = np.array([10.0, 20.0, 30.0])
    assert np.array_equal(weigh(image, np.ones((5, 6)), fill), image)
    assert (weigh(image, np.zeros((5, 6)), fill) == fill).all()
