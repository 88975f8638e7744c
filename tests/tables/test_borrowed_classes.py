"""Rows of networks that give boxes: their top-k errors are those of borrowed classes, and the table says whose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.tables.runs_made_up import make_run, recorded
from wsol.tables import render
from wsol.tables.collect import BORROWED, collect
from wsol.tables.layout import find_layout, read_layout
from wsol.tables.paper_table import PaperTable

ROW, EXPERIMENT = "PSOL, ResNet-50", "cub/psol_resnet50"


def change(folder: Path, **changes) -> None:
    file = folder / "results.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **changes}))


def without_classes(folder: Path) -> None:
    """Make a run's results those of a network that does not classify."""
    content = json.loads((folder / "results.json").read_text())
    rows = [{key: row[key] for key in row if key[:3] != "top"} for row in content["localization"]]
    change(folder, classification={}, localization=rows)


@pytest.fixture
def regressed(tmp_path: Path) -> Path:
    """A run of `wsol regress`: the regressor, and its evaluation with the localizer's classes beside it."""
    config, top = recorded([f"experiment={EXPERIMENT}"]), tmp_path / "runs" / "regress"
    how = {"protocol": "psol2020", "threshold": "none"}
    without_classes(make_run(top / "regressor", config, error=12, **how))
    shutil.rmtree(make_run(top / "evaluation", config, error=12, **how) / "checkpoints")
    change(top / "evaluation", classes={"name": "regress-localizer"})
    return top


def cells(runs_dir: Path) -> tuple[dict, str]:
    layout = read_layout(find_layout("sota-cub"))
    values = PaperTable(layout, [], runs_dir, []).values()
    return {value.cell.name: value for value in values if value.cell.row == ROW}, render.wide_markdown(layout, values)


def test_the_evaluation_of_wsol_regress_has_the_top_k(regressed: Path) -> None:
    found, text = cells(regressed.parent)
    assert {name: value.measured for name, value in found.items()} == {
        "top-1 loc": 100 - 32,
        "top-5 loc": 100 - 22,
        "GT-known loc": 100 - 12,
    }
    assert [value.classes for value in found.values()] == ["borrowed, regress-localizer"] * 2 + [None]
    assert all(value.difference is not None for value in found.values())
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {ROW} |"))
    assert "| borrowed / borrowed, regress-localizer |" in line


def test_the_newest_classes_count_and_any_evaluation_has_gt_known(regressed: Path) -> None:
    run = regressed / "regressor"
    for day, (name, error) in enumerate({"resnet50": 14, "efficientnet_b7": 16}.items()):
        folder = make_run(
            run / "eval" / str(day),
            recorded([f"experiment={EXPERIMENT}"]),
            error=error,
            protocol="psol2020",
            threshold="none",
        )
        shutil.rmtree(folder / "checkpoints")
        change(folder, classes={"name": name})
    found, _ = cells(regressed.parent)
    assert found["top-1 loc"].measured == 100 - 36
    assert found["top-1 loc"].classes == "borrowed, efficientnet_b7"
    assert found["GT-known loc"].measured == 100 - 12, "the run's own"
    (one,) = collect(regressed.parent)
    assert one.results("resnet50")["localization"][-1]["gt_known_error"] == 14
    assert one.results(BORROWED)["classes"]["name"] == "efficientnet_b7"


def test_without_borrowed_classes_gt_known_alone_is_measured(regressed: Path) -> None:
    shutil.rmtree(regressed / "evaluation")
    found, text = cells(regressed.parent)
    assert found["GT-known loc"].measured == 100 - 12
    assert found["top-1 loc"].measured is None
    assert found["top-1 loc"].near == (
        f"wsol eval {regressed / 'regressor'} classes=<the run of a classifier, or a CSV of classes>"
    )
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {ROW} |"))
    assert "| borrowed |" in line


def test_a_row_with_its_own_classes_takes_no_others(tmp_path: Path) -> None:
    config = recorded(["experiment=cub/bas_resnet50"])
    run = make_run(tmp_path / "bas", config, error=30, protocol="bas2022")
    other = make_run(run / "eval" / "1", config, error=10, protocol="bas2022")
    change(other, classes={"name": "dpn131"})
    layout = read_layout(find_layout("sota-cub"))
    values = PaperTable(layout, [], tmp_path, []).values()
    found = {value.cell.name: value for value in values if value.cell.row == "BAS, ResNet-50"}
    assert (found["top-1 loc"].measured, found["top-1 loc"].classes) == (100 - 50, "own")
    (line,) = (
        line for line in render.wide_markdown(layout, values).splitlines() if line.startswith("| BAS, ResNet-50")
    )
    assert "| own |" in line


def test_rows_with_borrowed_classes_say_so() -> None:
    for name in ("sota-cub", "sota-ilsvrc"):
        layout = read_layout(find_layout(name))
        for cell in layout.cells:
            if cell.experiment is not None:
                assert (cell.classes or "own") == layout.about[cell.row]["classes"], cell.row
