"""`wsol concept`: a concept that is easy to learn, and everything it leaves."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from wsol.cli import main
from wsol.functional.geometry import Geometry
from wsol.patterns.concept_learning import ConceptMap, under


def concept(*words: str) -> int:
    return main(["features", "concept", "num_workers=0", "device=cpu", *words])


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey noise, with a red patch in the upper left (positives) or without (negatives)."""
    root = tmp_path_factory.mktemp("examples")
    rng = np.random.default_rng(0)
    for i in range(12):
        for name in ("with", "without"):
            image = rng.integers(80, 176, (32, 32, 1)).repeat(3, 2).astype(np.uint8)
            if name == "with":
                image[2:14, 2:14] = (250, 10, 10)
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(root / name / f"{i}.png")
    return root


def words(examples: Path, *more: str) -> list[str]:
    return [f"positives={examples / 'with'}", f"negatives={examples / 'without'}", *more]


def test_a_concept_is_learned_and_found_where_it_is(finished_run: Path, examples: Path, tmp_path: Path, capsys) -> None:
    assert concept(f"run={finished_run}", *words(examples, "C=100"), f"out={tmp_path}") == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["positives"], results["negatives"], results["images_held_out"]) == (12, 12, 6)
    assert results["held out"]["accuracy"] == 100
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    held = [row for row in rows if row["held_out"] == "1"]
    assert sum(row["positive"] == "1" for row in held) == 3
    assert all((float(row["score"]) > 0) == (row["positive"] == "1") for row in held)
    drawn = sorted((tmp_path / "overlays").rglob("*.png"))
    assert len(drawn) == 6
    for file in drawn:
        assert cv2.imread(str(file)).shape == (32, 32, 3)
    saved = np.load(tmp_path / "concept.npz")
    assert saved["weight"].shape == (64,)
    assert cv2.imread(str(tmp_path / "sheet.png")).size
    assert "held out: accuracy 100.0 %" in capsys.readouterr().out


def test_the_map_is_hot_where_the_concept_is(finished_run: Path, examples: Path, tmp_path: Path) -> None:
    given = [f"images={examples / 'with' / '0.png'}"]
    assert concept(f"run={finished_run}", *words(examples, *given, "C=100"), f"out={tmp_path}") == 0
    shown = cv2.imread(str(tmp_path / "overlays" / "0.png.png")).astype(int)
    heat = 2 * shown - cv2.imread(str(examples / "with" / "0.png"))  # half image, half heat; blue, green, red
    assert heat[2:12, 2:12, 2].mean() > heat[22:, 22:, 2].mean() + 30


@pytest.mark.parametrize(("peak", "colour"), [(4.0, "red"), (8.0, "green"), (40.0, "blue"), (-4.0, "blue")])
def test_maps_share_one_scale(peak: float, colour: str) -> None:
    """A map that reaches 4, or nowhere 0, drawn where the greatest value of all maps is ``peak``."""
    score_map = np.full((4, 4), -1.0)
    score_map[1:3, 1:3] = 4.0 if peak > 0 else -0.5
    view = Geometry.square((40, 40), 32)
    shown = under(np.zeros((40, 40, 3), np.uint8), ConceptMap(0.0, score_map, view), abs(peak))
    red, green, blue = shown[20, 20].astype(int)
    assert {"red": red, "green": green, "blue": blue}[colour] == max(red, green, blue) > 50
    assert (shown[0, 0] == [0, 0, 64]).all(), "nothing is there"


def test_a_bare_backbone_and_globs(examples: Path, tmp_path: Path) -> None:
    given = [
        f"positives='{examples}/with/*.png'",
        f"negatives=['{examples}/without/1*.png','{examples}/without/2.png']",
    ]
    assert concept("backbone=tiny", "transform=small", "image_size=32", *given, f"out={tmp_path}") == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["positives"], results["negatives"]) == (12, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["negatives={root}/without"], "no images: set positives="),
        (["positives={root}/with"], "no images: set negatives="),
        (["positives={root}/none", "negatives={root}/without"], "positives: {root}/none: no such file or folder"),
        (
            ["positives={root}", "negatives={root}/without"],
            "among both the positives and the negatives, with 11",
        ),
        (["positives={root}/with/1.png", "negatives={root}/without"], "positives: 1 images, 1 of them held out"),
        (["positives={root}/with", "negatives={root}/without", "held_out=1"], "held_out: expected a share"),
        (["positives={root}/with", "negatives={root}/without", "C=0"], "C: expected a number above 0"),
        (["positives={root}/with", "negatives={root}/without", "point=conv9"], "unknown layer 'conv9'"),
        (
            ["positives={root}/with", "negatives={root}/without", "images={root}/none"],
            "images={root}/none: no such file",
        ),
    ],
)
def test_bad_input_is_one_clear_message(
    finished_run: Path, examples: Path, tmp_path: Path, capsys, given: list[str], message: str
) -> None:
    filled = [word.format(root=examples) for word in given]
    assert concept(f"run={finished_run}", *filled, f"out={tmp_path / 'out'}") == 2
    assert message.format(root=examples) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_network_must_be_named(examples: Path, capsys) -> None:
    assert concept(*words(examples)) == 2
    assert "which network? wsol features concept <run> positives=<folder>" in capsys.readouterr().err
    assert concept("backbone=tiny", *words(examples)) == 2
    assert "no transform: choose transform=square" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["positives", "images"])
def test_a_bad_image_is_named_and_nothing_left(
    finished_run: Path, examples: Path, tmp_path: Path, capsys, where: str
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    given = {"positives": examples / "with", "negatives": examples / "without"}
    given[where] = f"[{given.get(where, examples)},{bad}]"
    words = [f"{key}={value}" for key, value in given.items()]
    assert concept(f"run={finished_run}", *words, f"out={tmp_path / 'out'}") == 2
    assert "bad.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
