"""`wsol sweep` and `wsol.sweeps.search`: what is refused before the first trial, and whole searches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.config.compose import override
from wsol.errors import InputError
from wsol.sweeps import hyperparameter_search, search

BAD = [
    (["sweep=lrr"], "did you mean 'lr'"),
    (["sweep.metric=test/top1_error"], "nothing is chosen on the test split"),
    (["sweep.metric=train/loss"], "nothing is chosen on the test split or on training images"),
    (["sweep.trials=0"], "expected a positive number"),
    (["sweep.trials=-1"], "sweep.trials=-1: expected a positive number"),
    (["sweep.workers=0"], "sweep.workers=0: expected a positive number"),
    (["sweep.trails=3"], "trails"),
    (["++optim.optimizer.lr=1"], "that key is searched over"),
    (["+sweep.space={optim.optimizr.lr: {log: [0.1, 1.0]}}"], "optim"),
    (["optim.optimizer.lr=1"], "that key is searched over"),
    (["run_dir=x"], "each trial sets this key itself"),
    (["bakbone=vgg16"], "did you mean 'backbone'"),
    (["--workers", "3"], "unknown option '--workers'"),
    (["data=cub", "data.root=/nowhere", "sweep.folder=f"], "/nowhere: no such folder"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_stops_with_one_message(tmp_path: Path, monkeypatch, capsys, words, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words]) == 2
    error = capsys.readouterr().err
    assert message in error, error
    assert "Traceback" not in error


def test_a_search_key_that_does_not_exist_is_refused_before_any_trial(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    (tmp_path / "mine" / "sweep" / "odd.yaml").write_text("# Odd.\nspace:\n  optim.optimizer.lrr: {log: [0.1, 1.0]}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "--config-dir", "mine", "sweep=odd"]) == 2
    assert "did you mean 'optim.optimizer.lr'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_wandb_gets_the_same_search(capsys) -> None:
    assert main(["sweep", "sweep=tpe", "method=gmp", "wandb=true"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["method"] == "bayes"
    assert config["metric"] == {"name": "val/top1_error", "goal": "minimize"}
    assert config["parameters"]["optim.optimizer.lr"] == {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0}
    assert config["parameters"]["label_smoothing"] == {"distribution": "uniform", "min": 0.0, "max": 0.2}
    assert {"wsol", "train", "method=gmp", "logger=wandb", "${args_no_hyphens}"} <= set(config["command"])


def test_a_search_ranks_on_val_evaluates_test_once_and_says_what_it_spent(
    tmp_path, data_dir, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*SMALL_RUN, f"data_dir={data_dir}", "sweep.folder=found"]
    own = ["sweep.test=true", "sweep.metric=val/choe2020/oracle/gt_known_error"]
    assert main(["sweep", *words, *own, "sweep.trials=3"]) == 0
    folder = tmp_path / "found"
    content = json.loads((folder / "sweep.json").read_text())
    assert content["trials"] == {"complete": 3}
    assert content["best"]["value"] == min(content["values"].values())
    assert content["supervision"] == {"split": "val", "kind": "boxes", "images": 16, "per_class": 2.0}
    for trial in range(3):
        evaluated = json.loads((folder / "trials" / f"{trial:04d}" / "results.json").read_text())
        assert list(evaluated["classification"]) == ["val"], "a trial does not touch the test split"
    assert "test" in json.loads((folder / "test" / "results.json").read_text())["classification"]
    assert (folder / "history.png").read_bytes()[:4] == b"\x89PNG"
    assert content["command"] in capsys.readouterr().out
    when = (folder / "test" / "results.json").stat().st_mtime_ns
    assert main(["sweep", *words, *own, "sweep.trials=3"]) == 0
    assert (folder / "test" / "results.json").stat().st_mtime_ns == when
    assert main(["sweep", *words, *own, "sweep.trials=4"]) == 2
    assert "already evaluated on the test split" in capsys.readouterr().err
    assert main(["sweep", *words, "sweep.trials=3"]) == 2
    assert "with other settings (metric differ)" in capsys.readouterr().err


def test_a_search_by_pseudo_boxes_reports_that_origin_on_test(tmp_path, data_dir, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes.txt").write_text("".join(f"val-{i:06d},4,4,28,28\n" for i in range(16)))
    words = [*SMALL_RUN, f"data_dir={data_dir}", "pseudo_boxes=boxes.txt", "sweep.folder=found", "sweep.trials=1"]
    assert main(["sweep", *words, "sweep.test=true", "sweep.metric=val/choe2020/pseudo/gt_known_error"]) == 0
    content = json.loads((tmp_path / "found" / "sweep.json").read_text())
    assert content["supervision"] == {"split": "val", "kind": "pseudo boxes", "images": 16, "per_class": 2.0}
    rows = json.loads((tmp_path / "found" / "test" / "results.json").read_text())["localization"]
    assert "pseudo" in {row["threshold_origin"] for row in rows if row["split"] == "test"}


def own_sweep(folder: Path, text: str) -> list[str]:
    (folder / "mine" / "sweep").mkdir(parents=True)
    (folder / "mine" / "sweep" / "odd.yaml").write_text(f"# Odd.\n{text}\n", encoding="utf-8")
    return ["sweep", "--config-dir", str(folder / "mine"), "sweep=odd"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{optim.optimizer.lr: {log: [1, .inf]}}", "sweep.space.optim.optimizer.lr: expected two finite numbers"),
        ("{seed: {choice: [0, one]}}", "seed"),
        ("{method: {choice: [cam, gmpp]}}", "sweep.space.method: no choice 'gmpp'; did you mean 'gmp'"),
        ("{3: {choice: [0, 1]}}", "sweep.space"),
        ("{run_dir: {choice: [a, b]}}", "sweep.space.run_dir: each trial sets this key itself"),
        ("{seed: {choice: [0, 1]}, seed: {choice: [2]}}", "seed"),
    ],
)
def test_a_faulty_space_in_a_file_is_one_message(tmp_path: Path, capsys, space: str, message: str) -> None:
    assert main(own_sweep(tmp_path, f"space: {space}")) == 2
    error = capsys.readouterr().err
    assert message in error, error
    assert "Traceback" not in error


def test_own_configs_lie_in_a_folder_of_any_name(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "my drive (1), a=[b]"
    assert main([*own_sweep(folder, "trials: 7\nspace: {seed: {choice: [0, 1]}}"), "--cfg"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["sweep"]["trials"] == 7


def test_twenty_thousand_choices_are_not_composed_one_by_one(monkeypatch) -> None:
    composed = []
    real = hyperparameter_search.compose
    monkeypatch.setattr(hyperparameter_search, "compose", lambda *words: composed.append(words) or real(*words))
    settings = {**hyperparameter_search.read_settings([]), "space": {"seed": {"choice": [*range(20_000)]}}}
    hyperparameter_search.check(settings, [])
    assert len(composed) <= 10
    assert {f"seed={value}" for value in (0, 19_999)} < {word for words in composed for word in words[1]}
    settings["space"]["seed"]["choice"][12_345] = "twelve"
    with pytest.raises(InputError, match=r"sweep\.space\.seed: 'twelve'"):
        hyperparameter_search.check(settings, [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trails": 3}, "unknown key of a sweep 'trails': did you mean 'trials'"),
        ({"trials": "many"}, "sweep.trials='many'"),
        ({"sweep": "lrr"}, "did you mean 'lr'"),
        ({"space": {1: {"choice": [2]}}}, "sweep.space.1: expected the name of a key"),
        ({"space": {}}, "sweep.space is empty"),
    ],
)
def test_faulty_settings_from_python_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        search(**settings)
    assert message in str(caught.value)


def test_a_search_from_python_in_a_folder_of_any_name(tmp_path: Path, data_dir: Path, monkeypatch) -> None:
    folder = tmp_path / "my drive (1), ü=[2]"
    folder.mkdir()
    monkeypatch.chdir(folder)
    found = search(
        [
            *SMALL_RUN,
            "trainer.max_epochs=1",
            override("data_dir", str(data_dir)),
            override("runs_dir", str(folder / "runs")),
        ],
        trials=2,
        test=True,
        space={"optim.optimizer.lr": {"log": [1e-3, 0.1]}, "name": {"choice": ["a, (b) = [c]"]}},
    )
    assert found["trials"] == {"complete": 2}
    run = Path(found["best"]["run"])
    assert run.is_relative_to(folder / "runs")
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["name"] == "a, (b) = [c]"
    assert (run.parents[1] / "test" / "results.json").exists()
    (run / "results.json").unlink()
    with pytest.raises(InputError, match=r"results\.json: corrupt"):
        search(
            [
                *SMALL_RUN,
                "trainer.max_epochs=1",
                override("data_dir", str(data_dir)),
                override("runs_dir", str(folder / "runs")),
            ],
            trials=2,
            space={"optim.optimizer.lr": {"log": [1e-3, 0.1]}, "name": {"choice": ["a, (b) = [c]"]}},
        )


@pytest.mark.slow
def test_twelve_trials_of_two_workers_survive_kill_9(tmp_path: Path, data_dir: Path) -> None:
    code = "import sys; from wsol.cli import main\nif __name__ == '__main__': sys.exit(main(sys.argv[1:]))"
    script = tmp_path / "program.py"
    script.write_text(code)
    words = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", "sweep.trials=12", "sweep.workers=2"]
    command = [sys.executable, str(script), "sweep", *words, "sweep.folder=found"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    first = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while len(list(tmp_path.rglob("trials/*/results.json"))) < 5:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(2)  # its workers notice and end
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("trials/*/results.json")}
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    content = json.loads((tmp_path / "found" / "sweep.json").read_text())
    assert content["trials"] == {"complete": 12}
    assert len(list(tmp_path.rglob("trials/*/results.json"))) == 12
    assert all(file.stat().st_mtime_ns == when for file, when in before.items()), "no finished trial is run again"
