"""Annotation that says two things, or what no dataset means: refused by file and line or key."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import make_folder, make_ilsvrc, make_lists, told, voc_xml

from wsol.data.annotations.box_files import read_boxes
from wsol.data.annotations.ilsvrc import read_blacklist, read_ground_truth, read_solution, read_xml
from wsol.data.annotations.json_file import strict_json
from wsol.data.datasets.folder import Folder
from wsol.data.datasets.ilsvrc import ILSVRC
from wsol.data.datasets.wsolevaluation import WsolEvaluation
from wsol.data.inspection import Report
from wsol.data.source import FileSplit
from wsol.errors import InputError
from wsol.interop.map_folder import open_maps
from wsol.interop.predictions import read_predictions

BOX = {"image_id": 1, "bbox": [1, 2, 3, 4]}
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 48, "height": 40}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("image,x0,y0,x1,y1,x0", r":1: the column 'x0' appears twice; keep one"),
        ("image,image,x0,y0,x1,y1", r":1: the column 'image' appears twice"),
        ("image,x0,y0,x1,y1,x,y,width,height", r":1: both corners and width and height; keep image,x0,y0,x1,y1 or"),
        ("image,x0,y0", r":1: expected the header image,x0"),
        ("", r":1: expected the header"),
    ],
)
def test_headers_of_a_csv(tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(header + "\n")
    with pytest.raises(InputError, match=r"a\.csv" + message):
        read_boxes(tmp_path / "a.csv")


def test_other_columns_may_be_there_twice(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("note,image,x0,y0,x1,y1,note\n-,a.jpg,1,2,3,4,-\n")
    assert read_boxes(tmp_path / "a.csv").boxes["a.jpg"][0].box == (1, 2, 3, 4)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "True", "0x10", "1_000", "", "\u0663"])
def test_numbers_of_a_csv(tmp_path: Path, number: str) -> None:
    (tmp_path / "a.csv").write_text(f"image,x0,y0,x1,y1\na.jpg,1,2,3,{number}\n")
    with pytest.raises(InputError, match=r"a\.csv:2: expected an image and four numbers"):
        read_boxes(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        ([IMAGE], [BOX | {"iscrowd": "0"}], r"annotations\[0\]: expected 'iscrowd' to be 0 or 1"),
        ([IMAGE], [BOX | {"iscrowd": [1]}], r"annotations\[0\]: expected 'iscrowd'"),
        ([IMAGE], [BOX | {"bbox": [True, 2, 3, 4]}], r"annotations\[0\]: expected 'bbox' of four numbers"),
        ([IMAGE], [BOX | {"bbox": ["1", 2, 3, 4]}], r"annotations\[0\]: expected 'bbox'"),
        ([IMAGE], [BOX | {"bbox": [1, 2, 3]}], r"annotations\[0\]: expected 'bbox'"),
        ([IMAGE], [BOX | {"bbox": [1, 2, 3, 10**400]}], r"annotations\[0\]: expected 'bbox'"),
        ([IMAGE], [BOX | {"image_id": True}], r"annotations\[0\]: expected an image_id"),
        ([IMAGE], [BOX | {"image_id": None}], r"annotations\[0\]: expected an image_id"),
        ([IMAGE | {"id": None}], [], r"images\[0\]: expected an image with 'id'"),
        ([IMAGE | {"id": 1.5}], [], r"images\[0\]: expected an image with 'id'"),
        ([IMAGE | {"file_name": 5}], [], r"images\[0\]: expected an image with 'id' and 'file_name'"),
        ([IMAGE | {"width": "48"}], [], r"images\[0\]: expected 'width' and 'height' in whole pixels, got '48' and 40"),
        ([IMAGE | {"width": True}], [], r"images\[0\]: expected 'width' and 'height'"),
        ([IMAGE | {"height": 10**15}], [], r"images\[0\]: expected 'width' and 'height'"),
        ([IMAGE | {"height": -1}], [], r"images\[0\]: expected 'width' and 'height'"),
        ([5], [], r"images\[0\]: expected an image"),
    ],
)
def test_coco_values(tmp_path: Path, images: list, annotations: list, message: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    with pytest.raises(InputError, match=r"a\.json: " + message):
        read_boxes(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [], "annotations": [], "annotations": []}', "the key 'annotations' appears twice in one object"),
        ('{"images": [], "annotations": [{"bbox": 1, "bbox": 2}]}', "the key 'bbox' appears twice"),
        ('{"images": [], "annotations": [NaN]}', "NaN is not a number in JSON"),
        ('{"images": [], "annotations": [-Infinity]}', "-Infinity is not a number in JSON"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 5000, "not JSON"),
    ],
)
def test_text_that_is_not_json_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=rf"a\.json: not JSON .*{message}" if message != "not JSON" else message):
        read_boxes(tmp_path / "a.json")


def test_a_crowd_is_passed_over_however_it_is_written(tmp_path: Path) -> None:
    boxes = [BOX | {"iscrowd": value} for value in (1, True, 0, False, None)]
    (tmp_path / "a.json").write_text(json.dumps({"images": [IMAGE], "annotations": boxes}))
    assert len(read_boxes(tmp_path / "a.json").boxes["a.jpg"]) == 3


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_strict_json_reads_what_json_writes(value: object) -> None:
    assert strict_json(json.dumps(value)) == value


GOOD_XML = voc_xml("a", "n01443537", [(1, 2, 8, 9)])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</bndbox>", "</bndbox><bndbox><xmin>1</xmin></bndbox>", "an object has two boxes"),
        ("<xmin>1</xmin>", "<xmin>1</xmin><xmin>2</xmin>", "an object has two boxes"),
        ("<width>48", "<width>999999999999999", "expected size/width and size/height in pixels, got '9{15}, 40'"),
        ("<height>40", "<height>-40", "expected size/width and size/height"),
        ("<width>48", "<width>NaN", "expected size/width and size/height"),
        ("<xmin>1", "<xmin>NaN", "expected numbers xmin, ymin, xmax, ymax"),
        ("<xmin>1", "<xmin>True", "expected numbers xmin, ymin, xmax, ymax"),
        ("</annotation>", "", r":1: not XML|not XML"),
        ("<annotation>", "<annotation>" + "<a>" * 100_000, "not XML"),
        (
            "<annotation>",
            "<!DOCTYPE x ["
            + '<!ENTITY a "aaaaaaaaaa">'
            + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
            + "]><annotation>&i;",
            "not XML",
        ),
    ],
)
def test_a_faulty_xml_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "a.xml").write_text(GOOD_XML.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"a\.xml.*({message})"):
        read_xml(tmp_path / "a.xml")


@pytest.mark.parametrize("size", ["<width>0</width><height>0</height>", ""])
def test_an_xml_without_a_size(tmp_path: Path, size: str) -> None:
    text = GOOD_XML.replace("<width>48</width><height>40</height>", size)
    (tmp_path / "a.xml").write_text(text)
    annotated = read_xml(tmp_path / "a.xml")
    assert annotated is not None
    assert annotated.size is None
    assert annotated.boxes[0].box == (1, 2, 8, 9)


@pytest.mark.parametrize("size", ["999999999999999,40", "0,40", "48,x", "48,1e3"])
def test_sizes_of_lists(tmp_path: Path, size: str) -> None:
    make_lists(tmp_path)
    file = tmp_path / "metadata/test/image_sizes.txt"
    lines = file.read_text().split("\n")
    file.write_text("\n".join([f"{lines[0].split(',')[0]},{size}", *lines[1:]]))
    with pytest.raises(InputError, match=r"image_sizes\.txt:1: expected width and height in pixels"):
        WsolEvaluation(tmp_path / "metadata", tmp_path / "images")


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


BYTES = [
    b"",
    b"\0",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf",
    b"\n\n\n",
    b'"',
    b"{}",
    b"[]",
    b"null",
    b"<a/>",
    b"<annotation><object/></annotation>",
    b"<?xml version='1.0' encoding='utf-7'?><a/>",
    b"<?xml version='1.0' encoding='nothing'?><a/>",
    b"image,x0,y0,x1,y1\n" + b'"' * 200_000,
    b"image,x0,y0,x1,y1\r" + b"a,1,2,3,4\r",
    b"image,x0,y0,x1,y1\n\x1b[2J,1,2,3,4\n",
    b"ImageId,PredictionString\na,n01443537 1 2 3\n",
    b"a" * 100_000,
    b"," * 10_000 + b"\n",
    b"\\ud800",
    b'{"images": [{"id": 1, "file_name": "\\ud800"}], "annotations": []}',
    b'{"images": {}, "annotations": 5}',
    b"[" * 200_000,
    b"(" * 5_000,
    pickled(),
    npy(np.zeros(3)),
    npy(np.full((2, 2), np.nan)),
    npy(np.zeros((2, 2), complex)),
    npy(np.zeros((2, 2), "datetime64[s]")),
    b"\x89PNG\r\n\x1a\n" + bytes(20),
]

READERS: dict[str, Callable[[Path, bytes], object]] = {}


def reader(function: Callable[[Path, bytes], object]) -> Callable[[Path, bytes], object]:
    """Keep a function that lets one reader read the bytes."""
    READERS[function.__name__] = function
    return function


def put(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


@reader
def csv_boxes(folder: Path, content: bytes) -> object:
    return read_boxes(put(folder / "a.csv", content))


@reader
def coco_boxes(folder: Path, content: bytes) -> object:
    return read_boxes(put(folder / "a.json", content))


@reader
def xml(folder: Path, content: bytes) -> object:
    return read_xml(put(folder / "a.xml", content))


@reader
def solution(folder: Path, content: bytes) -> object:
    return read_solution(put(folder / "a.csv", content))


@reader
def ground_truth(folder: Path, content: bytes) -> object:
    file = put(folder / "a.txt", content)
    return read_ground_truth(file, file)


@reader
def blacklist(folder: Path, content: bytes) -> object:
    return read_blacklist(put(folder / "a.txt", content))


@reader
def predictions(folder: Path, content: bytes) -> object:
    split = FileSplit("test", ["a"], [0], None, ["a"])
    return read_predictions(put(folder / "a.csv", content), split, ["x", "y"])


@reader
def lists(folder: Path, content: bytes) -> object:
    for name in ("image_ids", "class_labels", "image_sizes", "localization"):
        put(folder / f"test/{name}.txt", content)
    return WsolEvaluation(folder, None)


@reader
def npy_map(folder: Path, content: bytes) -> object:
    put(folder / "a.npy", content)
    return open_maps(folder).read("a", (4, 4))


@reader
def png_map(folder: Path, content: bytes) -> object:
    put(folder / "a.png", content)
    return open_maps(folder).read("a", (4, 4))


@reader
def map_index(folder: Path, content: bytes) -> object:
    put(folder / "maps-0.bin", content)
    put(folder / "maps-0.json", content)
    return open_maps(folder)


@pytest.mark.parametrize("name", READERS)
def test_no_bytes_are_more_than_an_input_error(tmp_path: Path, name: str) -> None:
    for i, content in enumerate(BYTES):
        message = told(partial(READERS[name], tmp_path / str(i), content))
        assert not message or str(tmp_path / str(i)) in message, content[:40]


@given(data=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "ignore")))
@pytest.mark.parametrize("name", READERS)
def test_nor_are_random_ones(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / f"random-{name}"
    message = told(partial(READERS[name], folder, data))
    assert not message or str(folder) in message


def test_a_pipe_among_annotations(tmp_path: Path) -> None:
    for name in ("a.csv", "a.json", "a.xml", "a.npy", "a.png"):
        os.mkfifo(tmp_path / name)
    for read in (read_boxes, partial(read_xml), read_solution, read_blacklist):
        with pytest.raises(InputError, match=r"a\.csv: cannot be read \(a named pipe"):
            read(tmp_path / "a.csv")
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.npy: not a readable npy file \(a named pipe"):
        open_maps(tmp_path).read("a", (4, 4))


def test_several_faults_are_all_told(tmp_path: Path) -> None:
    make_folder(tmp_path, boxes=None)
    boxes = [BOX | {"iscrowd": "0"}, BOX | {"bbox": None}]
    (tmp_path / "a.json").write_text(json.dumps({"images": [IMAGE | {"width": "x"}], "annotations": boxes}))
    report = Report("coco")
    Folder(tmp_path, "a.json", sink=report)
    assert [problem.file.partition("a.json: ")[2] for problem in report.problems[:3]] == [
        "images[0]",
        "annotations[0]",
        "annotations[1]",
    ]


def test_ilsvrc_with_a_size_that_cannot_be(tmp_path: Path) -> None:
    root = make_ilsvrc(tmp_path)
    file = next((root / "Annotations/val").glob("*.xml"))
    file.write_text(file.read_text().replace("<width>48", "<width>999999999999999"))
    with pytest.raises(InputError, match=rf"{file.name}: expected size/width"):
        ILSVRC(root).split("test")
