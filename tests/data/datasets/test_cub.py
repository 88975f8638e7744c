"""CUB-200-2011 in its published layout."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layouts import make_cub

from wsol.data.datasets.cub import CUB
from wsol.data.file_source import verify_source
from wsol.errors import InputError

REAL = Path(__file__).parents[4] / "shared/data/CUB_200_2011-6classes.zip"


def rewrite(file: Path, line: int, text: str | None) -> None:
    """Replace a line, counted from 1; None removes it."""
    lines = file.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_cub(tmp_path / "CUB_200_2011")


def test_splits_labels_and_boxes(root: Path) -> None:
    source = CUB(root)
    train, test = source.split("train"), source.split("test")
    assert source.classes == ("001.Bird_1", "002.Bird_2", "003.Bird_3")
    assert source.splits == ("train", "test")
    assert list(train.ids) == [f"{c:03d}.Bird_{c}/Bird_{k:04d}_{4 * c - 3 + k}.jpg" for c in (1, 2, 3) for k in (1, 3)]
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    truth = test.truth(0)
    assert truth is not None
    assert not truth.inclusive
    x, y, w, h = map(float, (root / "bounding_boxes.txt").read_text().split()[1:5])
    assert truth.boxes.tolist() == [[x, y, x + w, y + h]]
    x0, y0, x1, y1 = truth.boxes[0].astype(int)
    assert test.image(0)[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2, 0].min() > 200  # the block is where its box says


def test_class_ids_need_not_be_contiguous(tmp_path: Path) -> None:
    root = make_cub(tmp_path, class_ids=(17, 4, 200))
    source = CUB(root)
    assert source.classes == ("004.Bird_4", "017.Bird_17", "200.Bird_200")
    test = source.split("test")
    by_folder = {image.split("/")[0]: int(label) for image, label in zip(test.ids, test.labels, strict=True)}
    assert by_folder == {"004.Bird_4": 0, "017.Bird_17": 1, "200.Bird_200": 2}


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("image_class_labels.txt", 3, "3 one", r"image_class_labels\.txt:3: expected a class number, got 'one'"),
        ("image_class_labels.txt", 3, "3 9", r"image_class_labels\.txt:3: unknown class 9"),
        ("image_class_labels.txt", 3, "3", r"image_class_labels\.txt:3: expected 2 fields"),
        ("image_class_labels.txt", 3, None, r"images\.txt:3: '3' is not listed in .*image_class_labels\.txt"),
        ("bounding_boxes.txt", 2, "2 1.0 2.0 x 4.0", r"bounding_boxes\.txt:2: expected numbers after '2'"),
        ("bounding_boxes.txt", 2, "2 1.0 2.0 0.0 4.0", r"bounding_boxes\.txt:2: box 1 2 1 6 has no area"),
        ("bounding_boxes.txt", 2, "2 -9 2.0 10 4.0", r"bounding_boxes\.txt:2: box .* lies outside its image"),
        ("bounding_boxes.txt", 2, None, r"images\.txt:2: '2' is not listed in .*bounding_boxes\.txt"),
        ("train_test_split.txt", 5, "5 2", r"train_test_split\.txt:5: expected 1 \(train\) or 0 \(test\), got '2'"),
        ("images.txt", 2, "1 a.jpg", r"images\.txt:2: '1' is already listed on line 1"),
        ("images.txt", 2, None, r"image_class_labels\.txt:2: '2' is not listed in .*images\.txt"),
        ("classes.txt", 1, "one 001.Bird_1", r"classes\.txt:1: expected a class number, got 'one'"),
    ],
)
def test_faulty_lists_stop_the_reader(root: Path, file: str, line: int, text: str | None, message: str) -> None:
    rewrite(root / file, line, text)
    with pytest.raises(InputError, match=message):
        CUB(root)
    report = verify_source(partial(CUB, root))
    assert not report.ok


def test_the_same_path_twice_is_refused(root: Path) -> None:
    first = (root / "images.txt").read_text().split()[1]
    rewrite(root / "images.txt", 2, f"2 {first}")
    with pytest.raises(InputError, match=r"images\.txt:2: .*is already listed on line 1"):
        CUB(root)


def test_wrong_folders_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder; expected CUB_200_2011 with images"):
        CUB(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: empty folder"):
        CUB(tmp_path / "empty")
    (root / "images.txt").unlink()
    with pytest.raises(InputError, match=r"images\.txt: cannot be read"):
        CUB(root)


def test_images_that_are_nowhere_are_refused(root: Path) -> None:
    for image in (root / "images").glob("*/*.jpg"):
        image.unlink()
    with pytest.raises(InputError, match=r"jpg: no such file, nor any of the next images"):
        CUB(root)


def test_verify_counts_and_finds(root: Path) -> None:
    report = verify_source(partial(CUB, root), deep=True)
    assert report.ok, str(report)
    assert report.counts["train"]["images"] == 6
    assert report.per_class["test"] == {"001.Bird_1": 2, "002.Bird_2": 2, "003.Bird_3": 2}
    images = sorted((root / "images").glob("*/*.jpg"))
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:300])
    images[2].write_bytes(b"not an image")
    images[-1].with_name("other.jpg").write_bytes(b"")
    rewrite(root / "bounding_boxes.txt", 12, "12 5 5 45 10")
    report = CUB(root).verify(deep=True)
    assert [Path(problem.file).name for problem in report.problems] == [
        images[1].name,
        "bounding_boxes.txt",
        images[0].name,
        images[2].name,
    ]
    assert "bounding_boxes.txt:12: box 5 5 50 15 lies outside its image of 48 x 40" in str(report)
    assert "1 images under" in report.notes[0]


def test_inspection_goes_on_after_the_first_fault(root: Path) -> None:
    rewrite(root / "image_class_labels.txt", 1, "1 77")
    rewrite(root / "bounding_boxes.txt", 4, "4 what")
    report = verify_source(partial(CUB, root))
    assert report.total == 3  # the second also leaves images.txt with an image of no box
    assert report.counts["test"]["images"] == 5
    assert "image_class_labels.txt:1: unknown class 77" in str(report)
    assert "bounding_boxes.txt:4: expected 5 fields" in str(report)


@pytest.mark.skipif(not REAL.exists(), reason="needs the shared subset of CUB")
def test_real_photographs(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(REAL) as bundle:
        bundle.extractall(tmp_path)
    folder = next(tmp_path.rglob("images.txt")).parent
    source = CUB(folder)
    report = source.verify()
    assert report.ok, str(report)
    assert (report.counts["train"]["images"], report.counts["test"]["images"]) == (180, 143)
    truth = source.split("train").truth(0)
    assert truth is not None
    np.testing.assert_array_equal(truth.boxes, [[139, 30, 292, 294]])
