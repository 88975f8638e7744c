"""Image folders as people have them: split names, leftovers, EXIF orientation, fractions, several categories."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layouts import make_folder, write
from PIL import Image

from wsol.cli import main
from wsol.data.datasets.folder import Folder
from wsol.data.file_source import verify_source
from wsol.data.images import as_rgb, decoded_size, image_size, read_image
from wsol.errors import InputError

SIDEWAYS = 6
"""The EXIF orientation of a phone held upright: the stored pixels lie on their side."""


def photo(path: Path, orientation: int = SIDEWAYS, size: tuple[int, int] = (48, 32)) -> Path:
    """Write a picture of this stored size, its top left corner white, with an EXIF orientation."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:8, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path


def rename(root: Path, names: dict[str, str]) -> Path:
    for old, new in names.items():
        (root / old).rename(root / new)
    return root


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ({"train": "Train", "test": "Test"}, ("train", "test")),
        ({"train": "training", "val": "valid", "test": "TESTING"}, ("train", "val", "test")),
        ({"train": "train_set", "val": "Validation", "test": "test-images"}, ("train", "val", "test")),
        ({"train": "train2017", "val": "dev"}, ("train", "val")),
    ],
)
def test_splits_go_by_their_usual_names(tmp_path: Path, names: dict[str, str], splits: tuple[str, ...]) -> None:
    root = rename(make_folder(tmp_path, boxes=None, splits=tuple(names)), names)
    source = Folder(root)
    assert source.splits == splits
    assert source.classes == ("cat", "dog", "fox")
    assert all(len(source.split(name)) == 9 for name in splits)
    assert not [note for note in source.verify().notes if "not read" in note]


def test_a_folder_beside_the_splits_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = rename(make_folder(tmp_path, boxes=None), {"val": "holdout"})
    (root / "annotations").mkdir()  # no images, so nothing is lost
    with caplog.at_level(logging.WARNING):
        assert Folder(root).splits == ("train", "test")
    assert [r.message for r in caplog.records] == [
        f"{root / 'holdout'} is ignored: it lies beside train, test, but has no name of a split"
    ]
    assert caplog.records[0].message in verify_source(partial(Folder, root)).notes


def test_ambiguous_splits_are_refused(tmp_path: Path) -> None:
    root = rename(make_folder(tmp_path / "a", boxes=None), {"test": "valid"})
    with pytest.raises(InputError, match=r"a: 'val' and 'valid' both look like the val split; keep one"):
        Folder(root)
    trains = make_folder(tmp_path / "b", boxes=None, splits=(), classes=("car", "train"))
    with pytest.raises(InputError, match=r"train: has images but no class folders\. As a split it needs <class>/"):
        Folder(trains)


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    root = make_folder(tmp_path, boxes=None, splits=())
    for path in (
        "__MACOSX/cat/._0.jpg",
        "cat/__MACOSX/0.jpg",
        "cat/._0.jpg",
        ".ipynb_checkpoints/0.jpg",
        "@eaDir/0.jpg",
    ):
        photo(root / path)
    for path in (".DS_Store", "Thumbs.db", "cat/Thumbs.db"):
        (root / path).write_bytes(b"\0")
    source = Folder(root)
    assert source.classes == ("cat", "dog", "fox")
    assert len(source.split("train")) == 9
    assert source.verify().ok


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    file = photo(tmp_path / f"a{suffix}", orientation)
    corner = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[orientation]
    upright = read_image(file, upright=True)
    size = (48, 32) if orientation < 5 else (32, 48)
    assert upright.shape == (*size[::-1], 3)
    assert image_size(file, upright=True) == decoded_size(file, upright=True) == size
    y, x = 2 if corner[0] == "t" else -3, 2 if corner[1] == "l" else -3
    assert upright[y, x].min() > 200
    assert upright[-y, -x].max() < 50
    assert (as_rgb(file) == upright).all()
    assert (as_rgb(str(file)) == upright).all()
    with Image.open(file) as opened:
        assert (as_rgb(opened) == upright).all()
    if suffix != ".tif":  # Pillow turns those by itself
        assert read_image(file).shape == (32, 48, 3)
        assert read_image(file)[2, 2].min() > 200
        assert image_size(file) == decoded_size(file) == (48, 32)


def coco(root: Path, size: tuple[int, int], box: Sequence[float]) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}],
        "annotations": [{"id": 1, "image_id": 1, "bbox": box, "category_id": 1}],
        "categories": [{"id": 1, "name": "bird"}],
    }
    (root / "boxes.json").write_text(json.dumps(content))
    return root


def test_boxes_are_of_the_upright_photograph(tmp_path: Path) -> None:
    photo(tmp_path / "wren/a.jpg")
    report = verify_source(partial(Folder, coco(tmp_path, (32, 48), [24, 0, 8, 16]), "boxes.json"))
    assert report.ok, str(report)
    split = Folder(tmp_path, "boxes.json").split("train")
    truth = split.truth(0)
    assert truth is not None
    x0, y0, x1, y1 = truth.boxes[0].astype(int)
    assert split.size(0) == (32, 48)
    assert split.image(0)[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].min() > 200


def test_boxes_of_the_stored_pixels_are_told_by_their_exif(tmp_path: Path) -> None:
    photo(tmp_path / "wren/a.jpg")
    stored = verify_source(partial(Folder, coco(tmp_path, (48, 32), [0, 0, 16, 8]), "boxes.json"))
    assert "is 32 x 48, listed as (48, 32); its EXIF orientation is 6" in str(stored)
    assert not stored.ok
    with pytest.raises(InputError, match="EXIF orientation is 6, and images of this dataset are turned upright"):
        Folder(tmp_path, "boxes.json").check("train")
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\na.jpg,2,2,46,30\n")
    assert "lies outside its image of 32 x 48 (wren/a.jpg); its EXIF orientation is 6" in str(
        verify_source(partial(Folder, tmp_path, "boxes.csv"))
    )


def test_predict_sees_and_draws_photographs_upright(tmp_path: Path, finished_run: Path) -> None:
    file = photo(tmp_path / "a.jpg")
    out = tmp_path / "out"
    assert main(["predict", f"run={finished_run}", f"images={file}", f"out={out}"]) == 0
    for drawn in (*(out / "maps").iterdir(), *(out / "overlays").iterdir()):
        assert image_size(drawn) == (32, 48)
    (listed,) = json.loads((out / "coco_images.json").read_text())["images"]
    assert (listed["width"], listed["height"]) == (32, 48)


def fractions(root: Path) -> Path:
    """Rewrite boxes.csv with every number divided by its image's width (48) or height (40)."""
    header, *rows = (root / "boxes.csv").read_text().split()
    lines = [header]
    for row in rows:
        name, *box = row.split(",")
        lines.append(",".join([name, *(str(float(v) / side) for v, side in zip(box, (48, 40, 48, 40), strict=True))]))
    write(root / "fractions.csv", lines)
    return root


def test_boxes_in_fractions(tmp_path: Path) -> None:
    root = fractions(make_folder(tmp_path))
    expected = r"fractions\.csv: most of its 18 boxes lie within 0 and 1, .*; expected pixels\. Set data\.box_units="
    with pytest.raises(InputError, match=expected):
        Folder(root, "fractions.csv")
    assert not verify_source(partial(Folder, root, "fractions.csv")).ok
    assert verify_source(partial(Folder, root, "fractions.csv", box_units="fractions")).ok
    pixels, scaled = Folder(root, "boxes.csv").split("test"), Folder(root, "fractions.csv", box_units="fractions")
    assert pixels.boxes is not None
    assert np.allclose(scaled.split("test").boxes.corners, pixels.boxes.corners)
    with pytest.raises(InputError, match="lies outside its image"):
        Folder(root, "boxes.csv", box_units="fractions").check("test")
    with pytest.raises(InputError, match="unknown box_units 'fraction': did you mean 'fractions'"):
        Folder(root, "boxes.csv", box_units="fraction")
    with pytest.raises(InputError, match=r"data\.inclusive=true: fractions have no last pixel"):
        Folder(root, "fractions.csv", inclusive=True, box_units="fractions")


def with_sky(root: Path, kind: str, names: dict[str, str], left_out: str = "") -> str:
    """Each test image gets a second box, sky over the whole image; ``names`` are the categories by class."""
    make_folder(root)
    rows = [row.split(",") for row in (root / "boxes.csv").read_text().split()[1:] if row.startswith("test")]
    found = [
        (row[0], names[row[0].split("/")[1]], [int(v) for v in row[1:]])
        for row in rows
        if left_out not in row[0].split("/")
    ]
    found += [(row[0], "sky", [0, 0, 48, 40]) for row in rows]
    if kind == "csv":
        write(
            root / "multi.csv", ["image,class,x0,y0,x1,y1", *(f"{i},{c},{','.join(map(str, b))}" for i, c, b in found)]
        )
        return "multi.csv"
    files, categories = sorted({i for i, _, _ in found}), sorted({c for _, c, _ in found})
    content = {
        "images": [{"id": files.index(i), "file_name": i} for i in files],
        "categories": [{"id": n, "name": c} for n, c in enumerate(categories)],
        "annotations": [
            {"image_id": files.index(i), "category_id": categories.index(c), "bbox": [x0, y0, x1 - x0, y1 - y0]}
            for i, c, (x0, y0, x1, y1) in found
        ],
    }
    (root / "multi.json").write_text(json.dumps(content))
    return "multi.json"


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_boxes_of_an_images_own_class_count(tmp_path: Path, kind: str) -> None:
    named = with_sky(tmp_path / "a", kind, {"cat": "Cat", "dog": "dog", "fox": "fox"})
    source = Folder(tmp_path / "a", named)
    alone = Folder(tmp_path / "a", "boxes.csv").split("test")
    assert source.split("test").fingerprint() == alone.fingerprint()
    assert "9 boxes are of other categories than their image's class and are left out" in source.verify().notes

    animals = with_sky(tmp_path / "b", kind, dict.fromkeys(("cat", "dog", "fox"), "animal"))
    asked = r"multi\.\w+: images of the class 'cat' have boxes of several categories \(animal, sky\).*data\.categories="
    with pytest.raises(InputError, match=asked):
        Folder(tmp_path / "b", animals)
    chosen = Folder(tmp_path / "b", animals, categories=["animal"])
    assert chosen.split("test").fingerprint() == alone.fingerprint()
    with pytest.raises(InputError, match=r"unknown category in data\.categories 'animals': did you mean 'animal'"):
        Folder(tmp_path / "b", animals, categories=["animals"])


def test_images_without_a_box_of_their_class_are_counted(tmp_path: Path) -> None:
    named = with_sky(tmp_path, "csv", {"cat": "cat", "dog": "dog", "fox": "fox"})
    rows = [row for row in (tmp_path / named).read_text().splitlines() if not row.startswith("test/cat/test0.jpg,cat")]
    write(tmp_path / named, rows)
    split = Folder(tmp_path, named).split("test")
    assert (len(split), split.images_with_boxes) == (9, 8)
    assert split.truth(0) is None
