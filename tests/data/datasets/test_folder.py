"""Any image folder, with boxes as CSV or COCO JSON or without."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import make_folder, told
from PIL import Image

from wsol.data.annotations.box_files import read_boxes, read_coco
from wsol.data.datasets.folder import Folder
from wsol.data.file_source import verify_source
from wsol.data.source import Report
from wsol.errors import InputError

FINITE = st.floats(-1e6, 1e6)
BOXES = st.lists(st.tuples(FINITE, FINITE, FINITE, FINITE), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boxes")


def test_csv_and_coco_say_the_same(tmp_path: Path) -> None:
    table = Folder(make_folder(tmp_path / "a"), boxes="boxes.csv")
    coco = Folder(make_folder(tmp_path / "b", boxes="coco"), boxes="annotations.json")
    assert table.splits == coco.splits == ("train", "val", "test")
    assert table.classes == ("cat", "dog", "fox")
    assert not table.split("train").has_boxes
    for split in ("val", "test"):
        assert table.split(split).fingerprint() == coco.split(split).fingerprint()
        assert table.split(split).labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    truth = table.split("test").truth(3)
    assert truth is not None
    assert not truth.inclusive
    x0, y0, x1, y1 = truth.boxes[0].astype(int)
    assert table.split("test").image(3)[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2, 1].min() > 200
    assert verify_source(partial(Folder, tmp_path / "a", "boxes.csv"), deep=True).ok
    assert verify_source(partial(Folder, tmp_path / "b", "annotations.json")).ok


def test_without_boxes_it_serves_for_training_alone(tmp_path: Path) -> None:
    source = Folder(make_folder(tmp_path, boxes=None))
    assert not source.split("test").has_boxes
    assert "test: no boxes, so localization cannot be evaluated on it" in source.verify().notes


def test_flat_folders(tmp_path: Path) -> None:
    root = make_folder(tmp_path, boxes="coco", splits=())
    assert Folder(root).splits == ("train",)
    source = Folder(root, boxes="annotations.json", flat_split="test")
    assert source.splits == ("test",)
    assert source.split("test").has_boxes
    with pytest.raises(InputError, match="unknown flat_split 'tset': did you mean 'test'"):
        Folder(root, flat_split="tset")


@pytest.mark.parametrize(
    ("content", "inclusive", "box"),
    [
        ("image,x0,y0,x1,y1\ncat0.jpg,1,2,11,12.5\n", False, [1, 2, 11, 12.5]),
        ("image,x0,y0,x1,y1\ncat0.jpg,1,2,11,12\n", True, [1, 2, 11, 12]),
        ("image,x,y,width,height\ncat0.jpg,1,2,10,10\n", True, [1, 2, 11, 12]),
        ("label,y,x,height,width,image\nA,2,1,10,10,./a/cat0.jpg\n", False, [1, 2, 11, 12]),
        ('image,x0,y0,x1,y1\n"a/cat0.jpg",1,2,11,12\n', False, [1, 2, 11, 12]),
    ],
)
def test_kinds_of_tables(tmp_path: Path, content: str, inclusive: bool, box: list[float]) -> None:
    make_folder(tmp_path, boxes=None, splits=(), classes=("a",), per_class=1)
    (tmp_path / "a/0.jpg").rename(tmp_path / "a/cat0.jpg")
    (tmp_path / "boxes.csv").write_text(content)
    truth = Folder(tmp_path, "boxes.csv", inclusive=inclusive).split("train").truth(0)
    assert truth is not None
    assert truth.boxes.tolist() == [box]
    assert truth.inclusive == (inclusive and "x0" in content)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("test/cat/test0.jpg,1,2,3", r"boxes\.csv:2: expected 5 fields, got 4"),
        ("test/cat/test0.jpg,1,2,3,four", r"boxes\.csv:2: expected an image and four numbers"),
        ("test/cat/test0.jpg,1,2,1,4", r"boxes\.csv:2: box 1 2 1 4 has no area"),
        ("test/cat/lost.jpg,1,2,3,4", r"boxes\.csv:2: 'test/cat/lost\.jpg' names no image under"),
        ("test0.jpg,1,2,3,4", r"boxes\.csv:2: 'test0\.jpg' names no image under .*, or several"),
    ],
)
def test_faulty_tables(tmp_path: Path, line: str, message: str) -> None:
    make_folder(tmp_path, boxes=None)
    (tmp_path / "boxes.csv").write_text(f"image,x0,y0,x1,y1\n{line}\n")
    with pytest.raises(InputError, match=message):
        Folder(tmp_path, "boxes.csv")
    assert verify_source(partial(Folder, tmp_path, "boxes.csv")).total == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"a\.json:1: not JSON"),
        ("[" * 100_000, r"a\.json: not JSON"),
        ("[]", r"a\.json: expected COCO JSON with the lists"),
        ('{"images": [{"id": 1}], "annotations": []}', r"images\[0\]: expected an image with 'id' and 'file_name'"),
        (
            '{"images": [{"id": 1, "file_name": "train0.jpg"}, {"id": 1, "file_name": "b"}], "annotations": []}',
            r"images\[1\]: id 1 or file 'b' is listed twice",
        ),
        (
            '{"images": [], "annotations": [{"image_id": 5, "bbox": [1, 2, 3, 4]}]}',
            r"annotations\[0\]: expected an image_id",
        ),
        (
            '{"images": [{"id": 1, "file_name": "b"}], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, NaN]}]}',
            r"not JSON \(NaN is not a number in JSON",
        ),
        (
            '{"images": [{"id": 1, "file_name": "train/cat/train0.jpg", "width": 48, "height": 40}],'
            ' "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 77]}]}',
            r"annotations\[0\]: box 1 2 4 79 lies outside its image of 48 x 40",
        ),
    ],
)
def test_faulty_json(tmp_path: Path, content: str, message: str) -> None:
    make_folder(tmp_path, boxes=None)
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Folder(tmp_path, "a.json")


def test_faulty_folders(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "a", boxes=None)
    with pytest.raises(InputError, match=r"a/boxes\.txt: expected boxes as \.csv or COCO \.json"):
        Folder(root, "boxes.txt")
    with pytest.raises(InputError, match=r"a/boxes\.csv: no such file; expected a table of boxes"):
        Folder(root, "boxes.csv")
    (root / "test/emu").mkdir()
    with pytest.raises(InputError, match=r"test/emu: empty folder; expected images of this class"):
        Folder(root)
    (root / "test/cat/test0.jpg").rename(root / "test/emu/test0.jpg")
    with pytest.raises(InputError, match=r"test/emu: unknown class 'emu': no such folder in train"):
        Folder(root)
    with pytest.raises(InputError, match=r"nowhere: no such folder; expected train/<class>/"):
        Folder(tmp_path / "nowhere")
    (tmp_path / "b/train/cat").mkdir(parents=True)
    with pytest.raises(InputError, match=r"train: no images; looked for <class>/\*\.jpg"):
        Folder(tmp_path / "b")


@pytest.mark.parametrize("encoding", [None, "utf-16"])
def test_a_file_of_boxes_that_cannot_be_read_is_one_problem(tmp_path: Path, encoding: str | None) -> None:
    root = make_folder(tmp_path)
    if encoding is None:
        (root / "boxes.csv").unlink()
    else:
        (root / "boxes.csv").write_text((root / "boxes.csv").read_text(), encoding)
    report = verify_source(partial(Folder, root, "boxes.csv"))
    assert report.total == 1
    assert ("no such file" if encoding is None else ":1: not UTF-8 text; save it as UTF-8") in str(report.problems[0])


def test_a_folder_of_masks_that_are_read_is_not_called_ignored(tmp_path: Path) -> None:
    root = make_folder(tmp_path, boxes=None)
    for image in sorted((root / "test").rglob("*.jpg")):
        mask = root / "annotation/masks" / image.relative_to(root).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", Image.open(image).size, 255).save(mask)
    ignored = f"{root / 'annotation'} is ignored"
    assert any(ignored in note for note in Folder(root).verify().notes)
    assert not any(ignored in note for note in Folder(root, masks="annotation/masks").verify().notes)


def test_masks_beside_their_images_and_files_that_are_not_read_are_told(tmp_path: Path) -> None:
    root = make_folder(tmp_path, boxes=None)
    assert not any("masks" in note or "left out" in note for note in Folder(root).verify().notes)
    first = sorted((root / "train/cat").glob("*.jpg"))[0]
    first.with_name(f"{first.stem}_mask.png").write_bytes(first.read_bytes())
    first.with_suffix(".heic").write_bytes(b"")
    first.with_suffix(".txt").write_text("a note")
    notes = Folder(root).verify().notes
    assert any(note.startswith("1 images look like masks") and f"{first.stem}_mask.png" in note for note in notes)
    assert any(note.startswith("1 files are left out") and ".heic" in note for note in notes)


@given(boxes=BOXES, extents=st.booleans())
def test_boxes_round_trip(scratch: Path, boxes: list[tuple], extents: bool) -> None:
    header = "image,x,y,width,height" if extents else "image,x0,y0,x1,y1"
    file = scratch / "boxes.csv"
    file.write_text("\n".join([header, *(",".join(map(str, ("a.jpg", *box))) for box in boxes)]))
    corners = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    assert [marked.box for marked in read_boxes(file).boxes["a.jpg"]] == (corners if extents else boxes)
    content = {"images": [{"id": "i", "file_name": "a.jpg"}]}
    content["annotations"] = [{"image_id": "i", "bbox": box} for box in boxes]
    (scratch / "boxes.json").write_text(json.dumps(content))
    assert [marked.box for marked in read_coco(scratch / "boxes.json").boxes["a.jpg"]] == corners


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "file_name", "image_id", "bbox", "width", "height"]), inner)
    ),
    max_leaves=12,
)


@given(images=st.lists(JSON, max_size=3), annotations=st.lists(JSON, max_size=3))
def test_odd_json_is_told_and_nothing_else_raised(scratch: Path, images: list, annotations: list) -> None:
    file = scratch / "odd.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    assert str(file) in (told(lambda: read_coco(file, Report("odd"))) or str(file))


@given(data=st.binary(max_size=150), header=st.booleans(), suffix=st.sampled_from(["csv", "json"]))
def test_garbage_is_answered_by_file(scratch: Path, data: bytes, header: bool, suffix: str) -> None:
    file = scratch / f"garbage.{suffix}"
    file.write_bytes((b"image,x0,y0,x1,y1\n" if header else b"") + data)
    assert (told(lambda: read_boxes(file)) or str(file)).startswith(str(file))
