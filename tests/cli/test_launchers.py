"""Runs on many devices and machines: torchrun, SLURM (a made-up one), Hydra's launchers, wandb's agents."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from tests.cli import fake_slurm
from tests.cli.launchers import DOCS, SLURM, TORCHRUN, started, weights
from tests.conftest import SMALL_RUN
from tests.engine.ddp_worker import free_port
from wsol import extras, runs
from wsol.cli.app import parse
from wsol.cli.call import composed
from wsol.cli.multirun import single_calls
from wsol.config import build
from wsol.config.compose import check_resolves, compose
from wsol.errors import InputError
from wsol.interop.map_folder import open_maps


@pytest.mark.parametrize(
    ("choice", "variables", "kind"),
    [("slurm", SLURM, SLURMEnvironment), ("torchrun", TORCHRUN, TorchElasticEnvironment)],
)
def test_the_trainer_takes_its_place_from_the_launcher(placed, choice: str, variables: dict, kind: type) -> None:
    placed(variables)
    config = compose("train", [f"trainer={choice}", "trainer.accelerator=cpu"])
    assert (config.trainer.devices, config.trainer.num_nodes) == (4, 2)
    trainer = build.build_trainer(config.trainer, logger=False)
    found = trainer.strategy.cluster_environment
    assert type(found) is kind
    assert (trainer.world_size, trainer.global_rank, trainer.local_rank, trainer.node_rank) == (8, 5, 1, 1)
    assert (found.main_address, found.creates_processes_externally) == ("gpu07", True)
    assert not runs.is_first_process()


@pytest.mark.parametrize(("choice", "variable"), [("slurm", "SLURM_NTASKS_PER_NODE"), ("torchrun", "LOCAL_WORLD_SIZE")])
def test_outside_of_its_launcher_such_a_trainer_is_refused(wsol, capsys, choice: str, variable: str) -> None:
    assert wsol("train", f"trainer={choice}", small=False) == 2
    error = capsys.readouterr().err
    assert f"trainer.devices: Environment variable '{variable}' is not set here" in error
    assert not Path("runs").exists()
    with pytest.raises(InputError, match=variable):
        check_resolves(compose("train", [f"trainer={choice}"]))


def test_other_numbers_than_slurms_are_refused(placed) -> None:
    placed(SLURM)
    config = compose("train", ["trainer=ddp", "trainer.devices=2", "trainer.num_nodes=2", "trainer.accelerator=cpu"])
    with pytest.raises(
        InputError, match="srun started 8 processes, but this trainer starts its processes itself: use trainer=slurm"
    ):
        build.build_trainer(config.trainer, logger=False)


def train_config(folder: Path, *words: str):
    return compose("train", ["name=shared", f"runs_dir={folder}", *words])


def test_the_tasks_of_a_slurm_step_agree_on_a_folder(placed, tmp_path: Path) -> None:
    found = []
    for rank in (5, 0, 7):  # in any order
        placed({**SLURM, "SLURM_PROCID": str(rank)})
        folder, resuming = runs.open_folder(train_config(tmp_path))
        if runs.is_first_process():
            runs.write_config(folder, train_config(tmp_path))
        found.append((folder, resuming))
    assert set(found) == {(tmp_path / "shared" / "slurm-4242-0", False)}


def test_the_tasks_of_a_step_that_evaluates_agree_too(placed, tmp_path: Path) -> None:
    """Each writes to a folder of its own; only that of the first one is kept."""
    for rank in (5, 0):
        placed({**SLURM, "SLURM_PROCID": str(rank)})
        output = runs.OutputFolder("eval", None)
        with output.writing(tmp_path / "eval") as folder:
            (folder / "rank").write_text(str(rank))
        assert output.folder == tmp_path / "eval" / "slurm-4242-0"
        assert output.folder.exists() == (rank == 0)
    assert (output.folder / "rank").read_text() == "0"
    placed(TORCHRUN)
    with pytest.raises(InputError, match="out="), runs.OutputFolder("eval", None).writing(tmp_path / "eval"):
        pass


def test_a_requeued_slurm_job_resumes_only_if_asked(placed, tmp_path: Path) -> None:
    placed({**SLURM, "SLURM_PROCID": "0"})
    folder, _ = runs.open_folder(train_config(tmp_path))
    runs.write_config(folder, train_config(tmp_path))
    with pytest.raises(InputError, match="resume=true"):
        runs.open_folder(train_config(tmp_path))
    for rank in (0, 5):
        placed({"SLURM_PROCID": str(rank), "SLURM_JOB_ID": "4243"})
        again = train_config(tmp_path, "resume=true")
        assert runs.open_folder(again) == (folder, True), "the same run, under another job"


@pytest.mark.parametrize("variables", [TORCHRUN, {"NODE_RANK": "1", "MASTER_ADDR": "gpu07"}])
def test_without_a_name_that_all_know_a_folder_must_be_given(placed, tmp_path: Path, variables: dict) -> None:
    placed(variables)
    for resume in ("false", "true"):
        with pytest.raises(InputError, match=r"run_dir=.*out="):
            runs.open_folder(train_config(tmp_path, f"resume={resume}"))
    assert runs.open_folder(train_config(tmp_path, f"run_dir={tmp_path / 'mine'}")) == (tmp_path / "mine", False)


def test_two_processes_of_torchrun_are_one_run(tmp_path: Path, data_dir: Path, environment: dict[str, str]) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    train = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", "trainer=torchrun", "run_dir=out"]
    evaluate = [
        "run=out",
        "out=evaluated",
        "save_maps=true",
        "trainer=torchrun",
        "trainer.accelerator=cpu",
        "num_workers=0",
    ]
    both = json.dumps([["train", *train], ["eval", *evaluate]])
    said = started([*launch, "-m", "tests.cli.commands", both], tmp_path, environment)
    assert said.count("command eval") == 2, "one of each process"
    assert said.count("run folder out") == said.count("written to out/results.json") == 1
    assert said.count("results.json") == 2, "of the training and of the evaluation"
    config = OmegaConf.load(tmp_path / "out" / "config.yaml")
    assert (config.trainer.devices, config.trainer.num_nodes) == (2, 1)
    assert weights(tmp_path / "out")
    folder = tmp_path / "evaluated" / "maps" / "test"
    assert {file.name for file in folder.iterdir()} == {
        f"{name}-{rank}.{end}"
        for rank in (0, 1)
        for name, end in (("maps", "bin"), ("maps", "json"), ("classes", "csv"))
    }
    assert len(open_maps(folder).ids) == 24
    assert sorted(file.name for file in tmp_path.iterdir() if "evaluated" in file.name) == ["evaluated"]


@pytest.mark.parametrize("variables", [SLURM, TORCHRUN])
def test_multirun_is_refused_to_processes_that_would_each_run_all(wsol, placed, capsys, variables: dict) -> None:
    placed(variables)
    assert wsol("train", "-m", "seed=0,1") == 2
    assert "hydra/launcher=submitit_slurm" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_every_process_of_a_job_gets_the_jobs_own_command_line(wsol, monkeypatch: pytest.MonkeyPatch) -> None:
    children = []

    class Child:
        def __init__(self, command: list[str], env: dict[str, str], cwd: str | None) -> None:
            children.append((command[command.index("train") :], env["LOCAL_RANK"], env[runs.RUN_DIR_VARIABLE]))
            raise InputError("enough")

    monkeypatch.setattr("pytorch_lightning.strategies.launchers.subprocess_script.subprocess.Popen", Child)
    monkeypatch.setattr(runs, "discard", lambda folder: None)  # else a quick second job may take the first one's name
    mine = Path("mine/backbone")
    mine.mkdir(parents=True)
    (mine / "thin.yaml").write_text("# Thin.\n_target_: wsol.backbones.tiny.Tiny\nwidths: [4, 8, 8, 8]\n")
    words = ["--config-dir", "mine", "-m", "backbone=thin", "seed=3,4", "trainer=ddp", "trainer.devices=2"]
    assert wsol("train", *words) == 2
    assert [(rank, "seed=3" in words, "seed=4" in words) for words, rank, _ in children] == [
        ("1", True, False),
        ("1", False, True),
    ]
    for words, _, folder in children:
        assert not {"-m", "--multirun"} & set(words)
        assert words[:3] == ["train", "--config-dir", str(Path("mine").resolve())]
        assert not [word for word in words if word.startswith("hydra")]
        assert Path(folder).parent.parent == Path("runs").resolve()
    assert len({folder for *_, folder in children}) == 2
    assert runs.RUN_DIR_VARIABLE not in os.environ


def test_jobs_run_in_processes_of_a_launcher_and_their_exit_codes_come_back(wsol, data_dir: Path) -> None:
    words = [f"data_dir={data_dir}", "data.size=32", "data.train_images=1", "data.val_images=1", "data.test_images=1,0"]
    assert wsol("data", "verify", "-m", "hydra/launcher=submitit_local", *words, small=False) == 2
    (sweep,) = Path("runs/.multirun").iterdir()
    assert {file.parent.name: file.read_text() for file in sweep.glob("*/exit_code_*")} == {"0": "0", "1": "2"}
    logs = "".join(file.read_text() for file in sweep.rglob("*_log.*"))
    assert "expected at least 1" in logs, "what a job says is in its log"


def test_a_launcher_that_is_not_installed_is_named(wsol, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: False)
    assert wsol("train", "-m", "hydra/launcher=submitit_slurm", "seed=0,1") == 2
    assert 'pip install "wsol[slurm]"' in capsys.readouterr().err


def test_the_batch_file_asks_for_what_the_config_says(wsol, data_dir: Path, tmp_path: Path, monkeypatch) -> None:
    (documented,) = re.findall(r"```yaml\n(# ours.yaml.*?)```", DOCS, flags=re.DOTALL)
    folder = tmp_path / "mine" / "hydra" / "launcher"
    folder.mkdir(parents=True)
    (folder / "ours.yaml").write_text(documented)
    monkeypatch.setenv("PATH", fake_slurm.install(tmp_path / "slurm"))
    words = [f"data_dir={data_dir}", "data.size=32", "data.train_images=1", "data.val_images=1", "data.test_images=1,2"]
    launcher = ["--config-dir", "mine", "hydra/launcher=ours", "hydra.launcher.array_parallelism=1"]
    assert wsol("data", "verify", "-m", *launcher, *words, small=False) == 0
    (file,) = (tmp_path / "slurm").glob("batch-*.sh")
    options = set(re.findall(r"^#SBATCH --(\S+)", file.read_text(), flags=re.MULTILINE))
    expected = {"nodes=1", "ntasks-per-node=1", "partition=gpu", "gpus-per-node=1", "cpus-per-task=8", "time=720"}
    assert expected | {"array=0-1%1", "job-name=wsol-data_verify"} <= options
    assert re.search(r"^srun .*submitit", file.read_text(), flags=re.MULTILINE)


@pytest.mark.slow
def test_jobs_of_several_slurm_tasks_are_ddp_runs_and_one_run_of_wandb_each(
    tmp_path: Path, data_dir: Path, environment: dict[str, str]
) -> None:
    environment["PATH"] = fake_slurm.install(tmp_path / "slurm")
    words = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", "loader.batch_size=8"]
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=1"]
    own = ["trainer=slurm", "logger=wandb", "seed=3,4"]
    started([sys.executable, "-m", "wsol.cli", "train", "-m", *words, *launcher, *own], tmp_path, environment)
    assert sorted(file.read_text() for file in tmp_path.glob("runs/.multirun/*/*/exit_code_*")) == ["0"] * 4
    found = {}
    for file in tmp_path.glob("runs/*/*/results.json"):
        assert re.fullmatch(r"slurm-410[12]-0", file.parent.name)
        (offline,) = (path for path in file.parent.rglob("offline-run-*") if path.is_dir())
        assert offline.name.endswith((file.parent / "wandb_id.txt").read_text())
        found[json.loads(file.read_text())["seed"]] = file.parent
    assert found.keys() == {3, 4}
    alone = ["train", *words, "trainer=ddp", "trainer.devices=2", "seed=3", "run_dir=alone"]
    started([sys.executable, "-m", "wsol.cli", *alone], tmp_path, environment)
    expected = weights(tmp_path / "alone")
    assert all(torch.equal(value, expected[key]) for key, value in weights(found[3]).items())


@pytest.mark.slow
def test_jobs_of_several_processes_run_one_after_the_other(
    tmp_path: Path, data_dir: Path, environment: dict[str, str]
) -> None:
    words = [*SMALL_RUN, f"data_dir={data_dir}", "trainer.max_epochs=1", "logger=wandb"]
    own = ["trainer=ddp", "trainer.devices=2"]
    for local in ([], ["hydra/launcher=submitit_local"]):
        folder = tmp_path / ("local" if local else "here")
        folder.mkdir()
        command = [sys.executable, "-m", "wsol.cli", "train", "-m", *words, *own, *local, "seed=3,4"]
        started(command, folder, environment)
        assert len(list(folder.glob("runs/*/*/results.json"))) == 2
        assert len([path for path in folder.rglob("offline-run-*") if path.is_dir()]) == 2
    seeds: dict[int, list[Path]] = {}
    for file in tmp_path.glob("*/runs/*/*/results.json"):
        seeds.setdefault(json.loads(file.read_text())["seed"], []).append(file.parent)
    for first, second in seeds.values():
        expected = weights(first)
        assert all(torch.equal(value, expected[key]) for key, value in weights(second).items())


def commands() -> list[list[str]]:
    """Every command of `wsol train` and its like on the page, without what starts it."""
    joined = DOCS.replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"```(?:bash)?\n(.*?)```", joined, flags=re.DOTALL))
    found = [line.partition(" #")[0] for line in blocks.splitlines() if re.search(r"(^|\s)(wsol|wsol\.cli) \w", line)]
    return [shlex.split(re.split(r"(?:^|\s)(?:wsol|-m wsol\.cli) ", line, maxsplit=1)[1]) for line in found]


def test_the_page_has_commands() -> None:
    assert len(commands()) == 7


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_of_the_page_are_understood(words: list[str]) -> None:
    call = parse(words)
    for one in single_calls(call) if call.multirun else [call]:
        assert composed(one)
