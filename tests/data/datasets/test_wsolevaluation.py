"""The metadata lists of wsolevaluation, on small trees and the published lists themselves."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layouts import make_lists
from PIL import Image

from wsol.config.build import build_source
from wsol.config.compose import compose
from wsol.data.datasets.wsolevaluation import WsolEvaluation
from wsol.data.file_source import verify_source
from wsol.data.images import BadImage
from wsol.errors import InputError

REAL = Path(__file__).parents[4] / "shared/data/wsolevaluation-metadata.zip"


def build(root: Path, **options) -> WsolEvaluation:
    return WsolEvaluation(root / "metadata", root / "images", **options)


def test_splits_labels_and_boxes(tmp_path: Path) -> None:
    source = build(make_lists(tmp_path))
    assert source.splits == ("train", "val", "test")
    assert source.classes == ("001.Bird_1", "002.Bird_2", "003.Bird_3")
    test = source.split("test")
    assert test.ids[0] == "001.Bird_1/test_0.jpg"
    assert test.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    truth = test.truth(4)
    assert truth is not None
    assert truth.inclusive
    assert truth.boxes.shape == (2, 4)
    x0, y0, x1, y1 = truth.boxes[0].astype(int)
    assert test.image(4)[y0 + 2 : y1 - 1, x0 + 2 : x1 - 1, 1].min() > 200
    report = verify_source(partial(build, tmp_path), deep=True)
    assert report.ok, str(report)
    assert not report.notes


def test_the_proxy_list_replaces_the_training_list(tmp_path: Path) -> None:
    make_lists(tmp_path)
    source = build(tmp_path, proxy_training_set=True)
    assert [image.rsplit("/")[-1] for image in source.split("train").ids] == ["train_0.jpg"] * 3
    assert len(source.split("val")) == 9
    assert verify_source(lambda sink: build(tmp_path, proxy_training_set=True, sink=sink)).ok
    (tmp_path / "metadata/train/image_ids_proxy.txt").unlink()
    with pytest.raises(InputError, match=r"image_ids_proxy\.txt: no such file, but proxy_training_set is true"):
        build(tmp_path, proxy_training_set=True)


def test_lists_without_training_images_or_boxes(tmp_path: Path) -> None:
    make_lists(tmp_path)
    (tmp_path / "metadata/train/image_ids.txt").unlink()
    for name in ("image_sizes.txt", "localization.txt"):
        (tmp_path / "metadata/val" / name).write_text("")
    source = build(tmp_path)
    assert source.splits == ("val", "test")
    assert not source.split("val").has_boxes
    assert any(note.startswith("train: no ") for note in source.verify().notes)


def test_sizes_are_those_listed_else_those_of_the_files(tmp_path: Path) -> None:
    make_lists(tmp_path)
    listed = tmp_path / "metadata/test/image_sizes.txt"
    listed.write_text(listed.read_text().replace("test_1.jpg,48,40", "test_1.jpg,50,40"))
    test = build(tmp_path).split("test")
    assert [test.size(i) for i in range(3)] == [(48, 40), (50, 40), (48, 40)]
    assert test.subset([4, 2]).size(0) == (50, 40)
    (tmp_path / "metadata/val/image_sizes.txt").write_text("")
    val = build(tmp_path).split("val")
    Image.new("RGB", (33, 22)).save(val.path(2))
    assert [val.size(1), val.subset([2, 1]).size(0)] == [(48, 40), (33, 22)]
    val.path(3).unlink()
    with pytest.raises(InputError, match=r"val_0\.jpg: no such file"):
        val.size(3)


def without_images(root: Path, **options) -> WsolEvaluation:
    return WsolEvaluation(root / "metadata", None, **options)


def test_lists_without_images(tmp_path: Path) -> None:
    with_images = build(make_lists(tmp_path))
    source = without_images(tmp_path)
    assert source.classes == with_images.classes
    for name in source.splits:
        assert source.split(name).fingerprint() == with_images.split(name).fingerprint()
    test = source.split("test").subset([3, 1])
    assert test.size(1) == (48, 40)
    for act in (lambda: test.image(0), lambda: test.path(0)):
        with pytest.raises(
            InputError, match=r"test_0\.jpg: the dataset was given without images.*set image_root"
        ) as told:
            act()
        assert not isinstance(told.value, BadImage)  # on_bad_image=skip must not pass over all of them
    for name in source.splits:
        for skip in (False, True):
            with pytest.raises(InputError, match=f"{name}: the dataset was given without images.*saved maps needs no"):
                source.check(name, skip_unreadable=skip)
    report = verify_source(partial(without_images, tmp_path), deep=True)
    assert report.ok
    assert report.counts["test"] == {"images": 9, "classes": 3, "boxes": 18}
    assert any("without images (image_root: null): only its lists were checked" in note for note in report.notes)
    (tmp_path / "metadata/test/image_sizes.txt").write_text("")
    with pytest.raises(InputError, match=r"test_0\.jpg: neither the lists nor a mask give its size"):
        without_images(tmp_path).split("test").size(0)


def test_faulty_lists_are_found_without_images_too(tmp_path: Path) -> None:
    file = make_lists(tmp_path) / "metadata/test/localization.txt"
    file.write_text(file.read_text().replace("test_0.jpg,1,1,1,9", "test_0.jpg,1,1,99,9"))
    with pytest.raises(InputError, match=r"localization\.txt:2: box 1 1 99 9 .* of 48 x 40"):
        without_images(tmp_path)
    assert verify_source(partial(WsolEvaluation, tmp_path / "metadata", None)).total == 3


def test_a_blacklist_marks_validation_images_by_number(tmp_path: Path) -> None:
    make_lists(tmp_path)
    for file in (tmp_path / "metadata/test").iterdir():
        text = file.read_text()
        for n, image in enumerate(("001.Bird_1/test_1.jpg", "003.Bird_3/test_2.jpg"), start=7):
            text = text.replace(image, f"val/ILSVRC2012_val_{n:08d}.JPEG")
        file.write_text(text)
    blacklist = tmp_path / "blacklist.txt"
    blacklist.write_text("8\n1\n")
    source = without_images(tmp_path, blacklist=blacklist)
    marks = source.split("test").blacklist
    assert marks is not None
    assert marks.tolist() == [False] * 8 + [True]
    assert source.split("val").blacklist is None
    assert source.verify().counts["test"]["blacklisted"] == 1
    blacklist.write_text("9\n")
    with pytest.raises(InputError, match=r"blacklist\.txt: names no image of these lists"):
        without_images(tmp_path, blacklist=blacklist)


def test_class_names(tmp_path: Path) -> None:
    make_lists(tmp_path)
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee, wild\ncat\n")
    assert build(tmp_path, class_names=names).classes == ("ant", "bee, wild", "cat")
    names.write_text("ant\n")
    with pytest.raises(InputError, match=r"names\.txt: 1 names, but class_labels\.txt has classes 0 to 2"):
        build(tmp_path, class_names=names)


def test_lists_that_lack_the_last_classes(tmp_path: Path) -> None:
    make_lists(tmp_path)
    assert build(tmp_path, num_classes=5).classes == ("0", "1", "2", "3", "4")
    with pytest.raises(InputError, match=r"num_classes=2, but .* has classes up to 2: give at least 3"):
        build(tmp_path, num_classes=2)
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\ncat\n")
    assert build(tmp_path, class_names=names, num_classes=3).classes == ("ant", "bee", "cat")
    with pytest.raises(InputError, match=r"names\.txt: 3 names, but num_classes=4"):
        build(tmp_path, class_names=names, num_classes=4)


def test_ilsvrc_has_its_thousand_classes_whatever_the_lists_show(tmp_path: Path) -> None:
    make_lists(tmp_path)
    roots = [f"data.metadata_root={tmp_path}/metadata", f"data.image_root={tmp_path}/images"]
    assert len(build_source(compose("data_verify", ["data=ilsvrc_lists", *roots])).classes) == 1000


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("class_labels.txt", "001.Bird_1/test_1.jpg,zero", r"class_labels\.txt:2: expected a class number, got 'zero'"),
        ("class_labels.txt", "001.Bird_1/test_1.jpg,-1", r"class_labels\.txt:2: unknown class -1"),
        ("class_labels.txt", "001.Bird_1/test_1.jpg", r"class_labels\.txt:2: expected 2 fields"),
        ("class_labels.txt", "001.Bird_1/test_0.jpg,0", r"class_labels\.txt:2: .* is already listed on line 1"),
        ("class_labels.txt", "other.jpg,0", r"image_ids\.txt:2: '001\.Bird_1/test_1\.jpg' is not listed in"),
        ("image_sizes.txt", "001.Bird_1/test_1.jpg,48,0", r"image_sizes\.txt:2: expected width and height"),
        ("image_sizes.txt", "001.Bird_1/test_1.jpg,48", r"image_sizes\.txt:2: expected 3 fields"),
        ("localization.txt", "001.Bird_1/test_0.jpg,1,2,3,x", r"localization\.txt:2: expected numbers"),
        ("localization.txt", "001.Bird_1/test_0.jpg,1,2,50,9", r"localization\.txt:2: box 1 2 50 9 .* of 48 x 40"),
        ("localization.txt", "001.Bird_1/test_0.jpg,4,2,3,9", r"localization\.txt:2: box 4 2 3 9 has no area"),
        ("localization.txt", "nobody.jpg,1,2,3,9", r"localization\.txt:2: 'nobody\.jpg' is not listed in .*image_ids"),
        ("image_ids.txt", "001.Bird_1/test_0.jpg", r"image_ids\.txt:2: .* is already listed on line 1"),
    ],
)
def test_faulty_lists_stop_the_reader(tmp_path: Path, name: str, line: str, message: str) -> None:
    file = make_lists(tmp_path) / "metadata/test" / name
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(InputError, match=message):
        build(tmp_path)
    report = verify_source(partial(WsolEvaluation, tmp_path / "metadata", tmp_path / "images"))
    assert not report.ok
    assert report.counts["train"]["images"] == 9


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    make_lists(tmp_path)
    with pytest.raises(InputError, match=r"no lists; looked for {train,val,test}/image_ids\.txt"):
        WsolEvaluation(tmp_path / "metadata/train", tmp_path / "images")
    with pytest.raises(InputError, match=r"no such file, nor any of the next images of 'train'; wrong root\?"):
        WsolEvaluation(tmp_path / "metadata", tmp_path / "metadata")


def test_a_split_whose_images_are_elsewhere_is_refused_when_asked_for(tmp_path: Path) -> None:
    """CUBV2 is downloaded apart from CUB: training and testing must not need it."""
    make_lists(tmp_path)
    for image in (tmp_path / "images").rglob("val_*.jpg"):
        image.unlink()
    source = build(tmp_path)
    assert len(source.split("test")) == 9
    with pytest.raises(InputError, match="nor any of the next images of 'val'"):
        source.split("val")
    assert source.verify().total == 9


@pytest.mark.skipif(not REAL.exists(), reason="needs the published lists")
@pytest.mark.parametrize(
    ("name", "counts"),
    [("CUB", {"train": 5994, "val": 1000, "test": 5794}), ("ILSVRC", {"val": 10_000, "test": 50_000})],
)
def test_published_lists(tmp_path: Path, name: str, counts: dict[str, int]) -> None:
    with zipfile.ZipFile(REAL) as bundle:
        bundle.extractall(tmp_path, [m for m in bundle.namelist() if f"/{name}/" in f"/{m}"])
    lists = next(tmp_path.rglob(f"{name}/test")).parent
    images = tmp_path / "images"
    for split in counts:
        first = images / (lists / split / "image_ids.txt").read_text().split("\n")[0]
        first.parent.mkdir(parents=True, exist_ok=True)
        first.touch()
    source = WsolEvaluation(lists, images)
    assert {split: len(source.split(split)) for split in source.splits} == counts
    assert len(source.classes) == {"CUB": 200, "ILSVRC": 1000}[name]
    for split in counts:
        assert source.split(split).has_boxes
        assert set(np.unique(source.split(split).labels)) == set(range(len(source.classes)))
    if name == "CUB":
        assert source.classes[0] == "001.Black_footed_Albatross"
        truth = source.split("test").truth(0)
        assert truth is not None
        assert truth.boxes.tolist() == [[60, 27, 385, 331]]
