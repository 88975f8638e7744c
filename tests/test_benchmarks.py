"""Every benchmark runs, at its smallest, and prints figures that can be true."""

from __future__ import annotations

import dataclasses
import math
import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from wsol.config.build import instantiate
from wsol.config.compose import config_root
from wsol.functional.geometry import Geometry
from wsol.types import GroundTruth

FOLDER = Path(__file__).parent.parent / "scripts" / "benchmarks"


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """``printed("training", "--repeats", "1")`` runs a script as a program and returns what it printed."""
    threads, cv2_threads, random = torch.get_num_threads(), cv2.getNumThreads(), torch.get_rng_state()
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def run(name: str, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)
    cv2.setNumThreads(cv2_threads)
    torch.set_rng_state(random)


def numbers(text: str) -> list[float]:
    """All numbers of a text, NaN and infinities included."""
    return [float(word) for word in re.findall(r"(?<![\w.])(?:\d+(?:\.\d+)?|nan|inf)(?![\w.])", text)]


def test_loading(printed) -> None:
    lines = printed("loading", "--count", "2", "--repeats", "1").splitlines()
    ratios = [numbers(line.partition("ratio")[2])[0] for line in lines if "ratio" in line]
    assert len(ratios) == 3
    assert all(0 < value < math.inf for value in ratios)


def test_training(printed) -> None:
    out = printed(
        "training", "--backbones", "tiny", "resnet18w32", "--size", "32", "--batch-size", "1", "--repeats", "1"
    )
    rows = [line for line in out.splitlines() if re.match(r"(tiny|resnet18w32) ", line)]
    assert {line.split()[0] for line in rows} == {"tiny", "resnet18w32"}
    for line in rows:
        rate, ratio, evaluation_rate, evaluation_ratio = numbers(re.sub(r"\*", "", line))[-4:]
        assert all(0 < value < math.inf for value in (rate, ratio, evaluation_rate, evaluation_ratio))
        if "32-true    contiguous" in line:
            assert ratio == evaluation_ratio == 1
    assert sum(line.count("*") for line in rows) == 2 * 2, "each network has one default to train and one to evaluate"


def test_evaluation(printed) -> None:
    out = printed(
        "evaluation", "--backbone", "tiny", "--count", "3", "--size", "64", "--batch-size", "2", "--repeats", "1"
    )
    ratios = [numbers(line.partition(": ")[2]) for line in out.splitlines() if line.startswith("ratio")]
    assert ratios
    assert all(len(row) == 4 for row in ratios), "the whole, loading, network and boxes"
    assert all(0 < value < math.inf for row in ratios for value in row)
    ways = {line[:23].strip(): numbers(line) for line in out.splitlines() if line.startswith(("wsol", "reference"))}
    assert ways["wsol 32-true"][-2:] == ways["reference"][-2:], "both see the same classes and find the same boxes"


def test_pipeline(printed) -> None:
    out = printed(
        "pipeline", "--backbone", "tiny", "--count", "4", "--batch-size", "2", "--repeats", "1", "--workers", "0"
    )
    assert re.search(r"training +loading [\d,]+  step [\d,]+  together [\d,]+: (loading|step) binds", out)
    assert re.search(r"validation +loading .* network .* boxes .* together [\d,]+: (loading|network|boxes) binds", out)
    assert 0 < numbers(out.splitlines()[-1].replace("%", " "))[2] < math.inf


def test_memory(printed) -> None:
    sizes = ("--images", "300", "--evaluated", "2", "--classes", "10", "--size", "32", "--batch-size", "50")
    out = printed("memory", *sizes)
    rows = {line[2:44].strip(): float(line.split()[-1]) for line in out.splitlines() if line.startswith("  ")}
    assert len(rows) == 6
    assert all(math.isfinite(value) for value in rows.values())
    assert 0 < rows["states, the others"] == rows["states, the first 2 images, evaluated"] < 400


def test_the_reference_of_the_evaluation_draws_the_boxes_of_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same map gives the same hits at all 1,000 thresholds in both ways of evaluation.py."""
    monkeypatch.syspath_prepend(str(FOLDER))
    reference = runpy.run_path(str(FOLDER / "evaluation.py"))
    protocol = instantiate(dict(OmegaConf.load(config_root() / "protocol" / "choe2020.yaml")), "protocol")
    rng, box = np.random.default_rng(0), np.array([[20.0, 20.0, 75.0, 90.0]])
    blob = np.outer(np.hanning(7), np.hanning(7))
    for _ in range(4):
        score_map = blob + 0.2 * rng.standard_normal((7, 7))
        protocol = dataclasses.replace(protocol, frame="input")
        (hits,) = protocol.evaluate(score_map, Geometry.square((100, 100), 64), GroundTruth(box, inclusive=False))
        boxes = reference["boxes_of"](score_map, 64, protocol.thresholds)
        theirs = reference["overlaps"](boxes, (box[0] * 0.64).astype(int)) >= 0.5
        assert 0 < hits.sum() < len(hits)
        assert hits.tolist() == theirs.tolist()


def test_clustering(printed) -> None:
    words = ("--backbones", "tiny", "--batch-size", "2", "--size", "64", "--repeats", "1")
    step, clustering, share = numbers(printed("clustering", *words).splitlines()[-1])[-3:]
    assert 0 < clustering < step
    assert 0 < share < 100


def test_methods(printed) -> None:
    words = ["--backbone", "tiny", "--size", "32", "--batch-size", "1", "--repeats", "1"]
    out = printed("methods", *words, "--methods", "acol_1x1", "--baseline", "cam")
    rows = {line.split()[0]: numbers(line) for line in out.splitlines() if line.startswith(("cam ", "acol_1x1 "))}
    assert rows["cam"][-3:] == [1, 1, 1]
    assert all(0 < value < math.inf for value in rows["acol_1x1"][-3:])


def test_attention(printed) -> None:
    out = printed("attention", "--backbone", "deit_t", "--size", "32", "--batch-size", "1", "--repeats", "1")
    rows = {line.partition("  ")[0]: numbers(line) for line in out.splitlines() if line.startswith("last")}
    assert list(rows) == ["last", "last, attention", "last, keys", "last, affinity"]
    assert rows["last"][-1] == 1
    assert all(0 < value < math.inf for row in rows.values() for value in row)


def test_tables(printed) -> None:
    out = printed("tables", "--runs", "6", "--experiments", "2", "--table", "acol2018")
    assert "collecting 6 run folders: " in out
    assert re.search(r"wsol table acol2018 over them, 25 cells of 3 experiments: \d+\.\d\d s", out)


def test_sweeps(printed) -> None:
    out = printed("sweeps", "--trials", "2")
    assert "2 trials (2 complete, 0 pruned)" in out
    seconds = [float(number) for number in re.findall(r"(\d+\.\d\d) s a trial", out)]
    assert len(seconds) == 2
    assert all(number > 0 for number in seconds)
