"""Tiny ImageNet-200 in its published layout."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import pytest
from layouts import make_tiny_imagenet

from wsol.data.datasets.tiny_imagenet import TinyImageNet
from wsol.data.file_source import verify_source
from wsol.errors import InputError

REAL = Path(__file__).parents[4] / "shared/data/tiny-imagenet-50.zip"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_tiny_imagenet(tmp_path / "tiny-imagenet-200")


def test_splits_labels_and_boxes(root: Path) -> None:
    source = TinyImageNet(root)
    assert source.classes == ("n01443537 goldfish", "n01698640 American alligator", "n02123045 tabby")
    train, test = source.split("train"), source.split("test")
    assert train.ids[0] == "n01443537_0.JPEG"
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    truth = train.truth(0)
    assert truth is not None
    assert truth.inclusive
    assert truth.boxes.tolist() == [[63, 10, 63, 53]]
    assert truth.half_open.tolist() == [[63, 10, 64, 54]]  # one pixel wide
    assert test.image(5).shape == (64, 64, 3)
    assert source.verify(deep=True).ok


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_9.JPEG\tn99999999\t0\t0\t5\t5", r"val_annotations\.txt:2: unknown class 'n99999999'"),
        ("val_9.JPEG\tn01443537\t0\t0\t5", r"val_annotations\.txt:2: expected 6 fields separated by '\\t', got 5"),
        ("val_9.JPEG\tn01443537\t0\t0\tfive\t5", r"val_annotations\.txt:2: expected numbers"),
        ("val_9.JPEG\tn01443537\t0\t0\t65\t5", r"val_annotations\.txt:2: box .* outside its image of 64 x 64"),
        ("val_9.JPEG\tn01443537\t9\t0\t8\t5", r"val_annotations\.txt:2: box 9 0 8 5 has no area"),
        ("val_0.JPEG\tn01443537\t9\t0\t9\t5", r"val_annotations\.txt:2: 'val_0\.JPEG' is already listed on line 1"),
    ],
)
def test_faulty_lists_stop_the_reader(root: Path, line: str, message: str) -> None:
    file = root / "val/val_annotations.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(InputError, match=message):
        TinyImageNet(root)


def test_wrong_layouts_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"wnids\.txt: cannot be read"):
        TinyImageNet(root / "train")
    (root / "train/n01443537/n01443537_boxes.txt").unlink()
    with pytest.raises(InputError, match=r"n01443537_boxes\.txt: cannot be read"):
        TinyImageNet(root)
    (root / "wnids.txt").write_text("n00000001\n")
    with pytest.raises(InputError, match=r"words\.txt: class n00000001 of wnids\.txt is not listed"):
        TinyImageNet(root)


def test_verify_names_missing_and_unlisted_images(root: Path) -> None:
    (root / "val/images/val_3.JPEG").rename(root / "val/images/val_33.JPEG")
    report = verify_source(partial(TinyImageNet, root))
    assert [problem.text for problem in report.problems] == ["no such file"]
    assert report.problems[0].file.endswith("val_3.JPEG")
    assert any("val_33.JPEG" in note for note in report.notes)


@pytest.mark.skipif(not REAL.exists(), reason="needs the shared 50 classes of Tiny ImageNet")
def test_the_published_lists_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(REAL) as bundle:
        wanted = [n for n in bundle.namelist() if n.endswith((".txt", "_0.JPEG", "val_2.JPEG"))]
        bundle.extractall(tmp_path, wanted)
    source = TinyImageNet(next(tmp_path.rglob("wnids.txt")).parent)
    assert len(source.classes) == 50
    assert (len(source.split("train")), len(source.split("test"))) == (25_000, 2_500)
