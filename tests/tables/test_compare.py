"""Measured beside published: what is compared, what is only marked."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tables.runs_made_up import make_run
from wsol.tables import render
from wsol.tables.collect import collect
from wsol.tables.compare import compare
from wsol.tables.layout import Cell, Column, Layout
from wsol.tables.numbers import PublishedNumber

COLUMN = Column("top1_error", protocol="cam2016", threshold="fixed")
CELL = Cell("CAM", "top-1", COLUMN, "demo", (), PublishedNumber(57.2, "secondary"), None)
COMMANDS = {0: "wsol train seed=0", 1: "wsol train seed=1"}


@pytest.fixture
def runs(tmp_path: Path):
    def make(**seeds_and_errors):
        config = {"choices": {}, "data": {}}
        for name, arguments in seeds_and_errors.items():
            make_run(tmp_path / name, config, **arguments)
        return {run.seed: run for run in collect(tmp_path)}

    return make


def test_one_run_is_shown_with_the_interval_over_images(runs) -> None:
    value = compare(CELL, runs(a={"error": 40.0}), COMMANDS)
    assert (value.measured, value.interval, value.over, value.seeds) == (60.0, (55.0, 66.0), "images", (0,))
    assert value.difference == pytest.approx(2.8)
    assert value.marks == []
    assert value.missing == ("wsol train seed=1",)


def test_several_seeds_give_their_mean_and_an_interval_over_seeds(runs) -> None:
    found = runs(a={"error": 38.0}, b={"error": 40.0, "seed": 1}, c={"error": 42.0, "seed": 5})
    value = compare(CELL, found, COMMANDS)
    half = 4.303 * 2.0 / 3**0.5  # Student's t with 2 degrees of freedom, deviation 2
    assert value.measured == 60.0
    assert value.interval == pytest.approx((60 - half, 60 + half), abs=1e-3)
    assert (value.over, value.seeds, value.missing) == ("seeds", (0, 1, 5), ())


def test_an_accuracy_is_a_hundred_minus_the_error_and_so_is_its_interval(runs) -> None:
    value = compare(replace(CELL, column=replace(COLUMN, accuracy=True)), runs(a={}), {})
    assert (value.measured, value.interval) == (40.0, (34.0, 45.0))


@pytest.mark.parametrize(
    ("arguments", "mark"),
    [
        ({"protocol": "choe2020"}, "measured under choe2020, published under cam2016"),
        ({"threshold": "oracle"}, "threshold oracle, published fixed"),
    ],
)
def test_another_protocol_or_threshold_is_marked_and_not_compared(runs, arguments: dict, mark: str) -> None:
    value = compare(CELL, runs(a=arguments), {})
    assert value.measured == 60.0
    assert value.difference is None
    assert value.marks == [mark]


def test_class_agnostic_maps_are_marked(runs, tmp_path: Path) -> None:
    found = runs(a={})
    file = tmp_path / "a" / "results.json"
    content = json.loads(file.read_text())
    for row in content["localization"]:
        row["class_agnostic"] = row["maps"] == "localizer"
    file.write_text(json.dumps(content))
    value = compare(CELL, {run.seed: run for run in collect(tmp_path)}, {})
    assert value.measured == compare(CELL, found, {}).measured
    assert value.marks == ["class-agnostic maps"]
    assert "[1] class-agnostic maps" in render.markdown(Layout("t", "s", {"top-1": COLUMN}, (CELL,)), [value])


def test_what_the_table_calls_different_is_marked_and_not_compared(runs) -> None:
    value = compare(replace(CELL, differs="50 classes"), runs(a={}), {})
    assert value.difference is None
    assert value.marks == ["not comparable: 50 classes"]


def test_seeds_judged_otherwise_are_left_out_of_the_mean(runs) -> None:
    value = compare(CELL, runs(a={"error": 40}, b={"error": 70, "seed": 1, "protocol": "choe2020"}), {})
    assert (value.measured, value.seeds) == (60.0, (0,))


def test_classification_has_the_bootstrap_of_its_share(runs) -> None:
    cell = replace(CELL, column=Column("top1_error", of="classification"))
    value = compare(cell, runs(a={"classification": 25.0}), {})
    low, high = value.interval
    assert value.measured == 25.0
    assert value.difference == pytest.approx(25.0 - 57.2)
    assert low == pytest.approx(25 - 196 * (0.25 * 0.75 / 200) ** 0.5, abs=0.8)
    assert high == pytest.approx(25 + 196 * (0.25 * 0.75 / 200) ** 0.5, abs=0.8)


def test_a_run_without_the_value_is_named_and_not_made_again(runs) -> None:
    value = compare(replace(CELL, column=Column("PxAP", of="pixels")), runs(a={}), {0: "wsol train"})
    assert value.measured is None
    assert value.missing == ()
    assert "a has no PxAP" in value.near


LAYOUT = Layout("A & B", "source", {"top-1": COLUMN}, (CELL,), (0, 1))


@pytest.fixture
def values(runs):
    other = replace(CELL, row="AC|oL_2", published=PublishedNumber(10.0, "unverified"), differs="other data")
    return [
        compare(CELL, runs(a={}), COMMANDS),
        compare(other, runs(), {}),
        compare(replace(CELL, row="SPG"), {}, COMMANDS),
        compare(replace(CELL, row="NIN", experiment=None), {}, {}),
    ]


@pytest.mark.parametrize("name", render.FORMATS)
def test_every_form_shows_every_row_the_numbers_and_the_marks(values, name: str) -> None:
    text = render.FORMATS[name](LAYOUT, values)
    for word in ("CAM", "SPG", "NIN", "57.2", "60.0", "cam2016", "fixed", "unverified", "other data"):
        assert word in text, word
    assert ("wsol train seed=1" in text) == (name != "latex")


def test_markdown_and_latex_escape_what_they_must(values) -> None:
    markdown, latex = render.markdown(LAYOUT, values), render.latex(LAYOUT, values)
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {9}
    assert r"AC|oL\_2 & top-1 & 10.00? & " in latex
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in body} == {7}
    assert "% A & B" in latex


def test_csv_and_json_say_the_same(values) -> None:
    rows = list(csv.DictReader(io.StringIO(render.plain_csv(LAYOUT, values))))
    cells = json.loads(render.plain_json(LAYOUT, values))["cells"]
    assert [row["row"] for row in rows] == [cell["row"] for cell in cells]
    for row, cell in zip(rows, cells, strict=True):
        assert row["measured"] == ("" if cell["measured"] is None else str(cell["measured"]))
        assert row["missing"] == "; ".join(cell["missing"])
    assert cells[1]["difference"] is None
    assert cells[0]["difference"] == pytest.approx(2.8)


def test_unverified_is_marked_also_without_a_measurement() -> None:
    value = compare(replace(CELL, published=PublishedNumber(10.0, "unverified")), {}, {})
    assert "10.00?" in render.terminal(LAYOUT, [value])
    assert "published number unverified" in render.terminal(LAYOUT, [value])
