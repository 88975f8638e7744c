"""Measured beside published: what is compared, what is only marked."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tables.runs_made_up import make_run
from wsol.errors import InputError
from wsol.tables import render
from wsol.tables.collect import collect
from wsol.tables.compare import Versus, compare, over_seeds
from wsol.tables.layout import Cell, Column, Layout, find_layout, read_layout
from wsol.tables.numbers import PROVENANCES, PublishedNumber

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


def test_a_column_may_ask_for_thresholds_that_pseudo_boxes_chose(runs) -> None:
    asked = replace(CELL, column=replace(COLUMN, protocol="choe2020", threshold="pseudo"))
    value = compare(asked, runs(a={"error": 40.0, "protocol": "choe2020", "threshold": "pseudo"}), COMMANDS)
    assert (value.measured, value.threshold, value.marks) == (60.0, "pseudo", [])


@pytest.mark.parametrize(("seeds", "quantile"), [(2, 12.706), (25, 2.0639), (101, 1.9840)])
def test_the_interval_over_any_number_of_seeds_is_students(seeds: int, quantile: float) -> None:
    values = [float(i) for i in range(seeds)]
    low, high = over_seeds(values, low=-100.0)
    half = quantile * np.std(values, ddof=1) / seeds**0.5
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), rel=1e-4)


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
    found = runs(a=arguments)
    value = compare(CELL, found, {})
    assert value.measured == 60.0
    assert value.difference is None
    assert value.marks == [mark]
    unpublished = compare(replace(CELL, published=None), found, {})
    assert unpublished.marks == [
        mark.replace("published under", "the column asks for").replace("published", "the column asks for")
    ]


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


def test_seeds_evaluated_otherwise_are_left_out_of_the_mean(runs) -> None:
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
    assert "a has no such PxAP" in value.near


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


@pytest.mark.parametrize("shape", render.SHAPES)
@pytest.mark.parametrize("name", render.FORMATS)
def test_every_form_shows_every_row_the_numbers_and_the_marks(values, name: str, shape: str) -> None:
    text = render.render(LAYOUT, values, name, shape)
    if (name, shape) == ("csv", "wide"):
        assert list(csv.reader(io.StringIO(text)))[1:3] == [["CAM", "57.2", "60.0"], ["AC|oL_2", "10.0", "60.0"]]
        return
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
    assert r"\caption{A \& B}" in latex


def test_papers_print_a_line_a_row_and_notes_below(runs) -> None:
    """Every mark in the body is explained by an item under the table, and every item that has a mark is used."""
    other, first = replace(COLUMN, metric="gt_known_error", accuracy=True), runs(one={})
    both = runs(two={"seed": 1, "error": 44.0})
    gt_known = replace(CELL, name="GT-known", column=other, published=None)
    found = [
        compare(CELL, first, {}),
        compare(gt_known, first, {}),
        compare(replace(CELL, row="100 % HaS", published=PublishedNumber(10.25, "unverified")), {}, COMMANDS),
        compare(replace(gt_known, row="100 % HaS", differs="other data"), both, {}),
    ]
    found[3] = replace(found[3], versus=Versus("CAM", -2.0, -3.0, -1.0, "seeds"))
    layout = Layout(
        "T", "S", {"top-1": COLUMN, "GT-known": other}, tuple(value.cell for value in found), (0,), ("a note",)
    )
    markdown, latex = render.render(layout, found, "markdown"), render.render(layout, found, "latex")
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert rows[0] == "|  | top-1 | GT-known |"
    assert rows[2] == "| CAM | 57.2 / 60.0±5.5 | - / 60.0±5.5 |"
    half = 12.706 * 2.0  # Student's t of two seeds, accuracies 60 and 56
    assert rows[3] == rf"| 100 % HaS | 10.25 / missing [?] | - / 58.0±{half:.1f} [\*, 1, 2] |"
    for note in ("published / measured, percent", "± half of the 95 % interval", "a note", "[?] the published number"):
        assert note in markdown
    assert "[1] not comparable: other data" in markdown
    assert "[2] measured over seeds 0, 1" in markdown
    assert r"100 \% HaS & 10.25 / missing\tnote{?} & " in latex
    assert r"CAM & 57.2 / 60.0$\pm$5.5 & - / 60.0$\pm$5.5 \\" in latex
    used = {mark for group in re.findall(r"\\tnote\{(.*?)\}", latex) for mark in group.split(",")}
    assert used == set(re.findall(r"\\item\[(.*?)\]", latex)) == {"?", "*", "1", "2"}
    for word in ("threeparttable", "booktabs", r"\toprule", r"\begin{tablenotes}"):
        assert word in latex


def test_shapes_and_forms_are_checked_and_have_their_defaults(values) -> None:
    assert render.render(LAYOUT, values, "markdown") == render.render(LAYOUT, values, "markdown", "wide")
    assert render.render(LAYOUT, values, "json") == render.render(LAYOUT, values, "json", "long")
    assert render.render(LAYOUT, values) == render.render(LAYOUT, values, shape="long")
    assert render.render(replace(LAYOUT, shape="wide"), values) == render.render(LAYOUT, values, shape="wide")
    for arguments in (("html",), ("markdown", "broad")):
        with pytest.raises(InputError, match=arguments[-1]):
            render.render(LAYOUT, values, *arguments)


@pytest.mark.parametrize("name", ["sota-cub", "sota-ilsvrc"])
def test_the_tables_of_later_methods_say_how_each_number_was_made(name: str) -> None:
    layout = read_layout(find_layout(name))
    assert layout.shape == "wide"
    wanted = ("backbone", "pretraining", "classes", "map", "protocol", "threshold", "picked on test", "source")
    assert layout.attributes == wanted
    about = layout.about["SAT"]
    assert about["map"] == "class-agnostic"
    assert (about["protocol"], about["threshold"]) == ("sat2023", "oracle")
    assert about["picked on test"] == "epoch and threshold"
    assert about["source"] == "authors"
    assert layout.about["SPOL"]["source"] == "secondary"
    for label, about in layout.about.items():
        assert about["source"] in PROVENANCES, label
    measured = [cell for cell in layout.cells if cell.experiment]
    rows = {"TS-CAM, DeiT-S", "SCM", "SAT", "BAS, VGG-16", "BAS (IJCV), ResNet-50", "DA-WSOL, ResNet-50"}
    assert rows <= {cell.row for cell in measured}


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
