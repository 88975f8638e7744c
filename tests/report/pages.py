"""Reading and operating the page of a report through the browser."""

from __future__ import annotations

import dataclasses

from wsol.protocols import LocalizationProtocol, protocol

FIRST_RUN = "return [[...WSOL.state.kinds[0]], [...WSOL.state.iou[0]]]"
LEFT_EDGES = "return new Set([...document.querySelectorAll('.card')].map((c) => c.getBoundingClientRect().left)).size"
LAST_IS_DRAWN = """
return [...document.querySelectorAll(".card")].some((card) => card.dataset.image === "399" &&
  !card.querySelector(".picture").hidden && card.querySelector(".map").width > 1);
"""
FOUND_BOX = """
const box = document.querySelector(".card .found:not([hidden])").getBoundingClientRect();
return [box.left, box.top, box.right, box.bottom];
"""


def mine(name: str, **changes) -> LocalizationProtocol:
    return dataclasses.replace(protocol(name), name="mine", **changes)


def evaluated_in_page(page, at: int, overlap: float) -> list[list]:
    """By run: kinds, overlaps, boxes of all images and the accuracy, after the slider and the overlap were moved."""
    return page.execute_script(
        """
        const [at, overlap] = arguments, S = WSOL.state, N = S.steps[0].length;
        document.getElementById("overlap").value = overlap;
        document.getElementById("overlap").dispatchEvent(new Event("change"));
        const slider = document.getElementById("slider");
        slider.value = at;
        slider.dispatchEvent(new Event("input"));
        const box = (r, i, at) => at < 0 ? null : [...WSOL.data.part(r, i).boxes.slice(4 * at, 4 * at + 4)];
        return S.kinds.map((kinds, r) => [[...kinds], [...S.iou[r]],
          [...Array(N).keys()].map((i) => box(r, i, S.steps[r][i])), S.accuracies(r, [overlap])[0]]);
        """,
        at,
        overlap,
    )


def texts(page, selector: str) -> list[str]:
    return page.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector)


def order(page) -> list[int]:
    return page.execute_script("return WSOL.state.order")


def choose(page, element: str, value: str) -> None:
    page.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'));",
        element,
        value,
    )


def press(page, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).send_keys(*keys).perform()


def in_view(page) -> dict[int, dict]:
    """What each card shows of the first run: result, text of the overlap, box in percent of the picture."""
    found = page.execute_script(
        """
        return [...document.querySelectorAll(".card")].map((card) => {
          const figure = card.querySelector("figure"), found = figure.querySelector(".found");
          return [card.dataset.image, {
            result: figure.querySelector(".result").textContent, iou: figure.querySelector(".iou").textContent,
            box: ["left", "top", "width", "height"].map((side) => parseFloat(found.style[side])),
            true: figure.querySelectorAll(".true").length, hidden: found.hidden}];
        });
        """
    )
    return {int(image): shown for image, shown in found}
