"""Verbs on a disk that is full, or may only be read."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.test_convert import cam_state
from tests.conftest import SMALL_RUN
from tests.data import layouts
from wsol.cli import failures, main
from wsol.errors import InputError
from wsol.interop.image_file import write_png

QUICK = ["num_workers=0", "device=cpu"]
SIZE = 1024 * 1024


class Disk:
    """A small disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave(self, size: int) -> None:
        """Fill the disk, all but ``size`` bytes."""
        (self.folder / "filler").write_bytes(bytes(SIZE - size))

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)]
    try:
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a disk")
    except OSError:
        pytest.skip("no disk can be mounted here")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Words:
    """Command lines that write to a place."""

    def __init__(self, run: Path, data_dir: Path, folder: Path, out: Path) -> None:
        self.root, self.run, self.folder, self.out = run, f"run={run}", folder, out
        self.data = f"data_dir={data_dir}"

    def train(self) -> list[str]:
        return ["train", *SMALL_RUN, self.data, f"runs_dir={self.out}"]

    def eval(self) -> list[str]:
        return ["eval", self.run, f"out={self.out / 'e'}", "save_maps=true", "num_workers=0", "trainer.accelerator=cpu"]

    def predict(self) -> list[str]:
        photos = layouts.make_cub(self.folder / "cub") / "images"
        return ["predict", self.run, f"images={photos}/*/*.jpg", f"out={self.out / 'p'}", "device=cpu"]

    def score(self) -> list[str]:
        quick = ["num_workers=0", "trainer.accelerator=cpu", "protocol=cam2016"]
        assert main(["eval", self.run, f"out={self.folder / 'e'}", "save_maps=true", *quick]) == 0
        return ["score", f"maps={self.folder / 'e'}", f"out={self.out / 's'}", self.data, "protocol=cam2016"]

    def export_safetensors(self) -> list[str]:
        return ["export", self.run, "format=safetensors", f"out={self.out / 'a.safetensors'}"]

    def export_onnx(self) -> list[str]:
        return ["export", self.run, "format=onnx", f"out={self.out / 'a.onnx'}"]

    def convert(self) -> list[str]:
        torch.save({"state_dict": cam_state(8)}, self.folder / "peer.pth.tar")
        return ["convert", f"weights={self.folder / 'peer.pth.tar'}", f"out={self.out / 'c'}"]

    def sweep(self) -> list[str]:
        return ["sweep", *SMALL_RUN, self.data, "sweep.trials=1", f"sweep.folder={self.out / 'sweep'}"]

    def table(self) -> list[str]:
        return ["table", "creatures", f"runs_dir={self.root.parent}", "--out", str(self.out / "table.md")]

    def report(self) -> list[str]:
        return ["report", str(self.root), f"out={self.out / 'report'}", self.data]

    def svm(self) -> list[str]:
        return ["features", "svm", self.run, f"out={self.out / 'svm'}", *QUICK]

    def units(self) -> list[str]:
        return ["features", "units", self.run, f"out={self.out / 'units'}", *QUICK]

    def concept(self) -> list[str]:
        photos = layouts.make_cub(self.folder / "cub") / "images"
        one, two, _ = sorted(path for path in photos.iterdir() if path.is_dir())
        return [
            "features",
            "concept",
            self.run,
            f"positives={one}",
            f"negatives={two}",
            f"out={self.out / 'c'}",
            *QUICK,
        ]

    def data_prepare(self) -> list[str]:
        source = layouts.make_cub(self.folder / "made")
        archive = layouts.pack_tar(source, self.folder / "CUB_200_2011.tgz", "CUB_200_2011/")
        return ["data", "prepare", "data=cub", f"archive={archive}", f"data.root={self.out / 'cub'}"]

    def creatures(self) -> list[str]:
        return ["train", *SMALL_RUN, f"data_dir={self.out}", f"runs_dir={self.folder / 'runs'}"]


LEFT = {
    "train": 16384,
    "eval": 16384,
    "predict": 16384,
    "svm": 4096,
    "units": 4096,
    "concept": 4096,
    "score": 4096,
    "data_prepare": 16384,
}
"""Bytes that are free where a verb is to begin writing."""


@pytest.mark.parametrize("verb", [name for name in vars(Words) if not name.startswith("_")])
def test_every_verb_says_one_line_about_a_full_disk(
    verb: str, disk: Disk, finished_run: Path, data_dir: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    words = getattr(Words(finished_run, data_dir, tmp_path, disk.folder), verb)()
    disk.leave(LEFT.get(verb, 0))
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("wsol: error: ")
    assert str(disk.folder) in last or verb == "sweep", last
    assert "No space left on device; free some space and give the same command again" in last
    for file in disk.folder.rglob("*"):
        assert file.name not in ("results.json", "a.onnx", "a.safetensors", "table.md", "report.html"), file
        assert file.suffix != ".ckpt", file


def test_a_training_goes_on_when_there_is_space_again(disk: Disk, data_dir: Path, tmp_path: Path, capsys) -> None:
    words = ["train", *SMALL_RUN, f"data_dir={data_dir}"]
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    size = (tmp_path / "whole" / "checkpoints" / "last.ckpt").stat().st_size
    disk.leave(size * 5 // 2 + 20_000)
    capsys.readouterr()
    run = disk.folder / "run"
    assert main([*words, f"run_dir={run}", "resume=true"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device; free some space and give the same command again" in last
    assert last.endswith("run keeps checkpoints/last.ckpt and checkpoints/best.ckpt")
    disk.remount(f"size={8 * SIZE}")
    assert main([*words, f"run_dir={run}", "resume=true"]) == 0
    assert "after step 3" in capsys.readouterr().err
    found, whole = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (run, tmp_path / "whole")
    )
    assert all(torch.equal(value, whole[key]) for key, value in found.items())


def test_a_disk_that_may_only_be_read(disk: Disk, data_dir: Path, capsys) -> None:
    disk.remount("ro")
    assert main(["train", *SMALL_RUN, f"data_dir={data_dir}", f"runs_dir={disk.folder}"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"wsol: error: {disk.folder}")
    assert last.endswith("Read-only file system; choose a folder that can be written")


def test_folders_that_cannot_be_made(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    words = ["train", *SMALL_RUN, f"data_dir={data_dir}"]
    (tmp_path / "file").touch()
    for folder, reason in (("x" * 300, "File name too long; choose a shorter name"), ("file", "Not a directory")):
        assert main([*words, f"runs_dir={tmp_path / folder}"]) == 2
        assert reason in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setenv(failures.TRACEBACK_VARIABLE, "1")
    with pytest.raises(OSError, match="file"):
        main([*words, f"runs_dir={tmp_path / 'file'}"])


def chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "x", "a/b"), "a/b: No space left on device; free some space"),
        (OSError(errno.EDQUOT, "x", "a/b"), "a/b: Disk quota exceeded; free some space"),
        (OSError("3000 requested and 2000 written"), "No space left on device; free some space"),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/3"), "No space left on device; "),
        (chained(InputError("a/b: cannot be written (None)"), OSError("3 requested and 2 written")), "a/b: No space"),
        (chained(RuntimeError("x"), OSError(errno.ENOSPC, "x", "a/b")), "a/b: No space left on device"),
        (PermissionError(errno.EACCES, "x", "a/b"), "a/b: Permission denied; choose another folder"),
        (FileNotFoundError(errno.ENOENT, "x", "a/b"), "a/b: No such file or directory; check the path"),
        (OSError(errno.EMFILE, "x"), "Too many open files; raise the limit"),
        (InputError("a: expected b"), "a: expected b"),
    ],
)
def test_errors_of_the_disk_in_words(error: BaseException, message: str) -> None:
    explained = failures.explain(error)
    assert explained is not None
    assert explained[0].startswith(message)
    assert explained[1] == 2


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("a bug"), OSError("no number"), ConnectionResetError()])
def test_other_errors_keep_their_traces(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures.explain(error) is None
    monkeypatch.setattr("wsol.cli.app._dispatch", lambda words: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        main(["train"])


def test_a_picture_is_whole_or_not_there(disk: Disk) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    disk.leave(4096)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        write_png(disk.folder / "a.png", pixels)
    assert caught.value.filename == str(disk.folder / "a.png")
    assert [file.name for file in disk.folder.iterdir()] == ["filler"]
