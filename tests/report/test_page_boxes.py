"""The page of runs whose networks give boxes: no threshold, alone and beside a run that has maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.report.made_up import BLACKLISTED, CLASSES, IMAGES, NO_MAP, NO_TRUTH, MadeUp, made_up_boxes
from tests.report.pages import choose, evaluated_in_page, in_view, mine, order, press, texts
from wsol.report.site import write


@pytest.fixture(scope="module")
def alone(split: MadeUp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("boxes")
    write(out, "boxes", split, CLASSES, mine("cam2016"), [made_up_boxes(split, "psol")])
    return out


@pytest.fixture(scope="module")
def beside(split: MadeUp, runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that gives boxes, then one with maps."""
    out = tmp_path_factory.mktemp("beside")
    write(out, "both", split, CLASSES, mine("cam2016"), [made_up_boxes(split, "psol"), runs[0]])
    return out


def test_a_page_without_maps_has_no_slider_and_says_so(alone: Path, opened) -> None:
    page = opened(alone)
    for name in ("slider", "at", "threshold"):
        assert not page.find_element("id", name).is_displayed()
    assert texts(page, "#no-threshold") == ["No threshold: the network gives one box per image."]
    assert "The networks give boxes" in page.find_element("id", "by-threshold").text
    assert "62.50" in page.find_element("id", "metrics").text
    rule = page.find_element("id", "rule").text
    assert "given by the network of psol: no map, no threshold" in rule
    assert "scaled by" not in rule
    assert "slider" not in page.find_element("id", "view-overview").text
    press(page, "]", "[", "3")
    assert "slider" not in page.find_element("id", "view-classes").text
    assert len(texts(page, "#per-class tbody tr")) == len(CLASSES)
    press(page, "2", "m")
    assert not page.find_element("id", "show").is_displayed()
    assert page.execute_script("return document.querySelectorAll('.card .map:not([hidden])').length") == 0


def test_cards_show_the_box_and_the_protocols_that_call_it_right(alone: Path, split: MadeUp, opened) -> None:
    page = opened(alone, "gallery")
    boxes = made_up_boxes(split, "psol").found
    for i, shown in in_view(page).items():
        assert (shown["result"] == "not evaluated") == (i in (NO_MAP, NO_TRUTH, BLACKLISTED))
        given = boxes.get(split.ids[i])
        if given is None or not np.isfinite(given.box).all() or given.box[0] == given.box[2]:
            assert shown["hidden"]
            continue
        (x0, y0, x1, y1), (width, height) = given.box, split.size(i)
        expected = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
        np.testing.assert_allclose(shown["box"], 100 * np.array(expected), atol=1e-3)
    first, second, third = texts(page, ".card .guess")[:3]
    assert "right under 1 of 2" in first
    assert "right under 0 of 2" in second
    assert "right under 0 of 1" not in third, "one protocol only: the result above says it"
    press(page, "j")
    page.execute_script("WSOL.gallery.enlarge()")
    detail = page.find_element("id", "detail").text
    assert "mine right" in detail
    assert "other wrong" in detail
    assert "none" in texts(page, "#detail td")


def test_without_classes_the_page_says_how_to_borrow_some(split: MadeUp, tmp_path: Path, opened) -> None:
    write(tmp_path, "no classes", split, CLASSES, mine("cam2016"), [made_up_boxes(split, "psol", classes=False)])
    page = opened(tmp_path, "confusion")
    assert "wsol eval <run> classes=<another run>" in page.find_element("id", "view-confusion").text


def test_filters_and_sorting_work_on_given_boxes(alone: Path, opened) -> None:
    page = opened(alone, "gallery")
    kinds, overlaps = page.execute_script("return [[...WSOL.state.kinds[0]], [...WSOL.state.iou[0]]]")
    miss = page.find_elements("css selector", "#chips button")[5]
    miss.click()
    assert order(page) == [i for i in range(IMAGES) if kinds[i] == 5]
    miss.click()
    choose(page, "sort", "best")
    assert order(page) == np.argsort(-np.array(overlaps), kind="stable").tolist()


def test_the_slider_moves_the_run_with_maps_alone(beside: Path, opened) -> None:
    page = opened(beside)
    assert texts(page, "#at") == ["0.3"], "the threshold of the run that has one"
    assert page.find_element("id", "slider").is_displayed()
    assert not page.find_element("id", "no-threshold").is_displayed()
    assert texts(page, "#live .given") == ["no threshold"]
    given, of_maps = evaluated_in_page(page, 150, 0.5)
    same, moved = evaluated_in_page(page, 620, 0.5)
    assert given == same
    assert of_maps[1] != moved[1]
    assert texts(page, "#at") == ["0.62"]
    press(page, "]")
    assert texts(page, "#at") == ["0.63"]
    flat = page.execute_script("return document.querySelector('#by-threshold path.line').getAttribute('d')")
    heights = {step.split(" ")[1] for step in flat.replace("M", "L").split("L")[1:]}
    assert len(heights) == 1, "the accuracy of given boxes is the same at every threshold"
    assert page.execute_script("return document.querySelectorAll('#by-threshold .mark').length") == 1
