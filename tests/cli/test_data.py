"""`wsol data verify` and `wsol data prepare`, and training on real layouts from the command line."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.conftest import SMALL_RUN
from tests.data import layouts
from wsol.cli import main

ON_FILES = [
    *(word for word in SMALL_RUN if not word.startswith("data.")),
    "backbone=tiny",
    "topk=[1]",
    "monitor=null",
    "trainer.max_epochs=1",
]


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    return layouts.make_cub(tmp_path)


def test_verify_counts_and_exits_with_zero(cub: Path, capsys) -> None:
    assert main(["data", "verify", "data=cub", f"data.root={cub}"]) == 0
    assert "no problems" in capsys.readouterr().out


def test_verify_names_file_and_line_and_exits_with_two(cub: Path, capsys) -> None:
    boxes = cub / "bounding_boxes.txt"
    lines = boxes.read_text().splitlines()
    boxes.write_text("\n".join(["1 nonsense", *lines[1:]]) + "\n")
    assert main(["data", "verify", "data=cub", f"data.root={cub}"]) == 2
    assert f"{boxes}:1:" in capsys.readouterr().out


def test_training_on_files_works(cub: Path, tmp_path: Path) -> None:
    assert main(["train", "data=cub", f"data.root={cub}", *ON_FILES, f"run_dir={tmp_path / 'run'}"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["data"]["source"] == "wsol.data.datasets.cub.CUB"


def test_a_box_outside_its_image_stops_before_training(cub: Path, tmp_path: Path, capsys) -> None:
    boxes = cub / "bounding_boxes.txt"
    split = dict(line.split() for line in (cub / "train_test_split.txt").read_text().splitlines())
    lines = boxes.read_text().splitlines()
    line, number = next((i, row.split()[0]) for i, row in enumerate(lines) if split[row.split()[0]] == "0")
    lines[line] = f"{number} 0.0 0.0 5000.0 5000.0"
    boxes.write_text("\n".join(lines) + "\n")
    assert main(["train", "data=cub", f"data.root={cub}", *ON_FILES, f"run_dir={tmp_path / 'run'}"]) == 2
    assert f"{boxes}:{line + 1}:" in capsys.readouterr().err


def test_an_unreadable_image_stops_the_run_or_is_left_out_and_listed(cub: Path, tmp_path: Path, capsys) -> None:
    split = dict(line.split() for line in (cub / "train_test_split.txt").read_text().splitlines())
    names = dict(line.split() for line in (cub / "images.txt").read_text().splitlines())
    bad = {kind: next(names[n] for n in names if split[n] == flag) for kind, flag in (("test", "0"), ("train", "1"))}
    for name in bad.values():
        file = cub / "images" / name
        file.write_bytes(file.read_bytes()[:200])
    words = ["train", "data=cub", f"data.root={cub}", *ON_FILES]
    assert main([*words, f"run_dir={tmp_path / 'stop'}"]) == 2
    assert Path(next(iter(bad.values()))).name in capsys.readouterr().err
    assert main([*words, "loader.on_bad_image=skip", f"run_dir={tmp_path / 'skip'}"]) == 0
    skipped = json.loads((tmp_path / "skip" / "results.json").read_text())["skipped_images"]
    assert {split: [Path(name).stem for name in ids] for split, ids in skipped.items()} == {
        kind: [Path(name).stem] for kind, name in bad.items()
    }
    kept = ["eval", f"run={tmp_path / 'skip'}", "save_maps=true", f"out={tmp_path / 'kept'}", "num_workers=0"]
    assert main([*kept, "trainer.accelerator=cpu"]) == 0
    looked_at = (tmp_path / "kept" / "per_image.csv").read_text()
    assert bad["test"] not in looked_at
    assert all(names[n] in looked_at for n in names if split[n] == "0" and names[n] != bad["test"])


def test_prepare_unpacks_and_verifies(cub: Path, tmp_path: Path, capsys) -> None:
    archive = tmp_path / "CUB_200_2011.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cub, arcname="CUB_200_2011")
    root = tmp_path / "made" / "CUB_200_2011"
    assert main(["data", "prepare", "data=cub", f"archive={archive}", f"data.root={root}"]) == 0
    assert "no problems" in capsys.readouterr().out
    assert (root / "images.txt").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=creatures"], "no archives to prepare"),
        (["data=cubb"], "did you mean 'cub'"),
        ([], "which dataset?"),
        (["data=cub", "archive=birds.tgz"], "CUB_200_2011.tgz"),
    ],
)
def test_prepare_refuses_what_it_cannot(capsys, words: list[str], message: str) -> None:
    assert main(["data", "prepare", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_boxes_is_for_training_only(tmp_path: Path, cub: Path, capsys) -> None:
    root = cub / "images"
    assert main(["train", "data=folder", f"data.root={root}", *ON_FILES, f"run_dir={tmp_path / 'run'}"]) == 0
    assert "not evaluated, because there are no boxes" in capsys.readouterr().out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["localization"] == []


def test_masks_are_evaluated_by_pxap(tmp_path: Path, capsys) -> None:
    root = layouts.make_openimages(tmp_path)
    words = [f"data.metadata_root={root / 'metadata'}", f"data.image_root={root / 'images'}"]
    assert main(["train", "data=openimages", *words, *ON_FILES, f"run_dir={tmp_path / 'run'}"]) == 0
    pixels = json.loads((tmp_path / "run" / "results.json").read_text())["pixels"]
    assert 0 < pixels["test"]["PxAP"] <= 100
