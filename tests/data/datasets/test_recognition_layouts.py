"""Datasets for recognition: class folders with drawn splits, lists of paths, and Stanford 40 Actions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layouts import paint, write

from wsol.data.datasets.path_lists import PathLists
from wsol.data.datasets.random_splits import RandomSplits
from wsol.data.datasets.stanford40 import Stanford40
from wsol.data.file_source import verify_source
from wsol.errors import InputError


def make_caltech(root: Path, counts: dict[str, int] | None = None) -> Path:
    """Class folders, and files that are no images."""
    for label, (name, count) in enumerate(
        (counts or {"BACKGROUND_Google": 9, "Faces": 8, "ant": 6, "wrench": 7}).items()
    ):
        for k in range(count):
            paint(root / name / f"image_{k + 1:04d}.jpg", label, k)
    write(root / "Faces" / "notes.txt", ["no image"])
    paint(root / "ant" / "more" / "image_0001.jpg", 0, 0)  # as in 256_ObjectCategories/198.spider/RENAME2
    return root


def make_scenes(root: Path) -> Path:
    """SUN397: classes up to three folders deep, paths with a leading slash, classes not in sorted order."""
    classes = ["a/abbey", "u/underwater/coral_reef", "c/cabin/outdoor"]
    tables: dict[str, list[str]] = {"Training_01": [], "Testing_01": []}
    for label, name in enumerate(classes):
        for k in range(5):
            paint(root / name / f"sun_{label}{k}.jpg", label, k)
            tables["Training_01" if k < 3 else "Testing_01"].append(f"/{name}/sun_{label}{k}.jpg")
    for list_name, rows in tables.items():
        write(root / "Partitions" / f"{list_name}.txt", rows)
    write(root / "ClassName.txt", [f"/{name}" for name in classes])
    return root


def make_indoor(root: Path) -> Path:
    """Indoor67: an image name with a blank, as there are."""
    for label, name in enumerate(["kitchen", "airport_inside"]):
        files = [f"{name}/{name}_{k:04d}.jpg" for k in range(3)] + [f"{name}/a photo.jpg"]
        for k, file in enumerate(files):
            paint(root / "Images" / file, label, k)
        for list_name, rows in (("TrainImages", files[:3]), ("TestImages", files[3:])):
            with (root / f"{list_name}.txt").open("a") as out:
                out.writelines(f"{row}\r\n" for row in rows)
    return root


def make_actions(root: Path) -> Path:
    """Stanford 40 Actions, with the lists of all classes together beside those of each."""
    every: dict[str, list[str]] = {"train": [], "test": []}
    for label, name in enumerate(["applauding", "riding_a_bike", "blowing_bubbles"]):
        for split, numbers in (("train", (1, 2)), ("test", (3, 4, 5))):
            files = [f"{name}_{k:03d}.jpg" for k in numbers]
            for k, file in zip(numbers, files, strict=True):
                paint(root / "JPEGImages" / file, label, k)
            write(root / "ImageSplits" / f"{name}_{split}.txt", files)
            every[split] += files
    for split, files in every.items():
        write(root / "ImageSplits" / f"{split}.txt", files)
    write(root / "ImageSplits" / "actions.txt", ["action_name\tnumber_of_images", "applauding\t5"])
    return root


CALTECH = {"train_per_class": 4, "leave_out": ["BACKGROUND_Google"]}
SUN = ("images", ".", "train_list", "Partitions/Training_01.txt", "test_list", "Partitions/Testing_01.txt")
SUN397 = dict(zip(SUN[::2], SUN[1::2], strict=True)) | {"class_names": "ClassName.txt"}
INDOOR67 = {"images": "Images", "train_list": "TrainImages.txt", "test_list": "TestImages.txt"}


def test_images_are_drawn_by_class(tmp_path: Path) -> None:
    source = RandomSplits(make_caltech(tmp_path), **CALTECH)
    assert source.classes == ("Faces", "ant", "wrench")
    train, test = source.split("train"), source.split("test")
    assert np.bincount(train.labels).tolist() == [4, 4, 4]
    assert np.bincount(test.labels).tolist() == [4, 2, 3]
    assert not set(train.ids) & set(test.ids)
    assert {name.partition("/")[0] for name in test.ids} == set(source.classes)
    assert not any("more" in name or "notes" in name for name in (*train.ids, *test.ids))
    assert not test.has_boxes
    assert verify_source(partial(RandomSplits, tmp_path, **CALTECH), deep=True).ok


def test_at_most_so_many_test(tmp_path: Path) -> None:
    test = RandomSplits(make_caltech(tmp_path), **CALTECH, test_per_class=3).split("test")
    assert np.bincount(test.labels).tolist() == [3, 2, 3]


def test_draws_depend_on_the_seed_and_the_class_alone(tmp_path: Path) -> None:
    make_caltech(tmp_path)
    drawn = [list(RandomSplits(tmp_path, **CALTECH, seed=seed).split("train").ids) for seed in range(8)]
    assert drawn[0] == list(RandomSplits(tmp_path, **CALTECH, seed=0).split("train").ids)
    assert len({tuple(ids) for ids in drawn}) == 8
    seen = {name for ids in drawn for name in ids}
    assert len(seen) == 8 + 6 + 7, "every image trains under some seed"
    make_caltech(tmp_path, {"zebra": 9})
    more = RandomSplits(tmp_path, **CALTECH).split("train").ids
    assert [name for name in more if not name.startswith("zebra")] == drawn[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_per_class": 6}, "ant: 6 images, expected at least 7: 6 to train and 1 to test; lower"),
        ({"train_per_class": 0}, "train_per_class: expected at least 1, got 0"),
        ({"train_per_class": 2, "test_per_class": 0}, "test_per_class: expected at least 1, got 0"),
        ({"train_per_class": 2, "seed": -1}, "seed of the draw: expected at least 0, got -1"),
        ({"train_per_class": 2, "leave_out": ["Faces", "ant", "wrench", "BACKGROUND_Google"]}, "no class folders"),
    ],
)
def test_draws_that_cannot_be(tmp_path: Path, options: dict, message: str) -> None:
    make_caltech(tmp_path)
    with pytest.raises(InputError, match=message):
        RandomSplits(tmp_path, **options)


def test_a_check_lists_all_classes_that_are_too_small(tmp_path: Path) -> None:
    report = verify_source(partial(RandomSplits, make_caltech(tmp_path), train_per_class=7))
    assert {Path(problem.file).name for problem in report.problems} == {"ant", "wrench"}


def test_sun397(tmp_path: Path) -> None:
    source = PathLists(make_scenes(tmp_path), **SUN397)
    assert source.classes == ("a/abbey", "u/underwater/coral_reef", "c/cabin/outdoor")
    assert source.split("train").labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert list(source.split("test").ids)[2] == "u/underwater/coral_reef/sun_13.jpg"
    assert source.split("test").image(2).shape == (40, 48, 3)
    in_order = PathLists(tmp_path, **{**SUN397, "class_names": None})
    assert in_order.classes == tuple(sorted(source.classes))
    assert verify_source(partial(PathLists, tmp_path, **SUN397), deep=True).ok


def test_indoor67(tmp_path: Path) -> None:
    source = PathLists(make_indoor(tmp_path), **INDOOR67)
    assert source.classes == ("airport_inside", "kitchen")
    assert source.split("train").labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert list(source.split("test").ids) == ["kitchen/a photo.jpg", "airport_inside/a photo.jpg"]
    assert source.split("test").image(0).size


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("TestImages.txt", "kitchen/kitchen_0000.jpg", r"TestImages.txt:3: .* is also a training image \(line 1\)"),
        ("TestImages.txt", "garage/a.jpg", r"TestImages.txt:3: unknown class 'garage', in 'garage/a.jpg'"),
        ("TestImages.txt", "a.jpg", r"TestImages.txt:3: expected <class>/<image>, in 'a.jpg'"),
        ("TrainImages.txt", "kitchen/kitchen_0001.jpg", r"TrainImages.txt:7: .* is already listed on line 2"),
    ],
)
def test_lists_with_a_fault(tmp_path: Path, file: str, line: str, message: str) -> None:
    make_indoor(tmp_path)
    with (tmp_path / file).open("a") as out:
        out.write(line + "\n")
    with pytest.raises(InputError, match=message):
        PathLists(tmp_path, **INDOOR67)
    assert not verify_source(partial(PathLists, tmp_path, **INDOOR67)).ok


def test_a_list_that_is_missing(tmp_path: Path) -> None:
    make_indoor(tmp_path)
    (tmp_path / "TestImages.txt").unlink()
    with pytest.raises(InputError, match=r"TestImages.txt: cannot be read"):
        PathLists(tmp_path, **INDOOR67)


def test_an_image_that_is_missing_is_named(tmp_path: Path) -> None:
    make_indoor(tmp_path)
    (tmp_path / "Images/kitchen/a photo.jpg").unlink()
    with pytest.raises(InputError, match=r"a photo.jpg: no such file"):
        PathLists(tmp_path, **INDOOR67).check("test")


def test_stanford40(tmp_path: Path) -> None:
    source = Stanford40(make_actions(tmp_path))
    assert source.classes == ("applauding", "blowing_bubbles", "riding_a_bike")
    assert source.split("train").labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert list(source.split("test").ids)[3:6] == [f"blowing_bubbles_00{k}.jpg" for k in (3, 4, 5)]
    assert source.split("test").image(0).size
    assert verify_source(partial(Stanford40, tmp_path), deep=True).ok


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("applauding_test.txt", None, "applauding_test.txt: cannot be read"),
        ("applauding_test.txt", ["applauding_003.jpg"] * 2, "applauding_test.txt:2: .* is already listed on line 1"),
        ("riding_a_bike_test.txt", ["applauding_001.jpg"], "riding_a_bike_test.txt:1: .* is already listed on line 1"),
    ],
)
def test_action_lists_with_a_fault(tmp_path: Path, file: str, lines: list[str] | None, message: str) -> None:
    path = make_actions(tmp_path) / "ImageSplits" / file
    path.unlink()
    if lines is not None:
        write(path, lines)
    with pytest.raises(InputError, match=message):
        Stanford40(tmp_path)


def test_action_lists_that_are_not_there(tmp_path: Path) -> None:
    for file in (make_actions(tmp_path) / "ImageSplits").glob("*_*.txt"):
        file.unlink()
    with pytest.raises(InputError, match=r"ImageSplits: no lists; expected <class>_train.txt"):
        Stanford40(tmp_path)


@pytest.mark.parametrize("source", [RandomSplits, PathLists, Stanford40])
def test_a_root_that_is_not_there(tmp_path: Path, source: type) -> None:
    options = {RandomSplits: {"train_per_class": 1}, PathLists: INDOOR67, Stanford40: {}}[source]
    with pytest.raises(InputError, match="no such folder; expected"):
        source(tmp_path / "none", **options)
