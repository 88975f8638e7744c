"""A real headless Chromium; tests that need one are skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.report.made_up import CLASSES, MadeUp, made_up_run
from tests.report.pages import mine
from wsol.report.site import ReportColumn, write


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A driver of Chromium; nothing is looked for on the network."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver_file = shutil.which("chromedriver")
    if not (chromium and driver_file):
        pytest.skip("no Chromium with chromedriver found: install Debian's chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_file))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser) -> Iterator[Callable]:
    """``opened(folder, "gallery")`` opens a report and waits until it answers; its console must stay silent."""
    from selenium.webdriver.support.ui import WebDriverWait

    def ready(driver) -> bool:
        return driver.execute_script("return document.documentElement.dataset.ready === 'yes'")

    def opening(folder: Path, view: str = "overview", width: int = 1400, height: int = 900):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get("about:blank")
        browser.get(f"{(folder / 'index.html').resolve().as_uri()}#{view}")
        WebDriverWait(browser, 60, 0.05).until(ready)
        return browser

    for log in ("browser", "performance"):
        browser.get_log(log)
    yield opening
    assert [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


@pytest.fixture(scope="module")
def split() -> MadeUp:
    return MadeUp()


@pytest.fixture(scope="module")
def runs(split: MadeUp, tmp_path_factory: pytest.TempPathFactory) -> list[ReportColumn]:
    folder = tmp_path_factory.mktemp("maps")
    return [made_up_run(folder, split, "cam", 1), made_up_run(folder, split, "acol & <i>kin</i>", 2)]


@pytest.fixture(scope="module")
def folder(split: MadeUp, runs: list[ReportColumn], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two runs, evaluated with a fixed threshold of 0.3."""
    out = tmp_path_factory.mktemp("report")
    write(out, "two <b>runs</b>", split, CLASSES, mine("cam2016", fixed_threshold=0.3), runs)
    return out
