"""`wsol.load(...).predict(...)`: the answers of `wsol predict` for images of every kind, and what the docs show."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsol import load
from wsol.config import build
from wsol.data.images import as_rgb, read_image
from wsol.engine.predictor import Prediction, Predictor
from wsol.errors import InputError
from wsol.explain.gradcam import GradCAM
from wsol.functional.geometry import Geometry
from wsol.functional.maps import place
from wsol.protocols import protocol
from wsol.runs import checkpoints

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def predictor(finished_run: Path) -> Predictor:
    return load(finished_run, device="cpu")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("photos") / "photo.png"
    small = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize((70, 50), Image.Resampling.BICUBIC).save(file)
    return file


def same(one: Prediction, other: Prediction) -> bool:
    close = np.isclose(one.score, other.score, atol=1e-6) and np.allclose(one.map, other.map, atol=1e-5)
    return one.label == other.label and one.name == other.name and np.array_equal(one.box, other.box) and bool(close)


def test_an_answer_is_what_the_network_says(predictor: Predictor, finished_run: Path, photo: Path) -> None:
    """Against its parts put together by hand: preprocessing, softmax, the map resized and scaled, the box."""
    found = predictor.predict(photo)
    file = finished_run / "checkpoints" / "best.ckpt"
    network, config = checkpoints.load_localizer(checkpoints.read(file), file)
    transform = build.build_transform(config, "eval", network.preprocessing)
    pixels = torch.from_numpy(np.ascontiguousarray(transform(read_image(photo))))[None] / 255
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (network.preprocessing.mean, network.preprocessing.std))
    with torch.no_grad():
        output = network.eval()((pixels - mean) / std)
        label = int(output.logits.argmax())
        score_map = network.maps(output, torch.tensor([[label]]))[0, 0].numpy()
    assert (found.label, found.name) == (label, (network.classes or ())[label])
    assert found.score == pytest.approx(output.logits.softmax(1)[0, label].item(), rel=1e-4)
    view = Geometry.square((70, 50), 32)
    assert found.box == pytest.approx(protocol("cam2016").predict(score_map, view)[0], abs=1.01)
    np.testing.assert_allclose(found.map, place(score_map, view, Geometry.whole((70, 50)), scaling="max"), atol=1e-4)
    np.testing.assert_array_equal(found.image, read_image(photo))


def test_every_way_to_hold_an_image_gives_the_same(predictor: Predictor, photo: Path) -> None:
    pixels = read_image(photo)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    held = [photo, str(photo), Image.open(photo), Image.open(photo).convert("RGBA"), pixels, planes, planes / 255]
    wanted = predictor.predict(photo)
    answers = predictor.predict(held, batch_size=3)
    assert len(answers) == len(held)
    assert all(same(wanted, answer) for answer in answers)
    assert predictor.predict([]) == []


def test_pillow_images_of_other_modes() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(as_rgb(Image.fromarray(grey)), np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(as_rgb(Image.fromarray(grey).convert("P")), np.repeat(grey[..., None], 3, 2))


def test_a_class_can_be_asked_for(predictor: Predictor, photo: Path) -> None:
    probabilities = [predictor.predict(photo, label).score for label in range(len(predictor.names))]
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    best = predictor.predict(photo)
    assert best.label == int(np.argmax(probabilities))
    other = predictor.names[(best.label + 1) % len(predictor.names)]
    asked = predictor.predict(photo, other)
    assert asked.name == other
    assert not np.array_equal(asked.map, best.map)
    for label, message in [
        ("dargon", "unknown class 'dargon'"),
        (99, "class 99: expected a class of the network, 0..7"),
        (1.5, "class 1.5"),
    ]:
        with pytest.raises(InputError, match=message):
            predictor.predict(photo, label)


def test_maps_of_another_size(predictor: Predictor, photo: Path) -> None:
    whole, other = predictor.predict(photo), predictor.predict(photo, map_size=(28, 20))
    assert (whole.map.shape, other.map.shape) == ((50, 70), (20, 28))
    assert (whole.map.max(), other.map.dtype) == (pytest.approx(1), np.float32)
    np.testing.assert_array_equal(whole.box, other.box)
    assert other.picture().shape == (50, 70, 3)


def test_protocol_threshold_and_explainer_are_chosen(finished_run: Path, predictor: Predictor, photo: Path) -> None:
    high = load(finished_run, threshold=0.9, device="cpu").predict(photo)
    low = predictor.predict(photo)
    assert np.prod(high.box[2:] - high.box[:2]) < np.prod(low.box[2:] - low.box[:2])
    other = load(finished_run, protocol=protocol("choe2020"), threshold=0.2, device="cpu").predict(photo)
    assert other.map.min() == 0, "choe2020 scales by the range"
    explained = load(finished_run, explainer=GradCAM("conv2"), device="cpu").predict(photo)
    assert explained.label == low.label
    assert not np.allclose(explained.map, low.map, atol=0.05)
    large = load(finished_run, image_size=64, device="cpu")
    assert large.transform(read_image(photo)).shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "choe2020"}, "no fixed threshold: set threshold="),
        ({"protocol": "cam2061"}, "unknown protocol 'cam2061'"),
        ({"threshold": 1.5}, "threshold: expected a number"),
        ({"device": "abacus"}, "device: expected auto, cpu, cuda"),
        ({"checkpoint": "wrost"}, "unknown checkpoint of .* 'wrost'"),
    ],
)
def test_bad_settings(finished_run: Path, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(finished_run, **settings)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), "expected uint8"),
        (np.zeros((3, 4, 4), np.uint8), "move channels to the end"),
        (np.zeros((4, 4), np.uint8), "repeat grey three times"),
        (np.zeros((0, 4, 3), np.uint8), "expected uint8"),
        (torch.zeros(1, 3, 4, 4), r"expected \(3, H, W\)"),
        (torch.full((3, 4, 4), -1.0), r"floats are expected in \[0, 1\], got -1 to -1"),
        (torch.full((3, 4, 4), float("nan")), r"floats are expected in \[0, 1\]"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "expected uint8, or float"),
        (Image.new("I;16", (4, 4)), "mode I;16 has no agreed range"),
        (Image.new("F", (4, 4)), "mode F has no agreed range"),
        ("/nowhere.jpg", "/nowhere.jpg"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_image(predictor: Predictor, image, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictor.predict([image])


@pytest.mark.parametrize("images", [None, 5])
def test_what_is_no_list_of_images_either(predictor: Predictor, images) -> None:
    with pytest.raises(InputError, match="expected an image"):
        predictor.predict(images)


def test_impossible_sizes(predictor: Predictor, photo: Path) -> None:
    for settings in ({"batch_size": 0}, {"map_size": (0, 5)}):
        with pytest.raises(InputError, match="expected numbers from 1"):
            predictor.predict(photo, **settings)


def test_notebooks_show_the_picture(predictor: Predictor, photo: Path) -> None:
    found = predictor.predict(photo)
    shown = np.asarray(Image.open(io.BytesIO(found._repr_png_())))
    np.testing.assert_array_equal(shown, found.picture())
    assert shown.shape == (50, 70, 3)
    x, y = (found.box[:2]).astype(int)
    np.testing.assert_array_equal(shown[y, x], (60, 230, 60), "the box is drawn green")
    assert repr(found).startswith(f"Prediction('{found.name}', score 0.")


def test_the_package_is_imported_without_torch() -> None:
    code = "import sys, wsol; assert 'torch' not in sys.modules; assert 'load' in wsol.__all__"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Localiser'"):
        __import__("wsol").Localiser  # noqa: B018
