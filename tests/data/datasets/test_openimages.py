"""OpenImages30k: masks, ignored regions, and the published lists."""

from __future__ import annotations

import pickle
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layouts import make_openimages
from PIL import Image

from wsol.data.datasets.openimages import OpenImages
from wsol.data.file_source import verify_source
from wsol.errors import InputError

REAL = Path(__file__).parents[4] / "shared/data/wsolevaluation-metadata.zip"


@pytest.fixture
def source(tmp_path: Path) -> OpenImages:
    return OpenImages(make_openimages(tmp_path) / "metadata", tmp_path / "images")


def test_splits_classes_and_masks(source: OpenImages) -> None:
    assert source.splits == ("train", "val", "test")
    assert source.classes == ("00abc", "01abc", "02abc")
    assert not source.split("train").has_masks
    assert source.split("train").mask(0) is None
    assert source.split("test").has_masks
    assert not source.split("test").has_boxes


def test_masks_are_the_union_of_objects_over_ignored_regions(source: OpenImages, tmp_path: Path) -> None:
    test = source.split("test")
    mask = test.mask(0)
    assert mask is not None
    assert mask.shape == test.image(0).shape[:2]
    stem = tmp_path / "images" / test.ids[0].removesuffix(".jpg")
    block = np.asarray(Image.open(f"{stem}_m1.png")) > 0
    expected = np.zeros((40, 48), np.uint8)
    expected[0] = 255
    expected[:4, :4] = 1
    expected[block] = 1
    np.testing.assert_array_equal(mask, expected)


def test_masks_of_another_size_are_brought_to_the_images(source: OpenImages, tmp_path: Path) -> None:
    test = source.split("test")
    mask = test.mask(1)
    stem = tmp_path / "images" / test.ids[1].removesuffix(".jpg")
    twice = np.asarray(Image.open(f"{stem}_m1.png"))
    assert mask is not None
    assert (mask.shape, twice.shape) == ((40, 48), (80, 96))
    assert (mask[twice[::2, ::2] > 0] == 1).all()
    assert (mask == 1).sum() == ((twice[::2, ::2] > 0) | (np.indices((40, 48)) < 4).all(0)).sum()
    assert "test: masks of 3 images differ in size from the image and are resized" in source.verify().notes


def test_splits_travel_to_workers_and_keep_masks_in_subsets(source: OpenImages) -> None:
    test = source.split("test")
    part = pickle.loads(pickle.dumps(test)).subset([3, 1])
    for k, i in enumerate((3, 1)):
        np.testing.assert_array_equal(part.mask(k), test.mask(i))


def test_masks_without_images(source: OpenImages, tmp_path: Path) -> None:
    """An image's first mask then says its size; masks of another size than their image stay as large as they are."""
    bare = OpenImages(tmp_path / "metadata", None, mask_root=tmp_path / "images")
    test, whole = bare.split("test"), source.split("test")
    assert [test.size(i) for i in range(2)] == [(48, 40), (96, 80)]
    assert [whole.size(i) for i in range(2)] == [(48, 40), (48, 40)]
    np.testing.assert_array_equal(test.mask(0), whole.mask(0))
    twice = test.mask(1)
    assert twice is not None
    assert twice.shape == (80, 96)
    with pytest.raises(InputError, match="without images"):
        test.image(0)
    assert bare.verify(deep=True).ok
    with pytest.raises(InputError, match="still needs its masks; set mask_root"):
        OpenImages(tmp_path / "metadata", None)


def test_listed_sizes_are_used(source: OpenImages, tmp_path: Path) -> None:
    rows = [f"{name},48,40" for name in source.split("test").ids]
    (tmp_path / "metadata/test/image_sizes.txt").write_text("\n".join(rows))
    bare = OpenImages(tmp_path / "metadata", None, mask_root=tmp_path / "images").split("test")
    assert bare.size(1) == (48, 40)
    np.testing.assert_array_equal(bare.mask(1), source.split("test").mask(1))


def test_verify_names_lost_masks(source: OpenImages, tmp_path: Path) -> None:
    lost = sorted((tmp_path / "images/test").rglob("*_m2.png"))[0]
    lost.unlink()
    report = source.verify(deep=True)
    assert "localization.txt:2: " in str(report)
    assert f"{lost}: no such file" in str(report)
    with pytest.raises(InputError, match=lost.name):
        source.split("test").mask(0)


def test_faulty_lists_stop_the_reader(source: OpenImages, tmp_path: Path) -> None:
    file = tmp_path / "metadata/test/localization.txt"
    lines = file.read_text().splitlines()
    build = partial(OpenImages, tmp_path / "metadata", tmp_path / "images")
    for line, message in (
        ("a.jpg,b.png", r"localization\.txt:2: expected 3 fields"),
        (f"{lines[1].split(',')[0]},,x.png", r"localization\.txt:2: expected the mask file of"),
        ("a.jpg,b.png,", r"localization\.txt:2: 'a\.jpg' is not listed in .*image_ids\.txt"),
    ):
        file.write_text("\n".join([lines[0], line, *lines[2:]]))
        with pytest.raises(InputError, match=message):
            build()
        assert verify_source(build).total >= 1


@pytest.mark.skipif(not REAL.exists(), reason="needs the published lists")
def test_published_lists(tmp_path: Path) -> None:
    with zipfile.ZipFile(REAL) as bundle:
        bundle.extractall(tmp_path, [m for m in bundle.namelist() if "OpenImages/" in m])
    lists = next(tmp_path.rglob("OpenImages/test")).parent
    images = tmp_path / "images"
    for split in ("train", "val", "test"):
        first = images / (lists / split / "image_ids.txt").read_text().split("\n")[0]
        first.parent.mkdir(parents=True, exist_ok=True)
        first.touch()
    source = OpenImages(lists, images)
    counts = {split: len(source.split(split)) for split in source.splits}
    assert counts == {"train": 29_819, "val": 2_500, "test": 5_000}
    assert len(source.classes) == 100
    assert source.split("val").has_masks
