"""`wsol eval` with two processes and every explainer, second look and kept map: the digits of one process.

The splits are uneven, and of the test split the second process has no image.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.choices import OF_TRANSFORMERS, choices
from tests.engine.ddp_worker import eval_words, free_port, run_commands, together
from wsol.cli import main
from wsol.interop.map_store import MapStore

WORLD = 2
EXPLAINERS = sorted({*choices("explainer")} - OF_TRANSFORMERS)
WAYS = ("crop", "weighted")
NAMES = ("none", *EXPLAINERS)


def commands(folder: Path, run: Path, data_dir: Path, world: int) -> list[list[str]]:
    """A command line for each explainer, its maps kept, with one of the second looks in turn."""
    found = []
    for number, name in enumerate(NAMES):
        chosen = [] if name == "none" else [f"explainer={name}"]
        own = [*chosen, "save_maps=true", "maps_dtype=float32", f"recognize={WAYS[number % 2]}", "protocol=choe2020"]
        found.append([*eval_words(run, folder / str(world) / name, data_dir, "few", world), "data.val_images=3", *own])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Path:
    """What one process and what two leave behind."""
    made = tmp_path_factory.mktemp("ddp")
    several = commands(made, finished_run, made / "data", WORLD)
    wait = together(WORLD, made, run_commands, WORLD, free_port(), several)
    for command in commands(made, finished_run, made / "alone", 1):
        assert main(command) == 0
    wait()
    return made


@pytest.mark.parametrize("name", NAMES)
def test_no_digit_depends_on_the_number_of_processes(folder: Path, name: str) -> None:
    alone, shared = (json.loads((folder / str(world) / name / "results.json").read_text()) for world in (1, WORLD))
    for part in ("localization", "classification", "pixels", "skipped_images", "recognition", "error_kinds"):
        assert shared[part] == alone[part], part
    assert {row["images"] for row in shared["localization"] if row["split"] == "val"} == {3}
    assert {row["images"] for row in shared["localization"] if row["split"] == "test"} == {1}
    assert shared["recognition"]["test"]["how"] in WAYS
    assert shared["pixels"]["val"]["PxAP"] > 0
    with (
        np.load(folder / "1" / name / "image_results.npz") as one,
        np.load(folder / "2" / name / "image_results.npz") as two,
    ):
        assert sorted(one.files) == sorted(two.files)
        assert all(np.array_equal(one[key], two[key]) for key in one.files)


@pytest.mark.parametrize("name", NAMES)
def test_the_kept_maps_are_all_there_and_the_same(folder: Path, name: str) -> None:
    for split, images in (("val", 3), ("test", 1)):
        alone, shared = (MapStore(folder / str(world) / name / "maps" / split) for world in (1, WORLD))
        assert len(shared.ids) == images
        assert set(shared.ids) == set(alone.ids)
        for image_id in alone.ids:
            (maps, geometries), (same, of_same) = alone.read(image_id), shared.read(image_id)
            assert np.array_equal(maps, same)
            assert geometries == of_same


@pytest.mark.parametrize("name", NAMES)
def test_per_image_csv_is_the_same(folder: Path, name: str) -> None:
    alone, shared = ((folder / str(world) / name / "per_image.csv").read_text() for world in (1, WORLD))
    assert shared == alone
    assert len(list(csv.reader(alone.splitlines()))) == 1 + 2, "a header, and a line for each threshold"
