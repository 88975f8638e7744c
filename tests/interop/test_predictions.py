"""Predicted classes as CSV: written and read again, ranked as the package ranks class scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol.data.source import FileSplit
from wsol.errors import InputError
from wsol.functional.ranks import true_class_ranks
from wsol.interop.predictions import NOT_RANKED, PredictionWriter, ranks_of, read_predictions, write_predictions

CLASSES = ("ant", "bee, wild", "7", "crane", "crane", " cat", "fox")


def split_of(count: int) -> FileSplit:
    ids = [f'a/"{i}", {i}.jpg' for i in range(count)]
    return FileSplit("test", ids, [0] * count, None, ids)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictions")


@given(
    logits=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(1, 5), st.just(len(CLASSES))),
        elements=st.floats(width=32, allow_nan=True) | st.sampled_from([0.0, -0.0, 1.0, 1.0 + 2.0**-20]),
    ),
    named=st.booleans(),
    top=st.integers(1, 9),
)
def test_ranks_are_those_of_the_scores(scratch: Path, logits: np.ndarray, named: bool, top: int) -> None:
    split = split_of(len(logits))
    write_predictions(scratch / "a.csv", split.ids, logits, top, CLASSES if named else None)
    ranked = read_predictions(scratch / "a.csv", split, CLASSES)
    for label in range(len(CLASSES)):
        labels = np.full(len(logits), label)
        expected = true_class_ranks(torch.from_numpy(logits), torch.from_numpy(labels)).numpy()
        found = ranks_of(labels, ranked)
        np.testing.assert_array_equal(found, np.where(expected < min(top, len(CLASSES)), expected, NOT_RANKED))


def test_several_parts_in_any_order(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(7, len(CLASSES)))
    split = split_of(7)
    parts = [tmp_path / f"classes-{rank}.csv" for rank in range(3)]
    for rank, part in enumerate(parts):
        with PredictionWriter(part, CLASSES, top=2) as writer:
            for i in reversed(range(rank, 7, 3)):
                writer.add(split.ids[i], logits[i])
    ranked = read_predictions(parts, split, CLASSES)
    np.testing.assert_array_equal(ranked, np.argsort(-logits, axis=1)[:, :2])
    with pytest.raises(InputError, match=r"classes-1\.csv: no row for 2 of the 7 images of test, such as a/\"2\""):
        read_predictions(parts[:2], split, CLASSES)


def read(folder: Path, *rows: str, images: int = 2) -> list[list[int]]:
    ids = "abcdefgh"[:images]
    (folder / "p.csv").write_text("".join(f"{row}\n" for row in ("image_id,class,score", *rows)))
    return read_predictions(folder / "p.csv", FileSplit("test", ids, [0] * images, None, ids), CLASSES).tolist()


def test_rows_are_sorted_by_score_and_ties_stay_as_they_are(tmp_path: Path) -> None:
    assert read(tmp_path, "a,1,0.5", "b,fox,-inf", "a,0,0.5", "a,6,1e3", "b,2,-1") == [[6, 1, 0], [2, 6, -1]]
    assert read(tmp_path, "", "a, ant , 1 ", "b,,", "a,0,1") == [[0], [-1]]  # the same row twice is one
    assert read(tmp_path, "a,,", "b,,") == [[], []]
    assert ranks_of(np.array([0, 1]), np.zeros((2, 0), int)).tolist() == [NOT_RANKED] * 2


def test_an_index_is_an_index_and_a_name_a_name(tmp_path: Path) -> None:
    assert read(tmp_path, "a,5,1", 'b,"bee, wild",1') == [[5], [1]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("c,0,1", r"'c' is not an image of the test split"),
        ("A,0,1", r"'A' is not an image of the test split"),
        ("a,7,1", r"unknown class '7'; expected an index 0\.\.6 or a name such as 'ant'"),
        ("a,-1,1", r"unknown class '-1'"),
        ("a,1.0,1", r"unknown class '1\.0'"),
        ("a,crane,1", r"unknown class 'crane'; .* that no other class has"),
        ("a,wasp,1", r"unknown class 'wasp'"),
        ("a,0,x", r"expected a number as score, got 'x'"),
        ("a,0,nan", r"expected a number as score, got 'nan'"),
        ("a,0,", r"expected image_id,class,score, got 'a,0,'"),
        ("a,,1", r"expected image_id,class,score, got 'a,,1'"),
        ("a,0", r"expected image_id,class,score, got 'a,0'"),
        ("a,0,1,2", r"expected image_id,class,score, got 'a,0,1,2'"),
        ("b,ant,2", r"another score of class 'ant' of 'b'"),
        (",0,1", r"'' is not an image of the test split"),
    ],
)
def test_faulty_rows_are_named_by_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"p\.csv:4: {message}"):
        read(tmp_path, "a,0,1", "b,0,1", row)


def test_faulty_files(tmp_path: Path) -> None:
    split = split_of(1)
    file = tmp_path / "p.csv"
    for content, message in (
        (b"", r"p\.csv: empty file; expected the header image_id,class,score"),
        (b"a,0,1\n", r"p\.csv:1: expected the header image_id,class,score, got 'a,0,1'"),
        (b"image_id,class,score\n\xff,0,1\n", r"p\.csv: not CSV in UTF-8"),
        (b'image_id,class,score\n"a,0,1\n', r"p\.csv: not CSV in UTF-8"),
        (b"image_id,class,score\n", r"p\.csv: no row for 1 of the 1 images of test"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_predictions(file, split, CLASSES)
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        read_predictions(tmp_path / "none.csv", split, CLASSES)
    with pytest.raises(InputError, match="cannot be written"):
        PredictionWriter(tmp_path / "no/folder.csv", CLASSES)
    with (
        PredictionWriter(file, CLASSES) as writer,
        pytest.raises(InputError, match=r"a: expected scores of 7 classes, got shape \(6,\)"),
    ):
        writer.add("a", np.zeros(6))


@given(data=st.binary(max_size=120), honest=st.booleans())
def test_garbage_is_told_and_nothing_else_raised(scratch: Path, data: bytes, honest: bool) -> None:
    file = scratch / "garbage.csv"
    file.write_bytes((b"image_id,class,score\n" if honest else b"") + data)
    with pytest.raises(InputError, match=r"garbage\.csv"):
        read_predictions(file, split_of(1), CLASSES)
