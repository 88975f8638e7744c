"""Rows against the baseline row: paired by image, or over seeds."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from tests.tables.runs_made_up import make_run
from wsol.engine import image_results
from wsol.errors import InputError
from wsol.tables import render
from wsol.tables.collect import collect
from wsol.tables.compare import compare
from wsol.tables.layout import Cell, Column, Layout, read_layout
from wsol.tables.paired import against_baseline

COLUMN = Column("top1_error", protocol="cam2016", threshold="fixed")
COLUMNS = {
    "error": COLUMN,
    "accuracy": Column("top1_error", protocol="cam2016", threshold="fixed", accuracy=True),
    "classes": Column("top1_error", of="classification"),
    "PxAP": Column("PxAP", of="pixels"),
}
IMAGES = 200


def wrong(error: float, seed: int, images: int = IMAGES) -> np.ndarray:
    """Which images are wrong, bool, so many percent of them."""
    at = np.random.default_rng(seed).permutation(images)
    return np.isin(np.arange(images), at[: round(error / 100 * images)])


def make(
    folder: Path, error: float, *, draw: int = 0, labels: np.ndarray | None = None, keep: bool = True, **about
) -> Path:
    """A run of such a top-1 localization error, and a classification error 20 below, with image_results.npz."""
    run = make_run(folder, {"choices": {}, "data": {}}, error=error - 20, classification=error - 20, **about)
    of = np.arange(IMAGES) % 8 if labels is None else labels
    positions = np.arange(IMAGES)
    arrays = image_results.arrays_of("test", [f"{i}.jpg" for i in positions], of)
    arrays["test/ranks"] = image_results.pack(np.where(wrong(error - 20, draw), 7, 0), positions, IMAGES, np.uint16)
    arrays["test/cam2016"] = np.array([1, labels is not None], np.uint8)
    right = image_results.pack(~wrong(error, draw), positions, IMAGES, np.uint8)
    arrays["test/cam2016/fixed/top1_error"] = right
    if keep:
        image_results.write(run, arrays)
    return run


def values(tmp_path: Path, names=("CAM", "ACoL"), columns=("error",), baseline: str | None = None) -> list:
    """The cells of a table whose rows' runs lie in folders of their name."""
    cells = [Cell(name, column, COLUMNS[column], "demo", (), None, None) for name in names for column in columns]
    layout = Layout("t", "s", {name: COLUMNS[name] for name in columns}, tuple(cells), baseline=baseline)
    found = [compare(cell, {run.seed: run for run in collect(tmp_path / cell.row)}, {}) for cell in cells]
    return against_baseline(layout, found)


def resampled(a: np.ndarray, b: np.ndarray, labels: np.ndarray | None = None) -> tuple[float, float]:
    """The interval of the difference of two means, percent, image by image and draw by draw."""
    rng, found = np.random.default_rng(5), []
    for _ in range(1500):
        at = rng.integers(len(a), size=len(a))
        d = 100.0 * (a[at].astype(float) - b[at])
        if labels is None:
            found.append(d.mean())
        else:
            found.append(np.mean([d[labels[at] == k].mean() for k in np.unique(labels[at])]))
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def test_the_interval_is_that_of_drawing_images_for_both(tmp_path: Path) -> None:
    make(tmp_path / "CAM" / "a", 60, draw=1)
    make(tmp_path / "ACoL" / "b", 48, draw=2)
    first, second, *_ = values(tmp_path, columns=("error", "accuracy", "classes"))[::3]
    assert first.versus is None
    assert (second.versus.baseline, second.versus.over) == ("CAM", "images")
    assert second.versus.difference == pytest.approx(-12)
    low, high = resampled(wrong(48, 2), wrong(60, 1))
    assert (second.versus.low, second.versus.high) == pytest.approx((low, high), abs=0.8)
    of_accuracy, of_classes = values(tmp_path, columns=("error", "accuracy", "classes"))[4:]
    assert of_accuracy.versus.difference == pytest.approx(12)
    assert (of_accuracy.versus.low, of_accuracy.versus.high) == (-second.versus.high, -second.versus.low)
    low, high = resampled(wrong(28, 2), wrong(40, 1))
    assert (of_classes.versus.low, of_classes.versus.high) == pytest.approx((low, high), abs=0.8)


def test_networks_that_fail_on_the_same_images_are_told_apart(tmp_path: Path) -> None:
    """Four percent fewer errors, all among the other's: its interval holds the value, the paired one no zero."""
    make(tmp_path / "CAM" / "a", 60, draw=1)
    make(tmp_path / "ACoL" / "b", 56, draw=1)
    cam, acol = values(tmp_path)
    assert cam.interval[0] < acol.measured < cam.interval[1]
    assert acol.versus.excludes_zero
    assert -8 < acol.versus.low < acol.versus.high < -1


def test_the_mean_over_classes_is_drawn_as_such(tmp_path: Path) -> None:
    labels = np.repeat([0, 1], [180, 20])
    a, b = wrong(60, 1), wrong(40, 2)
    by_class = [100 * np.mean([each[labels == k].mean() for k in (0, 1)]) for each in (a, b)]
    for name, error, draw, mean in (("CAM", 60, 1, by_class[0]), ("ACoL", 40, 2, by_class[1])):
        run = make(tmp_path / name / "run", error, draw=draw, labels=labels)
        results = json.loads((run / "results.json").read_text())
        results["localization"][-1]["top1_error"] = mean
        (run / "results.json").write_text(json.dumps(results))
    found = values(tmp_path)[1].versus
    assert found.difference == pytest.approx(by_class[1] - by_class[0])
    assert (found.low, found.high) == pytest.approx(resampled(b, a, labels), abs=1.5)


def test_several_seeds_are_paired_seed_by_seed(tmp_path: Path) -> None:
    for seed, (cam, acol) in enumerate([(60, 50), (62, 51), (61, 54)]):
        make(tmp_path / "CAM" / str(seed), cam, seed=seed, keep=False)
        make(tmp_path / "ACoL" / str(seed), acol, seed=seed, keep=False)
    found = values(tmp_path)[1].versus
    half = 4.303 * np.std([-10, -11, -7], ddof=1) / 3**0.5
    assert (found.difference, found.over) == (pytest.approx(-28 / 3), "seeds")
    assert (found.low, found.high) == pytest.approx((-28 / 3 - half, -28 / 3 + half), abs=1e-3)


@pytest.mark.parametrize(
    "about", [{"protocol": "choe2020"}, {"threshold": "oracle"}, {"fingerprint": "0" * 64}], ids=lambda d: next(iter(d))
)
def test_what_cannot_be_compared_is_not(tmp_path: Path, about: dict) -> None:
    make(tmp_path / "CAM" / "a", 60)
    make(tmp_path / "ACoL" / "b", 48, **about)
    assert values(tmp_path)[1].versus is None


def test_runs_that_kept_no_results_are_named_with_what_to_do(tmp_path: Path) -> None:
    run = make(tmp_path / "CAM" / "a", 60, keep=False)
    make(tmp_path / "ACoL" / "b", 48)
    found = values(tmp_path)[1]
    assert found.versus is None
    assert f"wsol eval {run}" in found.near
    # An evaluation of the same checkpoint keeps them.
    again = make(run / "eval" / "now", 60)
    (again / "checkpoints").rmdir()
    assert values(tmp_path)[1].versus.difference == pytest.approx(-12)
    # Of other digits than those shown they say nothing.
    (again / image_results.FILE).unlink()
    make(tmp_path / "other", 61)
    (tmp_path / "other" / image_results.FILE).rename(again / image_results.FILE)
    assert values(tmp_path)[1].versus is None


def damaged(content: bytes) -> dict[str, bytes]:
    """What may stand in place of a image_results.npz."""

    def npz(**arrays) -> bytes:
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        return stream.getvalue()

    ids, key = np.array(["a", "b"]), "test/cam2016/fixed/top1_error"
    right, overlaps = np.array([1, 0], np.uint8), np.array([1, 0], np.uint8)
    plain = io.BytesIO()
    np.save(plain, right)
    return {
        "cut": content[: len(content) // 2],
        "foreign": b"nothing",
        "empty": b"",
        "pickles": npz(**{"test/ids": np.array([{}], dtype=object), key: np.array([{}])}),
        "one array": plain.getvalue(),
        "no ids": npz(**{key: right, "test/cam2016": overlaps}),
        "no overlaps": npz(**{"test/ids": ids, key: right}),
        "no overlap at all": npz(**{"test/ids": ids, key: right, "test/cam2016": np.array([0, 0], np.uint8)}),
        "another length": npz(**{"test/ids": ids, key: right[:1], "test/cam2016": overlaps}),
        "floats": npz(**{"test/ids": ids, key: right.astype(float), "test/cam2016": overlaps}),
        "two axes": npz(**{"test/ids": ids, key: right[None], "test/cam2016": overlaps}),
        "more right than overlaps": npz(**{"test/ids": ids, key: right * 9, "test/cam2016": overlaps}),
    }


@pytest.mark.parametrize("how", damaged(b""))
def test_a_damaged_file_costs_the_interval_alone_and_is_named(tmp_path: Path, how: str) -> None:
    run = make(tmp_path / "CAM" / "a", 60)
    make(tmp_path / "ACoL" / "b", 48)
    file = run / image_results.FILE
    file.write_bytes(damaged(file.read_bytes())[how])
    found = values(tmp_path)
    assert found[1].versus is None
    assert found[1].measured is not None
    assert "no interval against CAM" in (found[1].near or "")
    assert f"{file}: corrupt" in (found[0].runs[0].register.note() or "")


def test_the_baseline_may_be_named_and_must_exist(tmp_path: Path) -> None:
    make(tmp_path / "CAM" / "a", 60, draw=1)
    make(tmp_path / "ACoL" / "b", 48, draw=2)
    cam, acol = values(tmp_path, baseline="ACoL")
    assert acol.versus is None
    assert cam.versus.difference == pytest.approx(12)
    file = tmp_path / "t.yaml"
    file.write_text("title: t\nsource: s\nbaseline: CMA\ncolumns: {}\nrows: [{label: CAM}]\n")
    with pytest.raises(InputError, match="did you mean 'CAM'"):
        read_layout(file)


def test_every_form_shows_the_difference_its_interval_and_whether_it_excludes_zero(tmp_path: Path) -> None:
    make(tmp_path / "CAM" / "a", 60, draw=1)
    make(tmp_path / "ACoL" / "b", 55, draw=1)
    make(tmp_path / "HaS" / "c", 60, draw=3)
    names = ("CAM", "ACoL", "HaS")
    found = values(tmp_path, names)
    layout = Layout("t", "s", {"error": COLUMN}, tuple(value.cell for value in found))
    acol, has = found[1].versus, found[2].versus
    assert acol.excludes_zero
    assert not has.excludes_zero
    for name in ("terminal", "markdown", "latex"):
        text = render.FORMATS[name]["long"](layout, found)
        assert f"-5.00 ({acol.low:+.1f} to {acol.high:+.1f}, images) (*)" in text
        assert f"+0.00 ({has.low:+.1f} to {has.high:+.1f}, images)" in text
        assert "against CAM (95" in text
        assert text.count("(*)") == 2
    cells = json.loads(render.plain_json(layout, found))["cells"]
    assert [cell["excludes_zero"] for cell in cells] == [None, True, False]
    assert cells[1]["against_low"] == acol.low
    assert "against_high" in render.plain_csv(layout, found).splitlines()[0]
