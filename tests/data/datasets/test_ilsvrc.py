"""ILSVRC CLS-LOC in its published layouts."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import SYNSETS, make_ilsvrc, voc_xml

from wsol.data.annotations.ilsvrc import read_solution, read_xml
from wsol.data.datasets.ilsvrc import ILSVRC
from wsol.data.file_source import verify_source
from wsol.data.source import Report
from wsol.errors import InputError

WHOLE = st.integers(-1000, 1000)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("annotation") / "file"


def test_all_layouts_say_the_same(tmp_path: Path) -> None:
    fingerprints = set()
    for kaggle in (False, True):
        for flat in (False, True):
            for kind in ("xml", "csv"):
                root = tmp_path / f"{kaggle}{flat}{kind}"
                source = ILSVRC(make_ilsvrc(root, kaggle=kaggle, flat=flat, annotations=kind))
                assert source.splits == ("train", "test")
                assert source.classes == SYNSETS[:3]
                fingerprints.add((source.split("train").fingerprint(), source.split("test").fingerprint()))
                assert verify_source(partial(ILSVRC, root), deep=flat).ok
    assert len(fingerprints) == 1


def test_boxes_and_labels(tmp_path: Path) -> None:
    source = ILSVRC(make_ilsvrc(tmp_path), names=tmp_path / "LOC_synset_mapping.txt")
    test = source.split("test")
    assert source.classes[0] == "n01443537 goldfish"
    assert list(test.ids[:2]) == ["ILSVRC2012_val_00000001", "ILSVRC2012_val_00000002"]
    assert test.labels.tolist() == [1, 0, 2, 1, 0, 2]
    truth = test.truth(0)
    assert truth is not None
    assert truth.inclusive
    assert truth.boxes.shape == (2, 4)
    x0, y0, x1, y1 = truth.boxes[0].astype(int)
    assert test.image(0)[y0 + 2 : y1 - 1, x0 + 2 : x1 - 1, 1].min() > 200
    assert not source.split("train").has_boxes


def test_folders_alone_give_labels_but_no_boxes(tmp_path: Path) -> None:
    test = ILSVRC(make_ilsvrc(tmp_path, flat=False, annotations=None)).split("test")
    assert test.labels.tolist() == [1, 0, 2, 1, 0, 2]
    assert not test.has_boxes


def test_flat_validation_images_need_labels(tmp_path: Path) -> None:
    source = ILSVRC(make_ilsvrc(tmp_path, annotations=None))
    with pytest.raises(InputError, match=r"00001\.JPEG: no annotation of this image; looked in LOC_val_solution\.csv"):
        source.split("test")


def test_the_development_kits_order_is_not_the_sorted_one(tmp_path: Path) -> None:
    root = make_ilsvrc(tmp_path / "ILSVRC", annotations=None)
    truth = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("3\n2\n1\n3\n2\n1\n")
    kit = tmp_path / "synsets.txt"
    kit.write_text("\n".join([SYNSETS[2], SYNSETS[0], SYNSETS[1]]))
    test = ILSVRC(root, ground_truth=truth, devkit_synsets=kit).split("test")
    assert test.labels.tolist() == [1, 0, 2, 1, 0, 2]
    with pytest.raises(InputError, match=r"give devkit_synsets"):
        ILSVRC(root, ground_truth=truth).split("test")
    with pytest.raises(InputError, match=r"LOC_synset_mapping\.txt: synsets are sorted"):
        ILSVRC(root, ground_truth=truth, devkit_synsets=root / "LOC_synset_mapping.txt").split("test")
    truth.write_text("3\n4\n")
    with pytest.raises(InputError, match=r"ground_truth\.txt:2: expected a class number from 1 to 3, got '4'"):
        ILSVRC(root, ground_truth=truth, devkit_synsets=kit).split("test")


def test_blacklisted_images_are_marked_and_counted(tmp_path: Path) -> None:
    root = make_ilsvrc(tmp_path)
    blacklist = tmp_path / "blacklist.txt"
    blacklist.write_text("2\n6\n")
    source = ILSVRC(root, blacklist=blacklist)
    test = source.split("test")
    assert test.blacklist is not None
    assert test.blacklist.tolist() == [False, True, False, False, False, True]
    part = test.subset([5, 0]).blacklist
    assert part is not None
    assert part.tolist() == [True, False]
    assert source.split("train").blacklist is None
    assert test.fingerprint() == ILSVRC(root).split("test").fingerprint()
    assert ILSVRC(root).split("test").blacklist is None
    assert source.verify().counts["test"] == {"images": 6, "classes": 3, "boxes": 12, "blacklisted": 2}
    blacklist.write_text("2\nsix\n")
    with pytest.raises(InputError, match=r"blacklist\.txt:2: expected the number of a validation image, got 'six'"):
        ILSVRC(root, blacklist=blacklist)


def test_a_subset_of_classes(tmp_path: Path) -> None:
    root = make_ilsvrc(tmp_path)
    source = ILSVRC(root, classes=[SYNSETS[2], SYNSETS[1]])
    assert source.classes == SYNSETS[1:3]
    assert source.split("test").labels.tolist() == [0, 1, 0, 1]
    assert source.verify().ok
    with pytest.raises(InputError, match="unknown class 'n01443538': did you mean 'n01443537'"):
        ILSVRC(root, classes=["n01443538"])
    for image in (root / "train" / SYNSETS[0]).iterdir():
        image.unlink()
    with pytest.raises(InputError, match=r"n01443537: empty folder; expected images of this class"):
        ILSVRC(root).split("train")
    (root / "train" / SYNSETS[0]).rmdir()
    with pytest.raises(InputError, match=r"unknown class 'n01443537' of ILSVRC2012_val_00000002"):
        ILSVRC(root).split("test")


def test_validation_images_alone(tmp_path: Path) -> None:
    root = make_ilsvrc(tmp_path / "a", per_class=0)
    source = ILSVRC(root)
    assert source.splits == ("test",)
    assert source.classes == SYNSETS[:3]


def test_wrong_layouts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"no images of ILSVRC; looked for .*ILSVRC/Data/CLS-LOC/{train,val}"):
        ILSVRC(tmp_path)
    (tmp_path / "val").mkdir()
    with pytest.raises(InputError, match=r"val: empty folder; expected ILSVRC2012_val"):
        ILSVRC(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>\n<object>", r"00002\.xml:2: not XML"),
        ("<annotation></annotation>", r"00002\.xml: expected objects of one class, got no object"),
        (voc_xml("x", "n01443537", [(0, 0, 60, 9)]), r"00002\.xml: box 0 0 60 9 .* outside its image of 48 x 40"),
        (voc_xml("x", "n01443537", [(5, 5, 4, 9)]), r"00002\.xml: box 5 5 4 9 has no area"),
        (voc_xml("x", "n01443537", [(5, 5, "?", 9)]), r"00002\.xml: expected numbers xmin, ymin, xmax, ymax"),
        (voc_xml("x", "n99999999", [(0, 0, 9, 9)]), r"unknown class 'n99999999' of ILSVRC2012_val_00000002"),
    ],
)
def test_faulty_xml(tmp_path: Path, content: str, message: str) -> None:
    root = make_ilsvrc(tmp_path)
    (root / "Annotations/val/ILSVRC2012_val_00000002.xml").write_text(content)
    with pytest.raises(InputError, match=message):
        ILSVRC(root).split("test")
    report = verify_source(partial(ILSVRC, root))
    assert report.counts["train"]["images"] == 9
    assert report.total >= 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ILSVRC2012_val_00000002,n01443537 1 2 3", r"csv:3: expected '<synset> <xmin>"),
        ("ILSVRC2012_val_00000002,n01443537 1 2 3 x", r"csv:3: expected '<synset> <xmin>"),
        ("ILSVRC2012_val_00000002,", r"csv:3: expected '<synset> <xmin>"),
        ("ILSVRC2012_val_00000002,n01443537 1 2 3 4 n01698640 1 2 3 4", r"csv:3: expected boxes of one class"),
        ("ILSVRC2012_val_00000001,n01443537 1 2 3 4", r"csv:3: 'ILSVRC2012_val_00000001' is already listed on line 2"),
        ("ILSVRC2012_val_00000002,n01443537 5 5 4 9", r"csv:3: box 5 5 4 9 has no area"),
    ],
)
def test_faulty_solution(tmp_path: Path, line: str, message: str) -> None:
    file = make_ilsvrc(tmp_path, annotations="csv") / "LOC_val_solution.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(InputError, match=message):
        ILSVRC(tmp_path).split("test")


def test_verify_finds_lost_images_and_misplaced_ones(tmp_path: Path) -> None:
    root = make_ilsvrc(tmp_path, flat=False)
    lost = next((root / "val").rglob("*00004.JPEG"))
    moved = next((root / "val").rglob("*00002.JPEG"))
    lost.unlink()
    moved.rename(root / "val" / SYNSETS[2] / moved.name)
    report = verify_source(partial(ILSVRC, root))
    assert report.total == 2
    assert "ILSVRC2012_val_00000002 is n01443537 here but lies in val/n02123045" in str(report)
    assert "ILSVRC2012_val_00000004.xml: no such image under" in str(report)


def test_an_image_of_another_size_than_annotated_is_noted(tmp_path: Path) -> None:
    root = make_ilsvrc(tmp_path)
    file = root / "Annotations/val/ILSVRC2012_val_00000002.xml"
    file.write_text(file.read_text().replace("<width>48<", "<width>50<"))
    source = ILSVRC(root)
    assert source.split("test").size(1) == (50, 40)
    report = source.verify()
    assert source.split("test").size(1) == (48, 40)
    assert report.ok
    assert "1 images differ in size from their list: val/ILSVRC2012_val_00000002.JPEG is 48 x 40" in report.notes[0]


@given(boxes=st.lists(st.tuples(WHOLE, WHOLE, WHOLE, WHOLE), min_size=1, max_size=4))
def test_box_lines_round_trip(scratch: Path, boxes: list[tuple[int, int, int, int]]) -> None:
    scratch.write_text("ImageId,PredictionString\na," + "".join(f"n1 {' '.join(map(str, box))} " for box in boxes))
    assert [marked.box for marked in read_solution(scratch)["a"].boxes] == boxes
    scratch.write_text(voc_xml("a", "n1", boxes))
    read = read_xml(scratch)
    assert read is not None
    assert [marked.box for marked in read.boxes] == boxes
    assert (read.synset, read.size) == ("n1", (48, 40))


@given(
    data=st.binary(max_size=150) | st.text(max_size=150).map(str.encode),
    reader=st.sampled_from([read_xml, read_solution]),
)
def test_garbage_is_told_and_nothing_else_raised(scratch: Path, data: bytes, reader) -> None:
    scratch.write_bytes(data)
    report = Report("garbage")
    reader(scratch, report)
    if not report.ok:
        with pytest.raises(InputError, match=re.escape(str(scratch))):
            reader(scratch)
