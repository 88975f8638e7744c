"""The challenge's text format and its error measure, held against a second implementation over all pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol.errors import InputError
from wsol.interop.ilsvrc_kit import CLASSES, GUESSES, Guess, kit_errors, read_kit, write_kit

SIDE = 7
CORNERS = st.tuples(*[st.integers(0, SIDE - 1)] * 4).map(
    lambda c: (float(min(c[0], c[2])), float(min(c[1], c[3])), float(max(c[0], c[2])), float(max(c[1], c[3])))
)
GUESSED = st.lists(st.builds(Guess, st.integers(1, 3), CORNERS), min_size=1, max_size=7)
TRUE = st.lists(CORNERS, min_size=1, max_size=3)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kit")


def pixels(box: tuple[float, ...]) -> set[tuple[int, int]]:
    x0, y0, x1, y1 = map(int, box)
    return {(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)}


def costs(guesses: list[Guess], label: int, boxes: list[tuple[float, ...]], count: int) -> tuple[int, int]:
    """Error in localization and in classification of one image, with sets of pixels."""
    local = [
        max(guess.kit_class != label, min(2 * len(a & b) < len(a | b) for b in map(pixels, boxes)))
        for guess, a in ((guess, pixels(guess.box)) for guess in guesses[:count])
    ]
    return min(local), min(guess.kit_class != label for guess in guesses[:count])


@given(images=st.lists(st.tuples(GUESSED, st.integers(1, 3), TRUE, st.booleans()), min_size=1, max_size=6))
def test_errors_against_sets_of_pixels(images) -> None:
    guesses, labels, boxes, blacklist = (list(column) for column in zip(*images, strict=True))
    found = kit_errors(guesses, labels, [np.array(of_image) for of_image in boxes], blacklist)
    for name, count in (("top1_error", 1), ("top5_error", GUESSES)):
        evaluated = [costs(g, label, b, count)[0] for g, label, b, out in images if not out]
        np.testing.assert_allclose(found[name], 100 * np.mean(evaluated) if evaluated else np.nan)
    cls = [costs(g, label, b, GUESSES)[1] for g, label, b, _ in images]
    np.testing.assert_allclose(found["top5_classification_error"], 100 * np.mean(cls))


def test_half_is_right_and_less_is_wrong() -> None:
    true = [np.array([[0, 0, 9, 9]])]
    assert kit_errors([[Guess(1, (0, 0, 9, 4))]], [1], true)["top5_error"] == 0.0
    assert kit_errors([[Guess(1, (0, 0, 8, 4))]], [1], true)["top5_error"] == 100.0
    assert kit_errors([[Guess(1, (10, 0, 12, 9))]], [1], true)["top5_error"] == 100.0


def test_without_a_blacklist_all_count_and_lengths_must_agree() -> None:
    true = [np.zeros((1, 4))] * 2
    guesses = [[Guess(1, (0, 0, 0, 0))], [Guess(2, (0, 0, 0, 0))]]
    assert kit_errors(guesses, [1, 1], true)["top1_error"] == 50.0
    assert np.isnan(kit_errors(guesses, [1, 1], true, [True, True])["top1_error"])
    with pytest.raises(InputError, match="of the same images, got 2, 1, 2, 2 of them"):
        kit_errors(guesses, [1], true)


NUMBERS = st.integers(0, 5000).map(float) | st.integers(0, 50000).map(lambda n: n / 16)


@given(data=st.data(), count=st.integers(1, 5), width=st.integers(1, 7))
def test_what_is_written_is_read(scratch: Path, data: st.DataObject, count: int, width: int) -> None:
    order = data.draw(st.permutations(range(1, count + 1)))
    ids = [f"val/ILSVRC2012_val_{n:08d}.JPEG" for n in order]
    kit_classes = dict(enumerate(data.draw(st.permutations(range(1, CLASSES + 1)))))
    labels = st.lists(st.integers(-1, CLASSES - 1), min_size=width - 1, max_size=width - 1)
    ranked = np.array([[data.draw(st.integers(0, CLASSES - 1)), *data.draw(labels)] for _ in ids])
    corners = np.array([[data.draw(st.tuples(*[NUMBERS] * 4)) for _ in range(width)] for _ in ids])
    boxes = np.sort(corners.reshape(count, width, 2, 2), axis=2).reshape(count, width, 4)
    write_kit(scratch / "kit.txt", ids, ranked, boxes, kit_classes)
    lines = read_kit(scratch / "kit.txt")
    assert len(lines) == count
    for i, n in enumerate(order):
        guessed = list(zip(ranked[i].tolist(), boxes[i].tolist(), strict=True))[:GUESSES]
        assert lines[n - 1] == [Guess(kit_classes[label], tuple(box)) for label, box in guessed if label >= 0]


def test_images_and_classes_must_be_all_there(tmp_path: Path) -> None:
    file = tmp_path / "kit.txt"
    ids = ["ILSVRC2012_val_00000001", "ILSVRC2012_val_00000003"]
    ranked, boxes = np.zeros((2, 1), int), np.zeros((2, 1, 4))
    for wrong, message in (
        (ids, r"ids of all images 1\.\.2, but there is no 2"),
        ([ids[0], ids[0]], "there is no 2"),
        (["a.jpg", ids[0]], "there is no 2"),
    ):
        with pytest.raises(InputError, match=message):
            write_kit(file, wrong, ranked, boxes, {0: 5})
    ids[1] = "ILSVRC2012_val_00000002"
    with pytest.raises(InputError, match="class 0 has no ILSVRC2012_ID"):
        write_kit(file, ids, ranked, boxes, {1: 5})
    with pytest.raises(InputError, match="ILSVRC2012_val_00000002: no guess"):
        write_kit(file, ids, np.array([[0], [-1]]), boxes, {0: 5})
    with pytest.raises(InputError, match="cannot be written"):
        write_kit(tmp_path / "no/kit.txt", ids, ranked, boxes, {0: 5})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", r"expected '<class> <xmin> <ymin> <xmax> <ymax>' for each guess, got ''"),
        ("1 2 3 4", r"for each guess, got '1 2 3 4'"),
        ("1 2 3 4 5 6", r"for each guess, got '1 2 3 4 5 6'"),
        ("0 2 3 4 5", r"expected a class \(ILSVRC2012_ID\) 1\.\.1000, got '0'"),
        ("1001 2 3 4 5", r"1\.\.1000, got '1001'"),
        ("1.5 2 3 4 5", r"1\.\.1000, got '1\.5'"),
        ("n01443537 2 3 4 5", r"1\.\.1000, got 'n01443537'"),
        ("1 0 0 4 4 2 6 3 4 5", r"expected xmin <= xmax and ymin <= ymax, got '6 3 4 5'"),
        ("1 2 6 4 5", r"ymin <= ymax, got '2 6 4 5'"),
        ("1 2 x 4 5", r"ymin <= ymax, got '2 x 4 5'"),
        ("1 2 nan 4 5", r"ymin <= ymax, got '2 nan 4 5'"),
        ("1 2 3 inf 5", r"ymin <= ymax, got '2 3 inf 5'"),
    ],
)
def test_faulty_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "kit.txt"
    file.write_text(f"1 0 0 4 4\n{line}\n1 0 0 4 4\n")
    with pytest.raises(InputError, match=rf"kit\.txt:2: .*{message}"):
        read_kit(file)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"kit\.txt: cannot be read"):
        read_kit(tmp_path / "kit.txt")
    (tmp_path / "kit.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"kit\.txt:1: not UTF-8 text"):
        read_kit(tmp_path / "kit.txt")
    (tmp_path / "kit.txt").write_bytes(b"")
    with pytest.raises(InputError, match=r"kit\.txt:1: expected '<class>"):
        read_kit(tmp_path / "kit.txt")
