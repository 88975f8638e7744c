"""SIGTERM and Ctrl-C, wherever they come: exit code, one line, and what the same command does next."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf.errors import ConfigAttributeError
from pytorch_lightning.utilities.exceptions import SIGTERMException

import wsol.engine.training
from tests import processes
from tests.conftest import SMALL_RUN
from wsol.callbacks.progress import EpochLines
from wsol.cli import app, failures, main
from wsol.config import build
from wsol.engine import split_results
from wsol.engine.module import LocalizerModule
from wsol.errors import Terminated, interruption

SIGNALS = {"SIGTERM": 143, "SIGINT": 130}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))


def before(function: Callable, name: str) -> Callable:
    """The function, in which a signal arrives first."""

    def interrupted(*arguments, **more):
        send(name)
        return function(*arguments, **more)

    return interrupted


PLACES = {
    "before fit": (build, "build_source"),
    "fit": (LocalizerModule, "training_step"),
    "validation": (LocalizerModule, "validation_step"),
    "test": (LocalizerModule, "test_step"),
    "after the test": (split_results, "write_image_results"),
}


@pytest.fixture(autouse=True)
def _ctrl_c_raises():
    """A shell's background jobs are started with it ignored."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_training_with_its_code_and_the_same_command_goes_on(
    wsol, capsys, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    owner, function = PLACES[place]
    with monkeypatch.context() as patched:
        patched.setattr(owner, function, before(getattr(owner, function), name))
        assert wsol("train", "trainer.max_epochs=1", "run_dir=run", "resume=true") == SIGNALS[name]
    last = capsys.readouterr().err.splitlines()[-1]
    trained = place in ("test", "after the test")
    stepped = (place, name) == ("fit", "SIGTERM")  # the step is finished and kept
    what = {"SIGTERM": "terminated", "SIGINT": "interrupted"}[name]
    left = "run keeps checkpoints/last.ckpt and checkpoints/best.ckpt" if trained else "run has no checkpoint yet"
    left = "run keeps checkpoints/last.ckpt" if stepped else left
    assert last == f"wsol: {what}; {left}; give the same command again to continue"
    assert not Path("run/results.json").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert wsol("train", "trainer.max_epochs=1", "run_dir=run", "resume=true") == 0


@pytest.mark.parametrize("function", ["training_step", "validation_step", "test_step"])
def test_lightnings_own_exit_after_sigterm_is_never_a_success(
    wsol, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def leave(*_) -> None:
        raise SIGTERMException

    monkeypatch.setattr(LocalizerModule, function, leave)
    assert wsol("train", "trainer.max_epochs=1", "run_dir=run") == 143
    assert not Path("run/results.json").exists()


def test_only_the_first_process_of_a_run_prints_the_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(app, "run_job", raise_terminated)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["train"]) == 143
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert main(["train"]) == 143
    assert capsys.readouterr().err.startswith("wsol: terminated; ")


def raise_terminated(words: list[str]) -> int:
    """Stand for a verb that SIGTERM ends."""
    raise Terminated


@pytest.mark.parametrize("name", SIGNALS)
def test_other_verbs_end_with_the_code_too_and_do_not_recommend_a_key_they_lack(
    wsol, finished_run: Path, capsys, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(LocalizerModule, "test_step", before(LocalizerModule.test_step, name))
    assert wsol("eval", f"run={finished_run}", "out=out", "trainer.accelerator=cpu") == SIGNALS[name]
    said = capsys.readouterr().err
    assert "give the same command again" in said.splitlines()[-1]
    assert "resume" not in said
    assert not Path("out/results.json").exists()


def test_every_verb_says_how_to_go_on_and_only_those_with_the_key_name_resume() -> None:
    for name, verb in app.VERBS.items():
        said = app._remains(name.split())
        assert "give the same command" in said
        assert ("resume=true" in said) == verb.resumes
        if verb.config is not None:
            fields = app_fields(verb.config)
            assert ("resume" in fields) == verb.resumes


def app_fields(config: str) -> set[str]:
    from wsol.config import schema

    return set(schema.VERBS[config].__dataclass_fields__)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_a_whole_multirun(wsol, capsys, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(LocalizerModule, "training_step", before(LocalizerModule.training_step, name))
    assert wsol("train", "-m", "seed=0,1,2") == SIGNALS[name]
    assert len(list(Path("runs").rglob("config.yaml"))) == 1
    assert "finished jobs are kept; give the same command with resume=true to continue" in capsys.readouterr().err


def test_a_failing_job_stops_no_other(wsol) -> None:
    assert wsol("train", "-m", "topk=[1],[900]", "trainer.max_epochs=1") == 2
    assert len(list(Path("runs").rglob("results.json"))) == 1


class Requeue(EpochLines):
    """Stands for SLURM, which ends a job and puts it into the queue again, in the middle of the second epoch."""

    def on_train_batch_end(self, trainer, *rest) -> None:
        super().on_train_batch_end(trainer, *rest)
        if trainer.global_step == 5:
            send("SIGUSR1")
            send("SIGTERM")


def slurm(folder: str, requeue: bool) -> None:
    """Be the only task of a SLURM job."""
    numbers = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID")
    ones = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_JOB_NUM_NODES", "SLURM_NNODES", "SLURM_STEP_NUM_TASKS")
    os.environ.update({**dict.fromkeys(numbers, "0"), **dict.fromkeys(ones, "1")})
    os.environ.update({"SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "wsol", "SLURM_NODELIST": "localhost"})
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    if requeue:
        wsol.engine.training.EpochLines = Requeue


def test_a_requeued_slurm_job_goes_on_by_the_same_command(tmp_path: Path, data_dir: Path, finished_run: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "$@" > requeued\n')
    scontrol.chmod(0o755)
    words = ["train", *SMALL_RUN, f"data_dir={data_dir}", "run_dir=run", "resume=true", "trainer=slurm"]
    code, said = processes.run(tmp_path, words, slurm, str(tmp_path), True)
    assert code == 143, said
    assert (tmp_path / "requeued").read_text() == "requeue 4242\n"
    assert not list((tmp_path / "run").glob("hpc_ckpt*"))
    code, said = processes.run(tmp_path, words, slurm, str(tmp_path), False)
    assert code == 0, said
    assert "after step 5" in said
    expected = weights(finished_run)
    assert all(torch.equal(value, expected[key]) for key, value in weights(tmp_path / "run").items())
    assert json.loads((tmp_path / "run" / "results.json").read_text())["epochs"] == 2


def test_sigterm_in_a_forked_process_only_ends_that() -> None:
    with failures.sigterm_raises():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        with pytest.raises(Terminated):
            send("SIGTERM")


def test_what_is_an_interruption() -> None:
    assert interruption(SystemExit(2)) is None
    assert interruption(ValueError()) is None
    assert isinstance(interruption(SIGTERMException()), Terminated)
    leaving = SystemExit(1)
    leaving.__context__ = KeyboardInterrupt()
    assert interruption(leaving) is leaving.__context__


def test_the_exit_codes_are_in_the_help(capsys) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for code in (0, 1, 2, 130, 143):
        assert f"  {code} " in said


@pytest.mark.parametrize(("name", "code"), SIGNALS.items())
def test_an_error_in_the_course_of_an_interruption_is_one(
    name: str, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """Hydra, interrupted while it composes, may fail when it cleans up."""

    def composed(*arguments):
        try:
            send(name)
        finally:
            try:
                raise AttributeError("'NoneType' object has no attribute '_flags'")
            except AttributeError as error:
                raise ConfigAttributeError(str(error)) from None

    monkeypatch.setattr("wsol.config.compose._composed", composed)
    assert main(["convert", "weights=x.pth"]) == code
    assert len(capfd.readouterr().err.splitlines()) == 1
