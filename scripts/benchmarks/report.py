"""Seconds that `wsol report` takes to write a large split, and what the page then asks of a browser.

    python scripts/benchmarks/report.py [--images 5794] [--runs 2]

Images (a few dozen JPEGs of 500 x 375, used over and over) and smooth maps of 14 x 14 are made up first. Time to write
is that of the report alone: no network, no start of Python. The page is opened from disk in headless Chromium: seconds
until it answers (all boxes read and evaluated), seconds of processor time that the page's process took for it (about
the wait where nothing else runs), the slowest of twenty moves of the slider, and memory of that process and of all
processes of the browser, before and after scrolling through the whole gallery.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from measuring import machine, positive
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from wsol.data.packed import Boxes
from wsol.data.source import FileSplit
from wsol.functional.geometry import Geometry
from wsol.interop.map_store import MapStore, MapWriter
from wsol.interop.predictions import ranks_of
from wsol.protocols import protocol
from wsol.report.site import ReportColumn, write

SIZE, FILES, CLASSES, CELLS = (500, 375), 48, 200, 14


def main() -> None:
    """Write, open, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=positive, default=5794)
    parser.add_argument("--runs", type=positive, default=2)
    parser.add_argument("--protocol", default="choe2020")
    parser.add_argument("--screens", type=positive, default=120, help="places to scroll to")
    options = parser.parse_args()
    print(machine("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        split, shown = made_up(Path(folder), options.images, options.runs)
        out = Path(folder, "report")
        started = time.perf_counter()
        write(out, "benchmark", split, [f"class {k}" for k in range(CLASSES)], protocol(options.protocol), shown)
        seconds = time.perf_counter() - started
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        at_once = sum(file.stat().st_size for file in out.glob("data/[br]*.js"))
        print(f"written in {seconds:.1f} s: {size / 1e6:.0f} MB, of which {at_once / 1e6:.0f} MB are read at once")
        if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
            print("no Chromium here: the page was not opened")
            return
        look(out / "index.html", chromium, options.screens)


def made_up(folder: Path, images: int, runs: int) -> tuple[FileSplit, list[ReportColumn]]:
    """A split, and runs with their maps."""
    rng = np.random.default_rng(0)
    for k in range(FILES):
        pixels = cv2.resize(rng.integers(0, 255, (25, 33, 3), np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{k}.jpg"), pixels)
    corners = np.sort(rng.uniform(0, 1, (images, 2, 2)), axis=1) * SIZE
    split = FileSplit(
        "test",
        [f"{i:05d}.jpg" for i in range(images)],
        rng.integers(CLASSES, size=images),
        folder,
        [f"{i % FILES}.jpg" for i in range(images)],
        Boxes.pack(corners.reshape(-1, 1, 4), inclusive=False),
        sizes=[SIZE] * images,
    )
    shown = []
    for number in range(runs):
        store, view = folder / f"maps{number}", Geometry(SIZE, (CELLS, CELLS), (0, 0), (CELLS, CELLS))
        with MapWriter(store, header={}) as writer:
            for name in split.ids:
                cells = cv2.GaussianBlur(rng.standard_normal((CELLS, CELLS)), (0, 0), 1.5)
                writer.add(name, cells[None].astype(np.float32), [view])
        ranked = np.where(rng.random((images, 1)) < 0.7, split.labels[:, None], rng.integers(CLASSES, size=(images, 1)))
        metrics = {"localization": [], "classification": {}, "pixels": {}}
        shown.append(
            ReportColumn(f"run {number}", MapStore(store), ranked, ranks_of(split.labels, ranked), metrics, {})
        )
    return split, shown


def look(page: Path, chromium: str, screens: int) -> None:
    """Open the page and print what it takes."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,900",
    ):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.get("about:blank")
        report(driver, "an empty page")
        started = time.perf_counter()
        driver.get(f"{page.resolve().as_uri()}#gallery")
        WebDriverWait(driver, 120, 0.02).until(
            lambda d: d.execute_script("return document.documentElement.dataset.ready")
        )
        seconds = time.perf_counter() - started
        print(f"answers after {seconds:.2f} s, {max(worked(driver).values()):.2f} s of processor time")
        slowest = driver.execute_script(
            "const slider = document.getElementById('slider'), times = [];"
            "for (let i = 0; i < 20; i++) { slider.value = 40 * i + 20; const start = performance.now();"
            "slider.dispatchEvent(new Event('input')); times.push(performance.now() - start); }"
            "return Math.max(...times);"
        )
        print(f"slowest of 20 moves of the slider: {slowest:.0f} ms")
        report(driver, "opened")
        height = driver.execute_script("return document.documentElement.scrollHeight")
        for screen in range(screens):
            driver.execute_script(f"scrollTo(0, {height * screen // screens})")
            time.sleep(0.1)
        cards = driver.execute_script("return document.querySelectorAll('.card').length")
        report(driver, f"scrolled through {height:,} pixels ({cards} cards kept)")
    finally:
        driver.quit()


def worked(driver: webdriver.Chrome) -> dict[int, float]:
    """Processor time of each process of a page, seconds."""
    found = {}
    for pid in descendants(driver.service.process.pid):
        if "--type=renderer" in Path(f"/proc/{pid}/cmdline").read_text():
            user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            found[pid] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return found


def report(driver: webdriver.Chrome, what: str) -> None:
    """Print memory as it is now."""
    sizes = processes(driver.service.process.pid)
    page = max((size for kind, size in sizes if kind == "renderer"), default=0.0)
    print(f"{what}: {page:.0f} MB in the page's process, {sum(size for _, size in sizes):.0f} MB in all of Chromium")


def processes(root: int) -> list[tuple[str, float]]:
    """Kind and memory (proportional share, MB) of each process of Chromium below one."""
    found = []
    for pid in descendants(root):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split()
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        if "chromium" in words[0] or "chrome" in words[0]:
            kind = next((word.partition("=")[2] for word in words if word.startswith("--type=")), "browser")
            found.append((kind, next(float(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))))
    return found


def descendants(root: int) -> Iterator[int]:
    """The processes below one."""
    for task in Path(f"/proc/{root}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from descendants(int(child))


if __name__ == "__main__":
    main()
