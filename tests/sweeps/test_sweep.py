"""`wsol sweep`: its space, its study under kill -9, and a small search from one end to the other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.trial import FixedTrial, TrialState

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.config.compose import compose, groups
from wsol.errors import InputError
from wsol.sweeps.search_space import read_space
from wsol.sweeps.study import SweepStudy, best_of

SETTINGS = {
    "metric": "val/top1_error",
    "sampler": "random",
    "pruner": "none",
    "warmup_epochs": 1,
    "seed": 0,
    "storage": "sqlite",
    "space": {"optim.optimizer.lr": {"log": [1e-3, 1.0]}, "method": {"choice": ["cam", "gmp"]}},
}


def plain(settings) -> dict:
    return OmegaConf.to_container(settings)


def study(folder: Path, **changes) -> SweepStudy:
    return SweepStudy(folder, {**SETTINGS, **changes}, "min", 4)


# -- the space ---------------------------------------------------------------------------------------------------------


@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e3), st.integers(0, 2**31), st.sampled_from(["log", "range"]))
def test_draws_lie_within_their_ends(low: float, factor: float, seed: int, kind: str) -> None:
    (dimension,) = read_space({"a.b": {kind: [low, low * factor]}})
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
    key, _, value = dimension.suggest(trial).partition("=")
    assert key == "a.b"
    assert low <= float(value) <= low * factor


def test_log_ranges_are_even_in_the_logarithm_and_ranges_in_the_number() -> None:
    space = read_space({"log": {"log": [1e-4, 1.0]}, "even": {"range": [0.0, 1.0]}, "whole": {"range": [1, 3]}})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    drawn = [
        [float(each.suggest(trial).partition("=")[2]) for each in space] for trial in (made.ask() for _ in range(400))
    ]
    log, even, whole = zip(*drawn, strict=True)
    assert sum(value < 1e-2 for value in log) / 400 == pytest.approx(0.5, abs=0.1)
    assert sum(value < 0.5 for value in even) / 400 == pytest.approx(0.5, abs=0.1)
    assert set(whole) == {1.0, 2.0, 3.0}


@pytest.mark.parametrize(
    ("node", "drawn", "word"),
    [
        ({"choice": ["cam", "gmp"]}, "gmp", "k=gmp"),
        ({"choice": [[0.5], None, True]}, "null", "k=null"),
        ({"choice": [[0.5, 2], None, True]}, "[0.5, 2]", "k=[0.5, 2]"),
        ({"range": [4, 9]}, 7, "k=7"),
        ({"range": [0.0, 1.0], "as": "[{}]"}, 0.25, "k=[0.25]"),
        ({"log": [1e-5, 1.0]}, 2e-5, "k=2e-05"),
    ],
)
def test_a_draw_becomes_a_word_of_the_command_line(node: dict, drawn, word: str) -> None:
    (dimension,) = read_space({"k": node})
    assert dimension.suggest(FixedTrial({"k": drawn})) == word


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "sweep.space is empty"),
        ({"a": 3}, "expected one of choice, range or log"),
        ({"a": {"rnage": [0, 1]}}, "did you mean 'range'"),
        ({"a": {"log": [0.0, 1.0]}}, "0 < lowest < highest"),
        ({"a": {"range": [1.0, 1.0]}}, "lowest < highest"),
        ({"a": {"range": [1, 2, 3]}}, "expected two numbers"),
        ({"a": {"choice": []}}, "expected a list"),
        ({"a": {"choice": [1], "as": "x"}}, "must hold {}"),
    ],
)
def test_a_faulty_space_is_refused(space: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_space(space)
    assert message in str(caught.value)


@pytest.mark.parametrize("choice", sorted(groups()["sweep"]))
def test_every_ready_sweep_composes_and_says_what_it_is(choice: str) -> None:
    assert groups()["sweep"][choice]
    settings = compose("sweep", [f"sweep={choice}"]).sweep
    assert read_space(plain(settings)["space"])
    assert settings.metric.startswith("val/")


METHODS = ("cam", "has", "acol", "spg", "adl", "cutmix")


@pytest.mark.parametrize("method", METHODS)
def test_the_30_draw_protocol_fits_its_experiments(method: str) -> None:
    """30 draws chosen on train-fullsup, test once; every key of the space exists in the method's experiment."""
    choice = "choe2020" if method == "cam" else f"choe2020_{method}"
    settings = compose("sweep", [f"sweep={choice}"]).sweep
    assert (settings.trials, settings.sampler, settings.test) == (30, "random", True)
    space = read_space(plain(settings)["space"])
    words = [each.word(each.values[0]) for each in space]
    config = compose("train", [f"experiment=choe2020/cub/{method}_vgg16", *settings.overrides, *words])
    assert settings.metric.split("/")[1] in config.protocol


# -- the study ---------------------------------------------------------------------------------------------------------

CLAIM = """
import os, signal, sys
from pathlib import Path
from tests.sweeps.test_sweep import study
from wsol.sweeps.search_space import read_space
made = study(Path(sys.argv[1]))
claim = made.claim()
drawn = [each.suggest(claim.trial) for each in read_space(made.settings["space"])]
print(claim.trial.number, *drawn, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def draws(made: SweepStudy, claim) -> list[str]:
    return [each.suggest(claim.trial) for each in read_space(made.settings["space"])]


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_each_trial_is_claimed_once_and_there_are_no_more_than_asked_for(tmp_path: Path, storage: str) -> None:
    one, other = study(tmp_path / "s", storage=storage), study(tmp_path / "s", storage=storage)
    one.fill(3)
    other.fill(3)
    claims = [one.claim(), other.claim(), one.claim()]
    assert [claim.trial.number for claim in claims] == [0, 1, 2]
    assert other.claim() is None
    assert not other.is_done()
    one.tell(claims[0], 5.0, TrialState.COMPLETE)
    other.tell(claims[1], None, TrialState.PRUNED)
    one.tell(claims[2], None, TrialState.FAIL, "why")
    assert other.is_done()
    assert [trial.state for trial in other.trials()] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert other.best().number == 0
    one.fill(4)
    assert one.claim().trial.number == 3


def test_a_trial_of_a_killed_worker_goes_to_the_next_with_the_same_draws(tmp_path: Path) -> None:
    made = study(tmp_path / "s")
    made.fill(2)
    killed = subprocess.run(
        [sys.executable, "-c", CLAIM, str(tmp_path / "s")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    number, *drawn = killed.stdout.split()
    claim = made.claim()
    assert claim.trial.number == int(number) == 0
    assert draws(made, claim) == drawn
    assert made.claim().trial.number == 1


def test_random_draws_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    def drawn(name: str, **changes) -> list[list[str]]:
        made = study(tmp_path / name, **changes)
        made.fill(3)
        claims = [made.claim() for _ in range(3)]
        return [draws(made, claim) for claim in claims]

    first = drawn("a")
    assert drawn("b") == first
    assert drawn("c", seed=1) != first
    assert len({tuple(each) for each in first}) == 3


def test_a_study_whose_space_changed_is_refused_and_left_alone(tmp_path: Path) -> None:
    made = study(tmp_path / "s")
    made.identify({"space": {"a": 1}, "seed": 0})
    made.identify({"space": {"a": 1}, "seed": 0})
    with pytest.raises(InputError, match=r"begun otherwise \(space differ\)"):
        made.identify({"space": {"a": 2}, "seed": 0})
    assert made.study.user_attrs["wsol"] == json.dumps({"seed": 0, "space": {"a": 1}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage": "sqlite:///{tmp}/no/such/folder/study.db"}, "cannot be used"),
        ({"storage": "postgresql://nobody@127.0.0.1:1/none"}, "Nothing is lost: the same command goes on"),
        ({"storage": "memory"}, "expected sqlite, journal, or the URL"),
        ({"sampler": "grid"}, "unknown sweep.sampler 'grid'"),
        ({"pruner": "median_"}, "did you mean 'median'"),
    ],
)
def test_storage_out_of_reach_and_unknown_names_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        study(tmp_path / "s", **{key: value.format(tmp=tmp_path) for key, value in changes.items()})
    assert message in str(caught.value)


def test_a_locked_database_is_one_message_and_left_as_it_is(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}?timeout=0.1"
    made = study(tmp_path / "s", storage=storage)
    made.fill(2)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        for do in (lambda: study(tmp_path / "s", storage=storage), made.trials, made.claim, lambda: made.fill(5)):
            with pytest.raises(InputError, match=r"cannot be used \(.*database is locked"):
                do()
    assert [trial.state for trial in made.trials()] == [TrialState.WAITING] * 2


def test_a_study_that_another_worker_does_not_let_go_of_is_one_message(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("wsol.sweeps.study.PATIENCE", 0.1)
    made = study(tmp_path / "s")
    made.fill(1)
    with FileLock(tmp_path / "s" / "locks" / "study"), pytest.raises(InputError, match="Is it locked by another"):
        study(tmp_path / "s").claim()
    assert made.claim().trial.number == 0


def test_a_corrupt_database_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.db").write_bytes(b"this is no database, " * 100)
    with pytest.raises(InputError, match="cannot be used"):
        study(tmp_path / "s")


def test_not_a_number_is_never_the_best() -> None:
    assert best_of([float("nan"), 3.0, 2.0, float("inf")], "min") == 2.0
    assert best_of([float("nan"), 3.0, 2.0], "max") == 3.0
    assert best_of([float("nan")], "min") is None


# -- the verb ----------------------------------------------------------------------------------------------------------

BAD = [
    (["sweep=lrr"], "did you mean 'lr'"),
    (["sweep.metric=test/top1_error"], "nothing is chosen on the test split"),
    (["sweep.metric=train/loss"], "nothing is chosen on the test split, nor on training images"),
    (["sweep.trials=0"], "expected a positive number"),
    (["sweep.trails=3"], "trails"),
    (["+sweep.space={optim.optimizr.lr: {log: [0.1, 1.0]}}"], "optim"),
    (["optim.optimizer.lr=1"], "that key is searched over"),
    (["run_dir=x"], "each trial has its own"),
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
    assert main(["sweep", "sweep=tpe", "method=gmp", "--wandb"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["method"] == "bayes"
    assert config["metric"] == {"name": "val/top1_error", "goal": "minimize"}
    assert config["parameters"]["optim.optimizer.lr"] == {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0}
    assert config["parameters"]["label_smoothing"] == {"distribution": "uniform", "min": 0.0, "max": 0.2}
    assert {"wsol", "train", "method=gmp", "logger=wandb", "${args_no_hyphens}"} <= set(config["command"])


def test_a_search_ranks_on_val_judges_test_once_and_says_what_it_spent(tmp_path, data_dir, monkeypatch, capsys) -> None:
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
        judged = json.loads((folder / "trials" / f"{trial:04d}" / "results.json").read_text())
        assert list(judged["classification"]) == ["val"], "a trial does not touch the test split"
    assert "test" in json.loads((folder / "test" / "results.json").read_text())["classification"]
    assert (folder / "history.png").read_bytes()[:4] == b"\x89PNG"
    assert content["command"] in capsys.readouterr().out
    when = (folder / "test" / "results.json").stat().st_mtime_ns
    assert main(["sweep", *words, *own, "sweep.trials=3"]) == 0
    assert (folder / "test" / "results.json").stat().st_mtime_ns == when
    assert main(["sweep", *words, *own, "sweep.trials=4"]) == 2
    assert "judged on the test split already" in capsys.readouterr().err
    assert main(["sweep", *words, "sweep.trials=3"]) == 2
    assert "begun otherwise (metric differ)" in capsys.readouterr().err


def test_bad_trials_are_pruned_and_not_ranked(tmp_path, data_dir, monkeypatch, capsys) -> None:
    class Always(optuna.pruners.BasePruner):
        def prune(self, study, trial) -> bool:
            return trial.number > 0

    monkeypatch.setattr("wsol.sweeps.study._pruner", lambda settings, max_epochs: Always())
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *SMALL_RUN, f"data_dir={data_dir}", "sweep.trials=2", "sweep.folder=found"]) == 0
    content = json.loads((tmp_path / "found" / "sweep.json").read_text())
    assert content["trials"] == {"complete": 1, "pruned": 1}
    assert content["best"]["trial"] == 0
    assert not (tmp_path / "found" / "trials" / "0001" / "results.json").exists()


@pytest.mark.slow
def test_twenty_trials_of_two_workers_survive_kill_9(tmp_path: Path, data_dir: Path) -> None:
    code = "import sys; from wsol.cli import main\nif __name__ == '__main__': sys.exit(main(sys.argv[1:]))"
    script = tmp_path / "program.py"
    script.write_text(code)
    words = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", "sweep.trials=20", "sweep.workers=2"]
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
    assert content["trials"] == {"complete": 20}
    assert len(list(tmp_path.rglob("trials/*/results.json"))) == 20
    assert all(file.stat().st_mtime_ns == when for file, when in before.items()), "no finished trial is run again"
