"""Seconds to collect many run folders, to list them, and to print a table of many rows over them.

    python scripts/benchmarks/tables.py [--runs 2000] [--table choe2020]

The run folders are made up first: configs as `wsol train` records them, of some of the table's experiments and of the
demo, with seeds 0, 1, 2, ... and results of the usual length. Finding one run, as resume=true does, is compared with
what it cost when every config.yaml was loaded by OmegaConf (timed over a hundred of them). Wall and processor time
differ by what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import machine, positive
from omegaconf import OmegaConf

from wsol.cli import main as command_line
from wsol.config.compose import compose
from wsol.runs import identity
from wsol.runs.register import CONFIG_FILE, KEY_FILE, Register, record
from wsol.tables.collect import collect
from wsol.tables.layout import find_layout, read_layout


def make_runs(folder: Path, runs: int, experiments: list[str]) -> None:
    """Write finished runs of the experiments in turn."""
    texts: dict[str, list[str]] = {}
    for name in experiments:
        config = compose("train", [f"experiment={name}"])
        if OmegaConf.is_missing(config.data, "root"):
            config.data.root = "data"
        sample = folder / "sample" / name
        sample.mkdir(parents=True)
        record(sample, config)
        texts[name] = [(sample / file).read_text() for file in (CONFIG_FILE, KEY_FILE)]
    shutil.rmtree(folder / "sample")
    about = {"splits": {"test": {"images": 5794, "fingerprint": "0" * 64}}}
    errors = {"gt_known_error": 40.0, "top1_error": 60.0, "top5_error": 50.0}
    of_row = {"split": "test", "protocol": "choe2020", "threshold": 0.2, "threshold_origin": "oracle", "images": 5794}
    intervals = {"intervals": {key: [value - 2, value + 2] for key, value in errors.items()}}
    names = ("localizer", "whole image", "centre box", "centre gaussian")
    rows = [{**of_row, "maps": maps, **errors, **intervals} for maps in names for _ in range(6)]
    measured = {"classification": {"test": {"top1_error": 25.0}}, "pixels": {}, "data": about}
    results = json.dumps({"localization": rows, **measured}, indent=2)
    for i, name in zip(range(runs), itertools.cycle(experiments)):
        run = folder / name.replace("/", "-") / f"{i:05d}"
        (run / "checkpoints").mkdir(parents=True)
        text, key = texts[name]
        text = text.replace("\nseed: 0\n", f"\nseed: {i // len(experiments)}\n", 1)
        content = json.loads(key)
        content["config"]["seed"] = i // len(experiments)
        content["config_sha256"] = hashlib.sha256(text.encode()).hexdigest()
        (run / CONFIG_FILE).write_text(text)
        (run / KEY_FILE).write_text(json.dumps(content))
        (run / "results.json").write_text(results)


def find_one(folder: Path) -> None:
    """Time the search for one run among all, and its ratio to loading every config by OmegaConf."""
    files = sorted(folder.rglob(CONFIG_FILE))
    plain = OmegaConf.to_container(OmegaConf.load(files[-1]))
    assert isinstance(plain, dict)
    wanted = identity.flat({str(key): value for key, value in plain.items()})
    started = time.process_time()
    found = Register(folder).find(wanted)
    ours = time.process_time() - started
    some = files[:: max(1, len(files) // 100)]
    started = time.process_time()
    for file in some:
        OmegaConf.load(file)
    theirs = (time.process_time() - started) / len(some) * len(files)
    assert found.run is not None
    print(
        f"finding one of {len(files)} runs: {ours:.2f} s of the processor; "
        f"by OmegaConf {theirs:.2f} s, ratio {theirs / ours:.1f}"
    )


def timed(do: Callable[[], Any]) -> tuple[Any, str]:
    """Do it once; returns its result and how long it took."""
    wall, processor = time.perf_counter(), time.process_time()
    result = do()
    return result, f"{time.perf_counter() - wall:.2f} s, of the processor {time.process_time() - processor:.2f} s"


def main() -> None:
    """Make the folders, collect them, print the table into nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=positive, default=2000)
    parser.add_argument("--table", default="choe2020")
    parser.add_argument("--experiments", type=positive, default=4, help="of the table, that have runs")
    options = parser.parse_args()
    layout = read_layout(find_layout(options.table))
    named = sorted({cell.experiment for cell in layout.cells if cell.experiment})
    print(machine("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder), options.runs, [*named[: options.experiments], "demo"])
        find_one(Path(folder))
        found, took = timed(lambda: collect(Path(folder)))
        print(f"collecting {len(found)} run folders: {took}")
        command = [sys.executable, "-m", "wsol.cli", "list", f"runs_dir={folder}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        listed, took = timed(lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"wsol list, {len(listed.splitlines()) - 2} runs: {took.partition(',')[0]}, of the processor {busy:.2f} s"
        )
        words = ["table", options.table, f"runs_dir={folder}", "format=json"]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code, took = timed(lambda: command_line(words))
    if code:
        raise SystemExit(code)
    cells = json.loads(said.getvalue())["cells"]
    print(f"wsol table {options.table} over them, {len(cells)} cells of {len(named)} experiments: {took}")


if __name__ == "__main__":
    main()
