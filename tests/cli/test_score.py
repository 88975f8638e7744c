"""`wsol score` on maps that a small finished run left, and on folders of map files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.interop.map_folder import open_maps

QUICK = ["num_workers=0", "trainer.accelerator=cpu"]
DATA = ["data=creatures", *(word for word in SMALL_RUN if word.startswith("data."))]


@pytest.fixture(scope="module")
def evaluated(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation that kept its maps."""
    folder = tmp_path_factory.mktemp("eval") / "out"
    assert main(["eval", f"run={finished_run}", f"out={folder}", "save_maps=true", *QUICK]) == 0
    return folder


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def score(*words: str) -> int:
    return main(["score", *words])


@pytest.fixture
def npy(evaluated: Path, tmp_path: Path) -> Path:
    """The test maps as .npy files."""
    kept, folder = open_maps(evaluated / "maps" / "test"), tmp_path / "npy"
    folder.mkdir()
    for name in kept.ids:
        np.save(folder / f"{name}.npy", kept.read(name)[0][0])
    return folder


def test_kept_maps_score_as_the_run_did(evaluated: Path, tmp_path: Path, capsys) -> None:
    assert score(f"maps={evaluated}", f"out={tmp_path / 'out'}") == 0
    again, first = results(tmp_path / "out"), results(evaluated)
    evaluated = [row for row in first["localization"] if row["split"] == "test"]
    assert again["localization"] == evaluated
    assert again["classification"]["test"] == first["classification"]["test"]
    assert again["error_kinds"] == first["error_kinds"]
    assert "kinds of localization" in capsys.readouterr().out


def test_every_protocol_side_by_side(evaluated: Path, tmp_path: Path) -> None:
    assert score(f"maps={evaluated}", f"out={tmp_path / 'out'}", "protocol=all", "baselines=false") == 0
    rows = results(tmp_path / "out")["localization"]
    shipped = {file.stem for file in (Path(__file__).parents[2] / "configs" / "protocol").glob("*.yaml")}
    assert {row["protocol"] for row in rows} == shipped
    for row in rows:
        assert row["threshold_origin"] in ("fixed", "fullsup", "oracle")
        low, high = row["intervals"]["gt_known_error"]
        assert low <= row["gt_known_error"] <= high


def test_the_table_of_ivr_is_one_set_of_maps_under_all_normalizations(evaluated: Path, tmp_path: Path) -> None:
    names = "choe2020-v2,ivr2021-max,ivr2021-pas,ivr2021"
    words = [f"maps={evaluated}", "baselines=false"]
    assert score(*words, f"protocol=[{names}]", f"out={tmp_path / 'all'}") == 0
    found: dict[str, list[dict]] = {name: [] for name in names.split(",")}
    for row in results(tmp_path / "all")["localization"]:
        found[row["protocol"]].append({key: value for key, value in row.items() if key != "protocol"})
    assert len({json.dumps(rows) for rows in found.values()}) > 1
    change = "protocol.ivr2021.quantiles=[0,1]"
    assert score(*words, "protocol=ivr2021", change, f"out={tmp_path / 'minmax'}") == 0
    minmax = [{**row, "protocol": "choe2020-v2"} for row in results(tmp_path / "minmax")["localization"]]
    assert minmax == [{**row, "protocol": "choe2020-v2"} for row in found["choe2020-v2"]]


def test_every_image_is_looked_at(evaluated: Path, tmp_path: Path) -> None:
    assert score(f"maps={evaluated}", f"out={tmp_path / 'out'}") == 0
    content = results(tmp_path / "out")
    with (tmp_path / "out" / "per_image.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    rows = [row for row in content["localization"] if row["maps"] == "localizer"]
    assert len(lines) == 24 * len(rows)
    for row in rows:
        of = [
            line
            for line in lines
            if (line["protocol"], line["threshold_origin"]) == (row["protocol"], row["threshold_origin"])
        ]
        assert len({line["image_id"] for line in of}) == 24
        wrong = 100 * sum(line["right"] == "0" for line in of) / 24
        assert wrong == pytest.approx(row["gt_known_error"])
        top1 = 100 * sum(line["kind"] != "right" for line in of) / 24
        assert top1 == pytest.approx(row["top1_error"])
        shares = content["error_kinds"][row["protocol"]][row["threshold_origin"]]
        assert sum(shares.values()) == pytest.approx(100)
        assert 100 - shares["right"] == pytest.approx(row["top1_error"])


def test_pseudo_boxes_choose_thresholds_as_they_do_for_eval(
    finished_run: Path, evaluated: Path, npy: Path, tmp_path: Path, capsys
) -> None:
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("".join(f"{name},4,4,28,28\n" for name in open_maps(evaluated / "maps" / "val").ids))
    words = ["protocol=[cam2016,choe2020]", f"pseudo_boxes={boxes}"]
    assert main(["eval", f"run={finished_run}", f"out={tmp_path / 'eval'}", *words, "save_maps=true", *QUICK]) == 0
    assert score(f"maps={tmp_path / 'eval'}", f"out={tmp_path / 'out'}", *words) == 0
    again, first = results(tmp_path / "out"), results(tmp_path / "eval")
    assert again["localization"] == [row for row in first["localization"] if row["split"] == "test"]
    own = [(row["protocol"], row["threshold_origin"]) for row in again["localization"] if row["maps"] == "localizer"]
    assert own == [("cam2016", "fixed"), *(("choe2020", origin) for origin in ("pseudo", "fullsup", "oracle"))]
    assert again["pseudo_boxes"] == first["pseudo_boxes"]
    assert again["error_kinds"]["choe2020"]["pseudo"] == first["error_kinds"]["choe2020"]["pseudo"]
    assert score(f"maps={tmp_path / 'eval'}", "split=val", f"out={tmp_path / 'val'}", *words) == 0
    of_val = [row for row in first["localization"] if row["split"] == "val"]
    assert results(tmp_path / "val")["localization"] == of_val
    capsys.readouterr()
    alone = [f"maps={npy}", *DATA, f"data_dir={_data_dir(evaluated)}", f"out={tmp_path / 'no'}"]
    assert score(*alone, *words) == 2
    assert "has no maps of the val split, on which they choose the" in " ".join(capsys.readouterr().err.split())
    assert score(*alone, "protocol=[cam2016]", words[1]) == 2
    assert "no threshold is chosen under cam2016" in capsys.readouterr().err


def test_plain_files_score_alike_but_for_the_classes(evaluated: Path, npy: Path, tmp_path: Path) -> None:
    words = [f"maps={npy}", *DATA, f"data_dir={_data_dir(evaluated)}", f"val_maps={evaluated / 'maps' / 'val'}"]
    assert score(*words, f"out={tmp_path / 'out'}") == 0
    own = [row for row in results(tmp_path / "out")["localization"] if row["maps"] == "localizer"]
    expected = [
        row for row in results(evaluated)["localization"] if row["maps"] == "localizer" and row["split"] == "test"
    ]
    assert [row["gt_known_error"] for row in own] == [row["gt_known_error"] for row in expected]
    assert all("top1_error" not in row for row in own)
    classes = next((evaluated / "maps" / "test").glob("classes-*.csv"))
    assert score(*words, f"classes={classes}", f"out={tmp_path / 'classes'}") == 0
    own = [row for row in results(tmp_path / "classes")["localization"] if row["maps"] == "localizer"]
    assert [row["top1_error"] for row in own] == [row["top1_error"] for row in expected]


def test_flat_maps_are_wrong_under_every_protocol(evaluated: Path, npy: Path, tmp_path: Path) -> None:
    for file in npy.glob("*.npy"):
        np.save(file, np.zeros_like(np.load(file)))
    words = [f"maps={npy}", *DATA, f"data_dir={_data_dir(evaluated)}", f"val_maps={evaluated / 'maps' / 'val'}"]
    assert score(*words, "protocol=all", "baselines=false", f"out={tmp_path / 'out'}") == 0
    kinds = results(tmp_path / "out")["error_kinds"]
    assert kinds["cam2016-code"]["fixed"]["miss"] == 100
    assert set(kinds) == {row["protocol"] for row in results(tmp_path / "out")["localization"]}


def test_two_sets_of_maps_are_compared_by_image(evaluated: Path, npy: Path, tmp_path: Path, capsys) -> None:
    worse = tmp_path / "worse"
    worse.mkdir()
    for file in npy.glob("*.npy"):
        np.save(worse / file.name, -np.load(file))
    words = [f"maps={npy}", f"against={worse}", *DATA, f"data_dir={_data_dir(evaluated)}", f"out={tmp_path / 'out'}"]
    assert score(*words, "protocol=choe2020") == 0
    (row,) = results(tmp_path / "out")["against"]["differences"]
    assert row["difference"] == pytest.approx(row["ours"] - row["theirs"])
    assert row["interval"][0] <= row["difference"] <= row["interval"][1]
    assert "paired by image" in capsys.readouterr().out


BAD = [
    (["split=tset"], "did you mean 'test'"),
    (["protocol=choe2021"], "no such choice"),
    (["missing=ignore"], "refuse, count_as_miss"),
    (["classes=/nowhere.csv"], "/nowhere.csv"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words[0] for words, _ in BAD])
def test_bad_words_are_refused(evaluated: Path, tmp_path: Path, capsys, words, message) -> None:
    assert score(f"maps={evaluated}", f"out={tmp_path / 'out'}", *words) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_maps_that_do_not_fit_are_refused_before_anything_is_scored(evaluated, npy, tmp_path, capsys) -> None:
    words = [f"maps={npy}", *DATA, f"data_dir={_data_dir(evaluated)}", f"out={tmp_path / 'out'}"]
    first, second, third, *_ = sorted(npy.glob("*.npy"))

    def refused(message: str) -> None:
        assert score(*words) == 2
        error = capsys.readouterr().err
        assert re.search(message, error), error
        assert not (tmp_path / "out").exists()

    kept = np.load(first)
    first.unlink()
    refused(f"no map for 1 of the 24 images of test, such as {first.stem}")
    np.save(npy / "stranger.npy", kept)
    refused("1 maps of images that the test split does not have, such as stranger")
    (npy / "stranger.npy").unlink()
    np.save(first, np.array([{}], dtype=object), allow_pickle=True)
    refused(first.name)
    first.write_bytes(second.read_bytes()[:150])
    refused(first.name)
    np.save(first, np.zeros((2, 3, 4)))
    refused(first.name)
    np.save(first, np.full((4, 4), np.nan))
    np.save(third, np.full((4, 4), np.inf))
    assert score(*words) == 0
    assert results(tmp_path / "out")["not_finite_maps"]["test"] == [first.stem, third.stem]
    assert "2 maps with values that are not finite" in capsys.readouterr().out


def test_missing_maps_may_count_as_misses(evaluated: Path, npy: Path, tmp_path: Path) -> None:
    words = [f"maps={npy}", *DATA, f"data_dir={_data_dir(evaluated)}", "protocol=choe2020"]
    assert score(*words, f"out={tmp_path / 'all'}") == 0
    lost = sorted(npy.glob("*.npy"))[:12]
    for file in lost:
        file.unlink()
    assert score(*words, "missing=count_as_miss", f"out={tmp_path / 'half'}") == 0
    content = results(tmp_path / "half")
    assert content["missing_maps"] == [file.stem for file in lost]
    (row,) = (row for row in content["localization"] if row["maps"] == "localizer")
    assert row["images"] == 24
    assert row["gt_known_error"] >= 50


def test_a_store_of_other_data_is_refused(evaluated: Path, tmp_path: Path, capsys) -> None:
    words = [*DATA, "data.seed=3", f"data_dir={_data_dir(evaluated)}", f"out={tmp_path / 'out'}"]
    assert score(f"maps={evaluated}", *words) == 2
    assert "other annotation" in capsys.readouterr().err


def _data_dir(evaluated: Path) -> Path:
    from omegaconf import OmegaConf

    return Path(OmegaConf.load(evaluated / "config.yaml").data_dir)


def test_maps_can_be_evaluated_as_they_are(evaluated: Path, npy: Path, tmp_path: Path, capsys) -> None:
    words = [f"maps={npy}", *DATA, f"data_dir={_data_dir(evaluated)}", "protocol=cam2016", "baselines=false"]
    words.append("protocol.cam2016.fixed_threshold=0.4")
    first = sorted(npy.glob("*.npy"))[0]
    for file in npy.glob("*.npy"):
        values = np.load(file).astype(np.float64)
        np.save(file, 0.5 + 0.5 * (values - values.min()) / (values.max() - values.min()))
    for scaling in ("none", "minmax"):
        assert score(*words, f"protocol.cam2016.scaling={scaling}", f"out={tmp_path / scaling}") == 0
        content = results(tmp_path / scaling)
        assert content["protocols"]["cam2016"]["scaling"] == scaling
        with (tmp_path / scaling / "per_image.csv").open(newline="") as stream:
            boxes = {(line["x0"], line["y0"]) for line in csv.DictReader(stream)}
        assert (boxes == {("0", "0")}) == (scaling == "none")  # all is above 0.4 of the maximum
    np.save(first, np.load(first) * 300)
    capsys.readouterr()
    assert score(*words, "protocol.cam2016.scaling=none", f"out={tmp_path / 'outside'}") == 2
    said = capsys.readouterr().err
    assert first.stem in said
    assert "expects maps in [0, 1]" in " ".join(said.split())
