"""Pipes, sockets, devices, links and names of all kinds among the images: told by name, never waited for."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from layouts import make_folder, make_lists, paint

from wsol.data.datasets.folder import Folder
from wsol.data.datasets.random_splits import RandomSplits
from wsol.data.datasets.wsolevaluation import WsolEvaluation
from wsol.data.file_source import verify_source
from wsol.data.image_files import find_images, image_files
from wsol.data.images import BadImage, image_size, read_grey, read_image
from wsol.data.packed import Strings
from wsol.data.regular_files import open_regular, printable
from wsol.errors import InputError

PHOTO_AS_BYTES = os.fsdecode(b"\xff.jpg")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    folder = os.getcwd()
    os.chdir(path.parent)  # the path of a socket is at most some 100 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(folder)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere.jpg")


ODD: list[tuple[Callable[[Path], None], str]] = [
    (pipe, "a named pipe, expected a regular file"),
    (unix_socket, "a socket, expected a regular file"),
    (zeros, "a device, expected a regular file"),
    (Path.mkdir, "a folder, expected a regular file"),
    (link_to_itself, "Too many levels of symbolic links"),
    (link_to_nothing, "no such file"),
]


@pytest.mark.parametrize(("make", "message"), ODD)
def test_what_is_no_file_is_refused_by_every_reader(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "x.jpg")
    for read in (read_image, read_grey, image_size):
        with pytest.raises(InputError, match=rf"x\.jpg: .*{message}"):
            read(tmp_path / "x.jpg")
    with pytest.raises(OSError, match="(?i)" + message):
        open_regular(tmp_path / "x.jpg")


@pytest.mark.parametrize(("make", "message"), ODD)
@pytest.mark.parametrize("deep", [False, True])
def test_what_is_no_file_is_listed_and_told_by_verify_and_check(tmp_path: Path, make, message: str, deep) -> None:
    make_folder(tmp_path, boxes=None, splits=("train",))
    make(tmp_path / "train" / "cat" / "x.jpg")
    report = verify_source(partial(Folder, tmp_path), deep)
    (problem,) = report.problems
    assert problem.file == str(tmp_path / "train" / "cat" / "x.jpg")
    assert message in problem.text
    source = Folder(tmp_path)
    with pytest.raises(InputError, match=message):
        source.check("train")
    source.check("train", skip_unreadable=True)
    split = source.split("train")
    with pytest.raises(BadImage, match=message):
        split.image(list(split.ids).index("train/cat/x.jpg"))


def test_drawn_folders_list_pipes_too(tmp_path: Path) -> None:
    make_folder(tmp_path, boxes=None, splits=())
    pipe(tmp_path / "dog" / "x.jpg")
    report = verify_source(partial(RandomSplits, tmp_path, train_per_class=2))
    assert [problem.text for problem in report.problems] == ["a named pipe, expected a regular file"]


@pytest.mark.parametrize("what", [pipe, zeros])
def test_boxes_and_lists_that_are_no_files(tmp_path: Path, what) -> None:
    make_folder(tmp_path, boxes=None)
    for name in ("boxes.csv", "boxes.json"):
        what(tmp_path / name)
        with pytest.raises(InputError, match=rf"{name}: cannot be read \(a (named pipe|device), expected"):
            Folder(tmp_path, name)


@pytest.mark.parametrize("name", ["image_ids", "class_labels", "image_sizes", "localization"])
@pytest.mark.parametrize(("what", "message"), [(pipe, "a named pipe"), (link_to_nothing, "No such file")])
def test_a_list_that_is_no_file_is_not_taken_for_none(tmp_path: Path, name: str, what, message: str) -> None:
    file = make_lists(tmp_path) / "metadata" / "test" / f"{name}.txt"
    file.unlink()
    what(file)
    with pytest.raises(InputError, match=rf"{name}\.txt: cannot be read \({message}"):
        WsolEvaluation(tmp_path / "metadata", tmp_path / "images")


def test_links_that_lead_back_are_told_and_others_followed(tmp_path: Path) -> None:
    paint(tmp_path / "there" / "deep" / "a.jpg", 0, 0)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "more").symlink_to(tmp_path / "there")
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "there")
    assert image_files(tmp_path / "cat") == [tmp_path / "cat" / name / "deep/a.jpg" for name in ("again", "more")]
    for target in (".", "..", "../cat"):
        link = tmp_path / "cat" / "back"
        link.symlink_to(target)
        with pytest.raises(InputError, match="back: a link to a folder that contains it; remove it"):
            image_files(tmp_path / "cat")
        link.unlink()
    (tmp_path / "there" / "deep" / "round").symlink_to(tmp_path / "cat")
    with pytest.raises(InputError, match="a link to a folder that contains it"):
        image_files(tmp_path / "cat")


def test_predict_is_told_of_what_is_no_image(tmp_path: Path) -> None:
    paint(tmp_path / "a.jpg", 0, 0)
    pipe(tmp_path / "b.jpg")
    link_to_nothing(tmp_path / "c.jpg")
    named = [tmp_path / f"{name}.jpg" for name in "abc"]
    assert find_images(str(tmp_path)) == find_images(f"{tmp_path}/*.jpg") == find_images(map(str, named)) == named


def test_predict_refuses_names_that_tables_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "bytes" / PHOTO_AS_BYTES, 0, 0)
    paint(tmp_path / "lines" / "a\nb.jpg", 0, 0)
    with pytest.raises(InputError, match=r"the name b'.*\\xff\.jpg' is not UTF-8 text; rename it"):
        find_images(str(tmp_path / "bytes"))
    with pytest.raises(InputError, match=r"the name '.*a\\nb\.jpg' has control characters; rename it"):
        find_images(str(tmp_path / "lines"))
    with (tmp_path / "list").open("wb") as file:
        file.write(b"\xff.jpg\n")
    with (tmp_path / "list").open(encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(InputError, match="images=-: standard input is not UTF-8 text"):
            find_images("-")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (PHOTO_AS_BYTES, r"the name b'train/cat/\xff.jpg' is not UTF-8 text"),
        ("a\nb.jpg", r"the name 'train/cat/a\nb.jpg' has control characters"),
        ("\x1b[2J.jpg", r"the name 'train/cat/\x1b[2J.jpg' has control characters"),
    ],
)
def test_image_names_that_tables_cannot_hold(tmp_path: Path, name: str, message: str) -> None:
    make_folder(tmp_path, boxes=None, splits=("train",))
    paint(tmp_path / "train" / "cat" / name, 0, 0)
    with pytest.raises(InputError) as told:
        Folder(tmp_path)
    assert message in str(told.value)
    report = verify_source(partial(Folder, tmp_path))
    assert report.total == 1
    assert report.counts["train"]["images"] == 9
    assert message in str(report)
    assert str(report) == printable(str(report))


@pytest.mark.parametrize("make", [Folder, partial(RandomSplits, train_per_class=2)])
def test_class_names_that_tables_cannot_hold(tmp_path: Path, make) -> None:
    make_folder(tmp_path, boxes=None, splits=())
    for k in range(3):
        paint(tmp_path / os.fsdecode(b"\xff") / f"{k}.jpg", 0, k)
    with pytest.raises(InputError, match=r"the name b'\\xff' is not UTF-8 text"):
        make(tmp_path)
    report = verify_source(partial(make, tmp_path))
    assert report.total == 1
    assert str(report) == printable(str(report))


def test_a_root_that_is_no_utf8_can_be_verified(tmp_path: Path) -> None:
    root = make_folder(tmp_path / os.fsdecode(b"\xff"), boxes=None, splits=("train",))
    (root / "train/cat/train0.jpg").write_bytes(b"no image")
    report = verify_source(partial(Folder, root))
    assert report.total == 1
    assert str(report) == printable(str(report))


def test_names_given_from_python_are_checked_as_well() -> None:
    with pytest.raises(InputError, match=r"b'\\xff\.jpg' is not UTF-8 text"):
        Strings([PHOTO_AS_BYTES])


def test_names_that_look_alike_are_noted_and_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    make_folder(tmp_path, boxes=None, splits=("train",), classes=(composed, "dog", decomposed))
    paint(tmp_path / "train" / "dog" / f"{composed}.jpg", 0, 0)
    paint(tmp_path / "train" / "dog" / f"{decomposed}.jpg", 0, 1)
    notes = [note for note in verify_source(partial(Folder, tmp_path)).notes if "look alike" in note]
    assert len(notes) == 2
    assert notes[0].startswith("1 pairs of classes have names that look alike")
    assert r"'cafe\u0301'" in notes[0]
    assert notes[1].startswith("4 pairs of train images have names that look alike")
    with caplog.at_level(logging.WARNING):
        assert len(Folder(tmp_path).classes) == 3
    assert [record.getMessage() for record in caplog.records] == notes


def test_boxes_of_names_with_a_backslash(tmp_path: Path) -> None:
    """On Linux a backslash is a letter like others; tables from Windows have it between folders."""
    for name in ("test/cat/a\\b.jpg", "test/cat/c.jpg"):
        paint(tmp_path / name, 0, 0)
    lines = ["image,x0,y0,x1,y1", "test/cat/a\\b.jpg,1,1,5,5", "test\\cat\\c.jpg,2,2,6,6"]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    split = Folder(tmp_path, "boxes.csv").split("test")
    assert {name: split.boxes[i].tolist() for i, name in enumerate(split.ids)} == {
        "test/cat/a\\b.jpg": [[1, 1, 5, 5]],
        "test/cat/c.jpg": [[2, 2, 6, 6]],
    }
