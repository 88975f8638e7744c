"""Runs are found by what they recorded."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from tests.tables.runs_made_up import make_run, recorded
from wsol.errors import InputError
from wsol.runs.identity import differences
from wsol.runs.register import Register
from wsol.tables.collect import collect, comparable, matching, nearest

WORDS = ["experiment=tiny_imagenet50/cam_resnet18"]


@pytest.fixture(scope="module")
def config() -> dict:
    return recorded(WORDS)


def test_a_run_matches_whatever_its_folder_name_machine_and_place_of_data(tmp_path: Path, config: dict) -> None:
    elsewhere = recorded([*WORDS, "data.root=/other", "loader.num_workers=3", "trainer.precision=32-true", "name=x"])
    make_run(tmp_path / "a" / "b" / "nothing to do with it", elsewhere, seed=3)
    other = recorded([*WORDS, "optim.optimizer.lr=0.11"])
    make_run(tmp_path / "tiny_imagenet50-cam-resnet18w24", other)
    found = matching(collect(tmp_path), comparable(config))
    assert {seed: run.folder.name for seed, run in found.items()} == {3: "nothing to do with it"}


@pytest.mark.parametrize("word", ["trainer.max_epochs=8", "loader.batch_size=32", "image_size=32"])
def test_what_changes_the_training_makes_another_run(config: dict, word: str) -> None:
    key = word.partition("=")[0]
    assert [each.key for each in differences(comparable(config), comparable(recorded([*WORDS, word])))] == [key]


def test_the_newest_of_one_seed_counts(tmp_path: Path, config: dict) -> None:
    make_run(tmp_path / "z_old", config, error=10)
    time.sleep(0.02)
    make_run(tmp_path / "a_new", config, error=11)
    assert matching(collect(tmp_path), comparable(config))[0].folder.name == "a_new"


def test_runs_on_different_data_are_refused_by_name(tmp_path: Path, config: dict) -> None:
    make_run(tmp_path / "one", config, seed=0)
    make_run(tmp_path / "two", config, seed=1, fingerprint="0" * 64)
    with pytest.raises(InputError, match=r"one.*two.*not the same data"):
        matching(collect(tmp_path), comparable(config))


def test_unfinished_runs_and_evaluations_are_no_runs(tmp_path: Path, config: dict) -> None:
    (make_run(tmp_path / "stopped", config) / "results.json").unlink()
    make_run(tmp_path / "done", config)
    evaluation = make_run(tmp_path / "done" / "eval" / "now", config)
    (evaluation / "checkpoints").rmdir()
    assert [run.folder.name for run in collect(tmp_path)] == ["done"]


def test_an_evaluation_adds_protocols_and_origins_of_the_same_checkpoint_and_data_alone(
    tmp_path: Path, config: dict
) -> None:
    run = make_run(tmp_path / "run", config)
    make_run(run / "eval" / "1", config, protocol="choe2020", error=33)
    make_run(run / "eval" / "2", config, protocol="ilsvrc", fingerprint="0" * 64)
    make_run(run / "eval" / "3", config, protocol="cam2016", error=1)
    make_run(run / "eval" / "4", {**config, "pseudo_boxes": "pseudo"}, threshold="pseudo", error=35)
    rows = collect(tmp_path)[0].results()["localization"]
    own = [
        (row["protocol"], row["threshold_origin"], row["gt_known_error"])
        for row in rows
        if row["maps"] == "localizer" and row["split"] == "test"
    ]
    assert own == [("cam2016", "fixed", 40.0), ("choe2020", "fixed", 33), ("cam2016", "pseudo", 35)]


def test_an_evaluation_at_another_image_size_is_another_thing(tmp_path: Path, config: dict) -> None:
    run = make_run(tmp_path / "run", config)
    for folder, size in ((run, 64), (make_run(run / "eval" / "1", config, protocol="choe2020", error=33), 96)):
        content = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(json.dumps({**content, "image_size": size}))
    assert {row["protocol"] for row in collect(tmp_path)[0].results()["localization"]} == {"cam2016"}


def test_a_run_that_cannot_be_read_is_passed_over_by_name_and_the_next_one_counts(tmp_path: Path, config: dict) -> None:
    make_run(tmp_path / "good", config, error=10)
    time.sleep(0.02)
    run = make_run(tmp_path / "newer", config)
    (run / "results.json").write_text('{"localization": [')
    register = Register(tmp_path)
    assert matching(collect(register), comparable(config))[0].folder.name == "good"
    assert "newer/results.json: corrupt" in (register.note() or "")
    (run / "config.yaml").write_text("a: [")
    register = Register(tmp_path)
    assert [found.folder.name for found in collect(register)] == ["good"]
    assert "newer/config.yaml: unreadable" in (register.note() or "")


TEXTS = {
    "as recorded": lambda config: OmegaConf.to_yaml(OmegaConf.create(config)),
    "by another hand": lambda config: "# by hand\n\n" + yaml.safe_dump(config, indent=4) + "# end\n",
    "one line": lambda config: json.dumps(config),
}


@pytest.mark.parametrize("how", TEXTS)
def test_a_config_is_the_same_however_it_is_written(tmp_path: Path, config: dict, how: str) -> None:
    odd = {**config, "seed": 7, "note": "a: b\n\n- c\n# d", "data": {**config["data"], "list": [{"a": 1}, [2]]}}
    run = make_run(tmp_path / "run", odd)
    (run / "config.yaml").write_text(TEXTS[how](odd))
    (found,) = collect(tmp_path)
    assert found.config == comparable(odd)
    assert found.seed == 7
    assert found.experiment == "tiny_imagenet50/cam_resnet18"


def test_evaluations_by_another_map_maker_or_with_other_classes_are_not_the_runs_own(tmp_path, config: dict) -> None:
    run = make_run(tmp_path / "run", config)
    explained = {**config, "choices": {**config["choices"], "explainer": "gradcam"}}
    make_run(run / "eval" / "1", explained, protocol="choe2020", error=33)
    by_others = make_run(run / "eval" / "2", config, protocol="choe2020", error=34)
    results = json.loads((by_others / "results.json").read_text())
    (by_others / "results.json").write_text(json.dumps({**results, "classes": {"name": "dpn131"}}))
    (found,) = collect(tmp_path)
    assert {row["protocol"] for row in found.results()["localization"]} == {"cam2016"}
    (row,) = (
        row for row in found.results("dpn131")["localization"] if (row["maps"], row["split"]) == ("localizer", "test")
    )
    assert (row["protocol"], row["gt_known_error"]) == ("choe2020", 34)
    assert found.results("dpn92")["localization"] == []


def test_what_is_nearly_the_run_is_offered(tmp_path: Path, config: dict) -> None:
    make_run(tmp_path / "far", recorded(["experiment=demo"]))
    assert nearest(collect(tmp_path), comparable(config)) is None
    make_run(tmp_path / "near", recorded([*WORDS, "trainer.max_epochs=8", "label_smoothing=0.1"]))
    found = nearest(collect(tmp_path), comparable(config))
    assert found is not None
    assert found[0].folder.name == "near"
    assert [str(each) for each in found[1]] == ["label_smoothing: 0.1 -> 0.0", "trainer.max_epochs: 8 -> 7"]
