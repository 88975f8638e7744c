"""Checkpoints on the disk: killed, cut, damaged, without space."""

from __future__ import annotations

import csv
import errno
import os
import signal
import stat
from pathlib import Path

import pytest
import torch

from tests import processes
from tests.conftest import SMALL_RUN
from wsol.config.compose import compose
from wsol.errors import InputError
from wsol.files import is_hidden
from wsol.runs import checkpoints
from wsol.runs.checkpoint_io import WholeCheckpointIO, remove_partial, resume_point
from wsol.types import Preprocessing

EPOCHS = "trainer.max_epochs=3"
WORDS = [EPOCHS, "run_dir=run", "resume=true"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_end(run: Path, whole: Path) -> None:
    found, expected = weights(run), weights(whole)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    columns = [[row["epoch"], row["step"], row["train/loss"]] for row in rows(run)]
    assert columns == [[row["epoch"], row["step"], row["train/loss"]] for row in rows(whole)]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    code, said = processes.run(folder, ["train", *SMALL_RUN, f"data_dir={data_dir}", *WORDS])
    assert code == 0, said
    return folder / "run"


def damage(name: str, number: int, what: str, temporary_files: str) -> None:
    """Let the save of a checkpoint stop half way, number ``number`` of those with this name."""
    os.environ["TMPDIR"] = temporary_files
    original, count = torch.save, [0]

    def save(content: dict, file, **how) -> None:
        original(content, file, **how)
        count[0] += f".{name}." in file.name
        if (f".{name}." in file.name, count[0]) == (True, number):
            file.flush()
            os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size // 2)
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    torch.save = save


@pytest.mark.parametrize(("name", "number"), [("best", 1), ("last", 1), ("last", 3)])
def test_killed_while_a_checkpoint_is_written_the_same_command_goes_on(
    tmp_path: Path, data_dir: Path, whole: Path, name: str, number: int, wsol
) -> None:
    shared = Path("/dev/shm")
    temporary = shared if shared.is_dir() and os.access(shared, os.W_OK) else tmp_path
    before = set(temporary.iterdir())
    words = ["train", *SMALL_RUN, f"data_dir={data_dir}", *WORDS]
    code, _ = processes.run(tmp_path, words, damage, name, number, "kill", str(temporary))
    assert code == -signal.SIGKILL
    assert not [file for file in set(temporary.iterdir()) - before if file.is_file() and file.stat().st_size > 10_000]
    kept = [file for file in (tmp_path / "run" / "checkpoints").glob("*.ckpt") if not is_hidden(file)]
    assert len(kept) == {("best", 1): 0, ("last", 1): 1, ("last", 3): 3}[name, number]
    for file in kept:
        checkpoints.read(file)
    assert list((tmp_path / "run" / "checkpoints").glob(".*partial*"))
    assert wsol("train", *WORDS) == 0
    assert_same_end(tmp_path / "run", whole)


def test_a_full_disk_stops_the_training_with_one_line_and_the_same_command_goes_on(
    tmp_path: Path, data_dir: Path, whole: Path, wsol
) -> None:
    words = ["train", *SMALL_RUN, f"data_dir={data_dir}", *WORDS]
    code, said = processes.run(tmp_path, words, damage, "last", 2, "full", str(tmp_path))
    assert code == 2
    last = said.splitlines()[-1]
    assert last.startswith("wsol: error: ")
    assert "run/checkpoints/last.ckpt: No space left on device; free some space and give the same command again" in last
    assert "Traceback" not in said
    assert {file.name for file in (tmp_path / "run" / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not (tmp_path / "run" / "results.json").exists()
    assert wsol("train", *WORDS) == 0
    assert_same_end(tmp_path / "run", whole)


@pytest.mark.parametrize("what", ["cut", "missing"])
def test_an_unreadable_last_checkpoint_is_said_and_the_previous_one_taken(
    tmp_path: Path, data_dir: Path, whole: Path, wsol, capsys, what: str
) -> None:
    words = ["train", *SMALL_RUN, f"data_dir={data_dir}", *WORDS]
    code, _ = processes.run(tmp_path, words, damage, "last", 3, "kill", str(tmp_path))
    assert code == -signal.SIGKILL
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    steps = [checkpoints.read(last.with_name(name))["global_step"] for name in ("previous.ckpt", "last.ckpt")]
    assert steps == [3, 6]
    if what == "missing":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:5000])
    assert wsol("train", *WORDS) == 0
    said = capsys.readouterr().err
    assert "resuming run after step 3" in said
    lines = [line for line in said.splitlines() if "continuing from the previous checkpoint" in line]
    assert len(lines) == (what != "missing")
    for line in lines:
        assert "run/checkpoints/last.ckpt: damaged: the archive is cut short; use another checkpoint" in line
        assert line.endswith("run/checkpoints/previous.ckpt, after step 3")
    assert_same_end(tmp_path / "run", whole)


def test_without_a_readable_checkpoint_it_says_so(tmp_path: Path) -> None:
    assert resume_point(tmp_path) is None
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("last.ckpt", "previous.ckpt"):
        (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"last\.ckpt: .*previous\.ckpt: .*no checkpoint is left to continue from"):
        resume_point(tmp_path)


def minimal(step: int) -> dict:
    header = checkpoints.header(compose("train", ["name=minimal"]), ("a", "b"), Preprocessing())
    return {"wsol": header, "state_dict": {"localizer.a": torch.zeros(1)}, "global_step": step}


@pytest.mark.parametrize("links", [True, False])
def test_the_last_two_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def link(*_) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", link)
    writer, last = WholeCheckpointIO(), tmp_path / "checkpoints" / "last.ckpt"
    for step in range(1, 5):
        writer.save_checkpoint(minimal(step), last)
        found = resume_point(tmp_path)
        assert found is not None
        assert (found.step, found.is_last) == (step, True)
    assert checkpoints.read(last.with_name("previous.ckpt"))["global_step"] == 3
    assert len(list(last.parent.iterdir())) == 2


def test_an_unreadable_last_one_never_replaces_the_previous_one(tmp_path: Path) -> None:
    writer, last = WholeCheckpointIO(), tmp_path / "checkpoints" / "last.ckpt"
    for step in (1, 2):
        writer.save_checkpoint(minimal(step), last)
    last.write_bytes(b"")
    point = resume_point(tmp_path)
    assert point is not None
    assert (point.file.name, point.step, point.is_last) == ("previous.ckpt", 1, False)
    writer = WholeCheckpointIO(keep_last=point.is_last)
    for step, previous in ((2, 1), (3, 2)):
        writer.save_checkpoint(minimal(step), last)
        assert checkpoints.read(last.with_name("previous.ckpt"))["global_step"] == previous


def test_what_killed_processes_left_is_removed_whatever_machine_they_ran_on(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (".last.ckpt.partial-elsewhere-12", ".best.ckpt.partial-node_7-3", ".mine.partial-a-1", "best.ckpt"):
        (folder / name).touch()
    remove_partial(tmp_path)
    assert {file.name for file in folder.iterdir()} == {".mine.partial-a-1", "best.ckpt"}


def test_what_lightning_would_save_for_a_requeue_is_left_to_the_last_checkpoint(tmp_path: Path) -> None:
    WholeCheckpointIO().save_checkpoint(minimal(5), tmp_path / "hpc_ckpt_1.ckpt")
    assert not list(tmp_path.iterdir())


def test_torch_errors_of_a_full_disk_are_errors_of_the_disk(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not (full.exists() and stat.S_ISCHR(full.stat().st_mode)):
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoints._save({"a": torch.zeros(100_000)}, full)
    assert caught.value.errno == errno.ENOSPC
