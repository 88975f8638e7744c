"""Searches on several devices and machines, and sweeps of wandb."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from tests.cli.launchers import DOCS, GPUS
from tests.conftest import SMALL_RUN
from tests.engine.ddp_worker import LIMIT
from wsol.cli import main
from wsol.config.compose import compose


@pytest.mark.parametrize("words", [["trainer=ddp"], ["trainer.devices=2"], ["trainer.num_nodes=2"]])
def test_trials_of_several_devices_are_refused(wsol, capsys, words: list[str]) -> None:
    assert wsol("sweep", *words, small=False) == 2
    assert "one device" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("there", "seen", "given"), [(0, None, {None}), (1, None, {None}), (2, None, {"0", "1"}), (2, "3,5", {"3", "5"})]
)
def test_workers_are_dealt_out_to_gpus(monkeypatch, there: int, seen: str | None, given: set) -> None:
    from wsol.sweeps import processes

    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.delenv(GPUS, raising=False)
    if seen is not None:
        monkeypatch.setenv(GPUS, seen)
    started = []
    for worker in range(4):
        with processes._one_gpu(worker):
            started.append(os.environ.get(GPUS))
    assert set(started) == given
    assert started[:2] == started[2:]
    assert os.environ.get(GPUS) == seen


def test_the_test_split_is_evaluated_by_one_of_several_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from wsol.engine import run_evaluation
    from wsol.sweeps import hyperparameter_search
    from wsol.sweeps.attempts import Attempts

    study = SimpleNamespace(folder=tmp_path, attempts=Attempts(tmp_path))
    evaluated = []

    def evaluate(config) -> None:
        assert Attempts(tmp_path).take("test") is None, "another machine would wait"
        evaluated.append(config.run)
        (tmp_path / "test").mkdir()
        (tmp_path / "test" / "results.json").write_text("{}")

    monkeypatch.setattr(run_evaluation, "run", evaluate)
    for _ in range(2):
        hyperparameter_search._evaluate_test(study, tmp_path / "trials" / "0003", None)
    assert evaluated == [str(tmp_path / "trials" / "0003")]


@pytest.mark.slow
def test_an_array_of_machines_shares_a_study(tmp_path: Path, data_dir: Path, environment: dict[str, str]) -> None:
    (documented,) = (line.split() for line in DOCS.splitlines() if line.startswith("wsol sweep") and "folder=" in line)
    kept = [word for word in documented[1:] if not re.match(r"experiment=|sweep=", word)]
    own = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", "sweep.trials=4", "sweep.test=true"]
    words = [re.sub(r"folder=.*", f"folder={tmp_path / 'found'}", word) for word in kept]
    command = [sys.executable, "-m", "wsol.cli", *words, *own]
    tasks = []
    for number in range(2):
        place = {"SLURM_JOB_ID": str(71 + number), "SLURM_ARRAY_TASK_ID": str(number), "SLURM_NTASKS": "1"}
        task = {**environment, **place, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
        log = (tmp_path / f"task{number}.log").open("w")
        tasks.append(subprocess.Popen(command, cwd=tmp_path, env=task, stdout=log, stderr=log))
    codes = [task.wait(LIMIT) for task in tasks]
    said = [(tmp_path / f"task{number}.log").read_text() for number in range(2)]
    assert codes == [0, 0], said
    assert json.loads((tmp_path / "found" / "sweep.json").read_text())["trials"] == {"complete": 4}
    ran = [re.findall(r"^trial (\d+): ", text, flags=re.MULTILINE) for text in said]
    assert sorted(ran[0] + ran[1]) == ["0", "1", "2", "3"], "no trial is run by both"
    assert [file.name for file in (tmp_path / "found" / "attempts").glob("test-*")] == ["test-1.json"], "evaluated once"


def wandb_command(sweep: dict, drawn: dict) -> list[str]:
    """The command that an agent of wandb runs for some drawn values."""
    assert sweep["program"] == "wsol"
    arguments = create_sweep_command_args({"args": {key: {"value": value} for key, value in drawn.items()}})
    parts = [arguments.get(word.removeprefix("${").removesuffix("}"), [word]) for word in sweep["command"]]
    return [word for part in parts for word in part]


def drawn(parameters: dict) -> list[dict]:
    """Two draws: the first and the last of everything."""
    ends = (("min", 0), ("max", -1))
    return [
        {key: node["values"][at] if "values" in node else node[name] for key, node in parameters.items()}
        for name, at in ends
    ]


def sweeps_of_wandb(capsys) -> list[dict]:
    """The documented one, and one made by `wsol sweep wandb=true`."""
    (block,) = re.findall(r"```yaml\n# sweep.yaml\n(.*?)```", DOCS, flags=re.DOTALL)
    assert main(["sweep", "sweep=tpe", "method=gmp", "trainer=ddp", "wandb=true"]) == 0
    return [yaml.safe_load(block), yaml.safe_load(capsys.readouterr().out)]


def test_commands_of_wandbs_agents_compose_and_choose_on_val(capsys) -> None:
    for sweep in sweeps_of_wandb(capsys):
        for values in drawn(sweep["parameters"]):
            words = wandb_command(sweep, values)
            assert words[:2] == ["wsol", "train"]
            config = compose("train", words[2:])
            assert config.monitor == sweep["metric"]["name"]
            assert config.monitor.startswith("val/")
            assert config.choices.logger == "wandb"
            for key, value in values.items():
                assert OmegaConf.select(config, key) == value, key
