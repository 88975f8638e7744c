"""The runs that a table lacks: which they are, and how they are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsol.tables.layout import find_layout, read_layout
from wsol.tables.paper_table import PaperTable, train_alone


@pytest.fixture
def table(tmp_path: Path) -> PaperTable:
    (tmp_path / "mine.yaml").write_text(
        "title: t\nsource: s\nseeds: [0, 1]\n"
        "columns: {GT-known: {metric: gt_known_error, protocol: cam2016, threshold: fixed}}\n"
        "rows: [{label: CAM, experiment: demo}, {label: again, experiment: demo}, {label: published only}]\n"
    )
    layout = read_layout(find_layout(str(tmp_path / "mine.yaml")))
    return PaperTable(layout, ["label_smoothing=0.1"], tmp_path / "runs", [])


def test_two_rows_of_one_run_lack_it_once(table: PaperTable) -> None:
    missing = table.missing()
    assert [[word for word in words if word.startswith("seed=")] for words in missing] == [["seed=0"], ["seed=1"]]
    for words in missing:
        assert words[0] == "train"
        assert {"experiment=demo", "label_smoothing=0.1", f"runs_dir={table.runs_dir}", "resume=true"} <= set(words)


def test_a_failed_run_stops_no_other_and_the_worst_code_comes_back(table: PaperTable) -> None:
    told, trained = [], []

    def train(words: list[str]) -> int:
        assert len(told) == len(trained) + 1, "each run is told of before it is made"
        trained.append(words)
        return 2 if "seed=0" in words else 0

    assert table.make_missing(train, lambda *what: told.append(what)) == 2
    assert trained == table.missing()
    assert [(done, total) for _, done, total in told] == [(1, 2), (2, 2)]
    assert told[0][0].startswith("wsol train experiment=demo")


def test_a_command_line_is_run_in_a_process_of_its_own(capfd) -> None:
    assert train_alone(["--version"]) == 0
    assert capfd.readouterr().out.startswith("wsol ")
    assert train_alone(["trian"]) == 2
    assert "did you mean 'train'" in capfd.readouterr().err
