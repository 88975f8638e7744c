"""The page in a real browser: results are Python's, and slider, filters, sort and keys do what they say."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.report.made_up import BLACKLISTED, CLASSES, IMAGES, NO_MAP, NO_TRUTH, UNREADABLE, MadeUp, made_up_run
from tests.report.pages import (
    FIRST_RUN,
    FOUND_BOX,
    LAST_IS_DRAWN,
    LEFT_EDGES,
    choose,
    evaluated_in_page,
    in_view,
    mine,
    order,
    press,
    texts,
)
from wsol.functional.maps import merge
from wsol.report.evaluation import at_all_thresholds
from wsol.report.site import write


def test_the_slider_moves_box_overlap_and_result_of_every_visible_picture(folder, split, runs, opened) -> None:
    page = opened(folder, "gallery")
    wide = at_all_thresholds(mine("cam2016", fixed_threshold=0.3))
    before = in_view(page)
    assert len(before) >= 9
    for at in (150, 620):
        evaluated_in_page(page, at, 0.5)
        now = in_view(page)
        assert now.keys() == before.keys(), "cards stay where they are while the slider moves"
        for i, shown in now.items():
            if i in (NO_MAP, NO_TRUTH, BLACKLISTED):
                assert shown["result"] == "not evaluated"
                continue
            (box,) = wide.predict(*merge(*runs[0].found.read(split.ids[i])), float(wide.thresholds[at]))
            width, height = split.size(i)
            expected = [box[0] / width, box[1] / height, (box[2] - box[0]) / width, (box[3] - box[1]) / height]
            assert shown["hidden"] == (box[2] == box[0])
            np.testing.assert_allclose(shown["box"], 100 * np.array(expected), atol=1e-3)
            right = wide.evaluate(*merge(*runs[0].found.read(split.ids[i])), split.truth(i))[1, at]
            assert (shown["result"] in ("right", "box right")) == right
            assert shown["true"] == len(split.truth(i).boxes)
    assert {i: shown["iou"] for i, shown in now.items()} != {i: shown["iou"] for i, shown in before.items()}
    assert texts(page, "#at") == [f"{wide.thresholds[620]:g}"]


def test_the_page_begins_at_the_reported_threshold_and_goes_back_to_it(folder, opened) -> None:
    page = opened(folder)
    assert texts(page, "#at") == ["0.3"]
    evaluated_in_page(page, 700, 0.5)
    assert texts(page, "#at") == ["0.7"]
    button = page.find_element("css selector", "#origins button[value=fixed]")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert texts(page, "#at") == ["0.3"]
    assert button.get_attribute("aria-pressed") == "true"


def test_every_origin_of_a_threshold_has_a_row_and_a_button(split, runs, tmp_path, opened) -> None:
    (row,) = runs[0].metrics["localization"]
    at = {"pseudo": 0.4, "fullsup": 0.5, "oracle": 0.6}
    rows = [{**row, "threshold_origin": origin, "threshold": value} for origin, value in reversed(at.items())]
    run = runs[0]._replace(metrics={**runs[0].metrics, "localization": rows})
    write(tmp_path, "origins", split, CLASSES, mine("choe2020"), [run])
    page = opened(tmp_path)
    assert texts(page, "#at") == ["0.4"], "that which needs the fewest human boxes"
    assert texts(page, "#origins button") == list(at)
    shown = [word for row in texts(page, "#metrics tbody tr") for word in row.split() if word in at]
    assert shown == list(at)
    for button in page.find_elements("css selector", "#origins button"):
        button.click()
        assert texts(page, "#at") == [f"{at[button.text]:g}"]


def test_filters_by_class_kind_overlap_and_words(folder, split, runs, opened) -> None:
    page = opened(folder, "gallery")
    kinds, overlaps = page.execute_script(FIRST_RUN)
    assert order(page) == list(range(IMAGES))
    choose(page, "class", "1")
    assert order(page) == np.flatnonzero(split.labels == 1).tolist()
    choose(page, "class", "-1")
    common = max(set(kinds) - {255}, key=kinds.count)
    page.find_elements("css selector", "#chips button")[common].click()
    assert order(page) == [i for i in range(IMAGES) if kinds[i] == common]
    page.find_elements("css selector", "#chips button")[common].click()
    choose(page, "low", "0.2")
    choose(page, "high", "0.6")
    assert order(page) == [i for i in range(IMAGES) if 0.2 <= overlaps[i] <= 0.6]
    choose(page, "low", "0")
    choose(page, "high", "1")
    choose(page, "search", "AUK 1")
    assert order(page) == [i for i in range(IMAGES) if CLASSES[split.labels[i]] == "auk" and "1" in split.ids[i]]
    assert texts(page, "#count") == [f"{len(order(page))} of {IMAGES} images"]
    choose(page, "search", "no such thing")
    assert order(page) == []
    assert page.find_element("id", "nothing").is_displayed()
    page.find_element("id", "clear").click()
    assert order(page) == list(range(IMAGES))
    assert page.find_element("id", "search").get_attribute("value") == ""


def test_sorting_and_whose_results_count(folder, split, opened) -> None:
    page = opened(folder, "gallery")
    first, second = np.array(page.execute_script("return WSOL.state.iou.map((of) => [...of])"))
    for word, keys in {
        "worst": first,
        "best": -first,
        "class": split.labels,
        "apart": -np.abs(first - second),
        "order": np.arange(IMAGES),
    }.items():
        choose(page, "sort", word)
        assert order(page) == np.argsort(keys, kind="stable").tolist(), word
    choose(page, "sort", "best")
    choose(page, "by", "1")
    assert order(page) == np.argsort(-second, kind="stable").tolist()
    shown = list(in_view(page))
    assert set(shown[:3]) <= set(order(page)[:30])


def test_a_new_threshold_is_sorted_by_once_the_slider_rests(folder, opened) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    page = opened(folder, "gallery")
    choose(page, "sort", "best")
    before = order(page)
    evaluated_in_page(page, 700, 0.5)
    assert order(page) == before
    now = np.array(page.execute_script("return [...WSOL.state.iou[0]]"))
    expected = np.argsort(-now, kind="stable").tolist()
    assert expected != before
    WebDriverWait(page, 10, 0.05).until(lambda _: order(page) == expected)


def test_keys_open_views_and_move_in_the_gallery(folder, opened) -> None:
    from selenium.webdriver.common.keys import Keys

    page = opened(folder, "overview")
    press(page, "2")
    assert page.find_element("id", "view-gallery").is_displayed()
    press(page, "j", "j", Keys.ARROW_RIGHT, "k")
    assert page.execute_script("return WSOL.gallery.chosen()") == 1
    columns = page.execute_script(LEFT_EDGES)
    press(page, Keys.ARROW_DOWN)
    assert page.execute_script("return WSOL.gallery.chosen()") == 1 + columns
    press(page, Keys.ARROW_UP)
    assert page.find_element("css selector", ".card.chosen").get_attribute("data-image") == "1"
    press(page, Keys.ENTER)
    assert page.find_element("id", "detail").is_displayed()
    assert "dir/01.jpg" in page.find_element("id", "detail").text
    press(page, Keys.ARROW_RIGHT)
    assert "dir/02.jpg" in page.find_element("id", "detail").text
    press(page, Keys.ESCAPE)
    assert not page.find_element("id", "detail").is_displayed()
    press(page, "]")
    assert texts(page, "#at") == ["0.31"]
    press(page, "[", "[")
    assert texts(page, "#at") == ["0.29"]
    press(page, "/", "gull", "3")  # what is typed is searched for, not obeyed
    assert page.find_element("id", "search").get_attribute("value") == "gull3"
    assert page.find_element("id", "view-gallery").is_displayed()
    press(page, Keys.ESCAPE, "4")
    assert page.find_element("id", "view-confusion").is_displayed()
    press(page, "?")
    assert page.find_element("id", "keys").is_displayed()


def test_overview_shows_metrics_kinds_and_curves(folder, opened) -> None:
    page = opened(folder)
    assert page.find_element("id", "title").text == "two <b>runs</b>", "names are text, never HTML"
    assert texts(page, "#subtitle") == [f"test split, {IMAGES} images, evaluated by mine"]
    table = page.find_element("id", "metrics").text
    assert "acol & <i>kin</i>" in table
    assert table.count("50.00") == 2
    assert table.count("12.50") == 2
    counts = page.execute_script("return WSOL.report && [0, 1].map((r) => WSOL.state.tally(r))")
    assert [sum(of) for of in counts] == [IMAGES - 3, IMAGES - 3]
    lines = page.find_elements("css selector", "#by-threshold path.line")
    assert len(lines) == 2 * 6, "two runs at three overlaps, each with a key"
    plot = page.find_element("css selector", "#by-threshold .plot > svg")
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).move_to_element(plot).perform()
    readout = page.find_element("css selector", "#by-threshold .readout")
    assert readout.is_displayed()
    shown = float(readout.text.split()[1])
    ActionChains(page).click().perform()
    assert texts(page, "#at") == [f"{shown:g}"], "a click sets the slider"
    content = json.loads((folder / "data" / "report.js").read_text().partition("(")[2].rpartition(")")[0])
    at = content["protocol"]["thresholds"].index(shown)
    for r in (0, 1):
        curve = content["runs"][r]["curves"]["gt_known"][content["protocol"]["ious"].index(0.5)]
        live = page.execute_script("return WSOL.state.accuracies(arguments[0], [0.5])[0]", r)
        assert curve[at] == pytest.approx(live, abs=1e-4)
    page.find_element("css selector", "#by-overlap .plot > svg").click()
    assert page.execute_script("return WSOL.state.overlap") != 0.5


def test_a_kind_a_class_and_a_confused_pair_lead_to_their_pictures(folder, split, runs, opened) -> None:
    page = opened(folder)
    kinds = page.execute_script("return [...WSOL.state.kinds[1]]")
    part = page.find_elements("css selector", ".split")[1].find_elements("css selector", "button:not([hidden])")[-1]
    kind = int(part.get_attribute("class").removeprefix("kind-"))
    part.click()
    assert order(page) == [i for i in range(IMAGES) if kinds[i] == kind]
    press(page, "3")
    rows = texts(page, "#per-class tbody tr")
    assert len(rows) == len(CLASSES)
    page.find_elements("css selector", "#per-class thead tr:last-child button")[1].click()
    counts = [int(text.split("\t")[1]) for text in texts(page, "#per-class tbody tr")]
    assert counts == sorted(counts, reverse=True)
    page.find_element("css selector", "#per-class tbody button").click()
    assert len(order(page)) == counts[0]
    press(page, "4")
    page.find_element("css selector", ".confused .matrix td:not(.same) button").click()
    chosen = order(page)
    assert chosen
    predicted = runs[0].ranked[:, 0]
    assert len({(int(split.labels[i]), int(predicted[i])) for i in chosen}) == 1
    assert all(split.labels[i] != predicted[i] for i in chosen)


def test_per_class_numbers_are_the_results(folder, split, opened) -> None:
    page = opened(folder, "classes")
    kinds, overlaps = map(np.array, page.execute_script(FIRST_RUN))
    rows = [text.split("\t") for text in texts(page, "#per-class tbody tr")]
    assert {name for name, *_ in rows} == {CLASSES[label] for label in split.labels}
    for name, images, right, mean, *_ in rows:
        of = split.labels == CLASSES.index(name)
        evaluated = of & (kinds != 255)
        assert int(images) == of.sum()
        assert float(right) == pytest.approx(100 * (kinds[evaluated] < 2).mean(), abs=0.05)
        assert float(mean) == pytest.approx(overlaps[evaluated].mean(), abs=5e-4)


def test_nothing_comes_from_the_network_and_pictures_as_they_come_into_view(split, runs, tmp_path, opened) -> None:
    many = MadeUp(400)
    write(tmp_path, "many", many, CLASSES, mine("cam2016"), [made_up_run(tmp_path / "maps", many, "run")])
    page = opened(tmp_path, "gallery", 1000, 700)
    said = [json.loads(line["message"])["message"] for line in page.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in said if event["method"] == "Network.requestWillBeSent"]
    names = [name for name in asked if name != "about:blank"]
    assert sum(name.endswith(".jpg") for name in names) < 80
    assert any(name.endswith("boxes-0-0.js") for name in names)
    assert all(name.startswith((tmp_path.resolve().as_uri(), "data:")) for name in names)
    assert page.execute_script("return document.querySelectorAll('.card').length") < 80
    page.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, 20, 0.05).until(lambda _: page.execute_script(LAST_IS_DRAWN))
    assert page.execute_script("return document.querySelectorAll('.card').length") < 80


def test_a_missing_picture_or_map_is_said(folder, opened) -> None:
    page = opened(folder, "gallery")
    press(page, *"j" * (UNREADABLE + 1))
    assert "no image" in page.find_element("css selector", ".card.chosen").text
    press(page, *"k" * (UNREADABLE - NO_MAP))
    assert "not evaluated" in page.find_element("css selector", ".card.chosen").text


def test_without_classes_the_report_says_so(split, tmp_path, opened) -> None:
    run = made_up_run(tmp_path / "maps", split, "run", classes=False)
    write(tmp_path / "out", "no classes", split, CLASSES, mine("cam2016"), [run])
    page = opened(tmp_path / "out", "confusion")
    assert "No predicted classes" in page.find_element("id", "view-confusion").text
    press(page, "3")
    assert "–" in texts(page, "#per-class tbody tr")[0]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1400, 900), (400, 800)])
def test_a_screenshot_shows_pictures_and_boxes_and_nothing_sticks_out(
    folder, tmp_path, opened, theme, width, height
) -> None:
    page = opened(folder, "gallery", width, height)
    page.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    from selenium.webdriver.support.ui import WebDriverWait

    drawn = "return [...document.querySelectorAll('.card .picture')].filter((canvas) => !canvas.hidden).length > 3"
    WebDriverWait(page, 20, 0.05).until(lambda _: page.execute_script(drawn))
    assert page.execute_script("return document.documentElement.scrollWidth") == width
    page.save_screenshot(str(tmp_path / "page.png"))
    shot = cv2.imread(str(tmp_path / "page.png"))
    assert shot.shape == (height, width, 3)
    assert (shot[-1, 1].mean() < 60) == (theme == "dark")
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 500
    box = page.execute_script(FOUND_BOX)
    left, top, right, bottom = (int(value) for value in box)
    edge = shot[(top + bottom) // 2, left + 1 : left + 2].astype(int)
    assert edge.max() - edge.min() > 90, f"a coloured frame, got {edge} at {left, top, right, bottom}"
