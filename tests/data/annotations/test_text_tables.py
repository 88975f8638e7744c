"""Text tables: round trips, and garbage that is always answered by file and line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import told

from wsol.data.annotations.text_tables import (
    STOP,
    box_fault,
    check_boxes,
    check_keys,
    class_of,
    group_rows,
    key_rows,
    numbers,
    parse_integer,
    parse_number,
    read_rows,
    size_of,
)
from wsol.data.source import Report
from wsol.errors import InputError

NAMES = st.text(st.characters(categories=("L", "N"), include_characters="_/."), min_size=1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "table.txt"


@given(rows=st.lists(st.tuples(NAMES, FINITE, FINITE, FINITE, FINITE)))
def test_box_lines_are_read_as_they_were_written(table: Path, rows: list[tuple]) -> None:
    table.write_text("\n".join(",".join(map(str, row)) for row in rows), encoding="utf-8")
    read = [(row.fields[0], *(numbers(row) or ())) for row in read_rows(table, 5)]
    assert read == rows


@given(data=st.binary(max_size=200), separator=st.sampled_from([",", "\t", None]), fields=st.integers(1, 6))
def test_garbage_is_answered_by_file_and_line_only(
    table: Path, data: bytes, separator: str | None, fields: int
) -> None:
    table.write_bytes(data)
    readers = (numbers, size_of, lambda row: class_of(row, range(10)))

    def read_all() -> None:
        for row in key_rows(read_rows(table, fields, separator)).values():
            for reader in readers if fields >= 3 else ():
                reader(row)

    assert re.match(rf"{re.escape(str(table))}:\d+: |$", told(read_all))


@given(data=st.binary(max_size=200))
def test_a_report_goes_on_where_stop_stops(table: Path, data: bytes) -> None:
    table.write_bytes(data)
    report = Report("table")
    read_rows(table, 2, sink=report)
    if report.ok:
        read_rows(table, 2)
    else:
        with pytest.raises(InputError) as caught:
            read_rows(table, 2)
        assert str(caught.value) == str(report.problems[0])


@given(text=st.text(max_size=12))
def test_numbers_are_plain_finite_decimals(text: str) -> None:
    for value in (parse_number(text), parse_integer(text)):
        assert value is None or value == float(text)
    if re.fullmatch(r"-?[0-9]{1,9}", text):
        assert parse_integer(text) == parse_number(text) == int(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,1\nb,2,3\n", r":2: expected 2 fields separated by ',', got 3: 'b,2,3'"),
        ("a,1\n\n b \n", r":3: expected 2 fields .* got 1"),
        ("a,1\n,2\n", r":2: expected a name"),
        ("a,1\r\nb,2\r\na,3\r\n", r":3: 'a' is already listed on line 1"),
        (b"a,1\nb,\xff\n", r":2: not UTF-8 text"),
    ],
)
def test_faulty_lines(table: Path, content: str | bytes, message: str) -> None:
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        key_rows(read_rows(table, 2))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lists\.txt: cannot be read \(No such file"):
        read_rows(tmp_path / "lists.txt", 2)


@pytest.mark.parametrize("text", ["nan", "inf", "1_0", "0x10", "", "1,5", "٣", "1e999", "--1", "1" * 400])
def test_no_other_numbers(text: str) -> None:
    assert parse_number(text) is None


def test_rows_by_key(table: Path) -> None:
    table.write_text("a,1\nb,2\na,3")
    rows = read_rows(table, 2)
    assert {key: [row.line for row in of_key] for key, of_key in group_rows(rows).items()} == {"a": [1, 3], "b": [2]}
    with pytest.raises(InputError, match=r"table\.txt:2: 'b' is not listed in other\.txt"):
        check_keys(key_rows(rows[:2]), key_rows(rows[:1]), Path("other.txt"), STOP)


@pytest.mark.parametrize(
    ("field", "reader"), [("0,5", size_of), ("x,5", size_of), ("5,-1", size_of), ("7.5,1", size_of)]
)
def test_sizes_are_positive_integers(table: Path, field: str, reader) -> None:
    table.write_text(f"a,{field}")
    with pytest.raises(InputError, match="expected width and height in pixels"):
        reader(read_rows(table, 3)[0])


@pytest.mark.parametrize(
    ("box", "inclusive", "size", "valid"),
    [
        ((0, 0, 9, 9), True, (10, 10), True),
        ((3, 3, 3, 3), True, (10, 10), True),  # one pixel
        ((3, 3, 3, 5), False, (10, 10), False),
        ((5, 3, 4, 5), True, (10, 10), False),
        ((5, 0, 501, 131), False, (500, 275), True),  # CUB has one that reaches one pixel over
        ((5, 0, 501.5, 131), False, (500, 275), False),
        ((-1, 0, 5, 5), True, (10, 10), True),
        ((-1.5, 0, 5, 5), True, (10, 10), False),
        ((10, 0, 10, 5), True, (10, 10), False),  # within the tolerance, but beside the image
        ((0, 0, float("nan"), 5), True, None, False),
        ((0, 0, 1e6, 5), True, None, True),
    ],
)
def test_which_boxes_can_be(box: tuple, inclusive: bool, size: tuple[int, int] | None, valid: bool) -> None:
    assert (box_fault(box, inclusive, size) is None) == valid
    if size and not valid:
        with pytest.raises(InputError, match="list:7: box"):
            check_boxes([(0, 0, 5, 5), box], size, "list:7", inclusive)
