"""Output folders: whole or not there, and nothing of anybody else is touched."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import left_behind
from wsol.errors import InputError
from wsol.runs import MARKER, RUN_DIR_VARIABLE, OutputFolder, check_file


def write(out: Path | None, parent: Path, text: str = "new", *, force: bool = False, verb: str = "predict") -> Path:
    output = OutputFolder(verb, out, force)
    with output.writing(parent) as folder:
        (folder / "maps" / "deep").mkdir(parents=True)
        (folder / "maps" / "deep" / "a.npy").write_text(text)
        (folder / f"{text}.csv").write_text(text)
    return output.folder


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def of(text: str) -> dict[str, str]:
    return {"maps/deep/a.npy": text, f"{text}.csv": text}


@pytest.mark.parametrize("place", ["new", "deep/new", "empty", "."])
def test_a_folder_appears_whole_with_its_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Also the working directory, which must stay the same folder."""
    (tmp_path / "here" / "empty").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / ("empty" if place == "." else ""))
    same = os.stat(".").st_ino
    assert write(Path(place), tmp_path) == Path(place)
    assert tree(Path(place)) == of("new")
    marker = json.loads((Path(place) / MARKER).read_text())
    assert (marker["verb"], marker["finished"], marker["files"]) == ("predict", True, sorted(of("new")))
    assert os.stat(".").st_ino == same
    assert not list(tmp_path.rglob("*.partial-*"))


def test_new_folders_are_named_by_date_and_time(tmp_path: Path) -> None:
    folders = [write(None, tmp_path / "predict") for _ in range(3)]
    assert len(set(folders)) == 3
    assert sorted(folders) == sorted((tmp_path / "predict").iterdir())
    assert all(tree(folder) == of("new") for folder in folders)


def test_force_replaces_an_earlier_output_of_the_same_verb_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, tmp_path, "old")
    with pytest.raises(InputError, match="an earlier output of `wsol predict`; replace it with force=true"):
        OutputFolder("predict", out)
    with pytest.raises(InputError, match="not an earlier output of `wsol eval`"):
        OutputFolder("eval", out, force=True)
    assert tree(out) == of("old")
    write(out, tmp_path, "new", force=True)
    assert tree(out) == of("new")
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["notes.txt", "maps/mine.npy", "maps/deep/mine.npy", "mine/", "maps/mine/", "link"])
def test_what_the_user_added_is_named_and_stays(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    write(out, tmp_path, "old")
    if name == "link":
        (out / name).symlink_to(tmp_path)
    elif name.endswith("/"):
        (out / name).mkdir()
    else:
        (out / name).write_text("mine")
    before = tree(out)
    with pytest.raises(InputError, match=f"wrote it, but not {name.rstrip('/')}; move what is yours elsewhere"):
        OutputFolder("predict", out, force=True)
    assert tree(out) == before
    assert (out / name).exists()


@pytest.mark.parametrize("content", ["", "[]", '{"verb": "predict"}', '{"verb": "predict", "files": 5}', "\0"])
def test_a_marker_of_another_kind_gives_no_leave(tmp_path: Path, content: str) -> None:
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(InputError, match="is not an empty folder"):
        OutputFolder("predict", tmp_path, force=True)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(InputError, match="not a folder"):
            OutputFolder("predict", tmp_path / name, force=True)


def fail(kind: type[BaseException], *arguments: object) -> Callable[[], None]:
    def raising() -> None:
        raise kind(*arguments)

    return raising


@pytest.mark.parametrize("there", ["nothing", "empty", "old", "default"])
@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (fail(KeyboardInterrupt), KeyboardInterrupt),
        (fail(RuntimeError), RuntimeError),
        (fail(OSError, errno.ENOSPC, "No space left on device"), InputError),
        (fail(FileNotFoundError, errno.ENOENT, "No such file", "/elsewhere.jpg"), FileNotFoundError),
    ],
)
def test_a_failure_leaves_all_as_it_was(tmp_path: Path, there: str, failure: Callable, seen: type) -> None:
    out = None if there == "default" else tmp_path / "out"
    if there == "old":
        write(tmp_path / "out", tmp_path, "old")
    elif there == "empty":
        (tmp_path / "out").mkdir()
    before, listed = tree(tmp_path), sorted(tmp_path.rglob("*"))
    output = OutputFolder("predict", out, force=True)
    with pytest.raises(seen), output.writing(tmp_path / "predict") as folder:  # noqa: PT012
        (folder / "half.csv").write_text("half")
        failure()
    assert tree(tmp_path) == before
    assert sorted(tmp_path.rglob("*")) == listed
    assert tree(write(out, tmp_path / "predict", force=True)) == of("new")


@pytest.mark.parametrize(
    ("there", "when"),
    [
        *((there, "while it writes") for there in ("nothing", "empty", "old", "default")),
        *((there, "while it moves") for there in ("empty", "old")),
    ],
)
def test_a_killed_process_does_not_block_the_same_command(tmp_path: Path, there: str, when: str) -> None:
    """Killed while the old output is moved away and the new one is moved in: given again, it needs force no more."""
    out = None if there == "default" else tmp_path / "out"
    if there == "old":
        write(tmp_path / "out", tmp_path, "old")
    elif there == "empty":
        (tmp_path / "out").mkdir()
    if when == "while it moves":
        stop = 'os.rename = lambda a, b: os.kill(os.getpid(), 9) if str(b).endswith("out/new.csv") else real(a, b)'
    else:
        stop = "os.kill(os.getpid(), 9)"
    program = f"""
import os
from pathlib import Path
from wsol.runs.outputs import OutputFolder
real = os.rename
output = OutputFolder("predict", {str(out) if out else None!r}, True)
with output.writing(Path({str(tmp_path / "predict")!r})) as folder:
    (folder / "maps" / "deep").mkdir(parents=True)
    (folder / "maps" / "deep" / "a.npy").write_text("half")
    (folder / "new.csv").write_text("half")
    {stop}
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(tmp_path.rglob("*.partial-*"))
    if there == "old" and when == "while it writes":
        assert tree(tmp_path / "out").items() >= of("old").items()
        with pytest.raises(InputError, match="force=true"):
            OutputFolder("predict", out)
    folder = write(out, tmp_path / "predict", force=there == "old" and when == "while it writes")
    assert tree(folder) == of("new")
    assert not list(tmp_path.rglob("*.partial-*"))


def test_hidden_folders_of_killed_processes_are_no_content(tmp_path: Path) -> None:
    (left_behind(tmp_path / "out" / "output") / "maps").mkdir(parents=True)
    (left_behind(tmp_path / "out") / "maps").mkdir(parents=True)
    write(tmp_path / "out", tmp_path)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [MARKER, "maps", "new.csv"]


def test_two_commands_at_once_do_not_mix(tmp_path: Path) -> None:
    for there in (False, True):
        out = tmp_path / f"out{there}"
        if there:
            out.mkdir()
        first, second = OutputFolder("predict", out), OutputFolder("predict", out)
        with pytest.raises(InputError), first.writing(tmp_path) as folder:  # noqa: PT012
            (folder / "a.csv").write_text("first")
            os.rename(folder, aside := tmp_path / "aside")  # another process has another hidden name
            with second.writing(tmp_path) as other:
                (other / "a.csv").write_text("second")
            os.rename(aside, folder)
        assert tree(out) == {"a.csv": "second"}


def test_links_between_the_files_hold_under_the_final_name(tmp_path: Path) -> None:
    with OutputFolder("eval", tmp_path / "out").writing(tmp_path) as folder:
        (folder / "logs").mkdir()
        (folder / "results.json").write_text("{}")
        (folder / "logs" / "results.json").symlink_to(folder / "results.json")
    assert (tmp_path / "out" / "logs" / "results.json").read_text() == "{}"


def test_processes_that_lightning_starts_write_to_the_first_ones_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(RUN_DIR_VARIABLE, str(tmp_path / "hidden"))
    output = OutputFolder("eval", tmp_path)
    with output.writing(tmp_path) as folder:
        assert folder == output.folder == tmp_path / "hidden"
    assert os.listdir(tmp_path) == []


def test_a_message_names_the_folder_that_the_user_gave(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=f"^{tmp_path / 'out'}/maps: cannot be written"),
        OutputFolder("eval", tmp_path / "out").writing(tmp_path) as folder,
    ):
        raise InputError(f"{folder / 'maps'}: cannot be written")


def test_a_single_file_is_replaced_by_force_only(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("mine")
    check_file(tmp_path / "b.onnx", force=False)
    check_file(tmp_path / "a.onnx", force=True)
    with pytest.raises(InputError, match="replace it with force=true"):
        check_file(tmp_path / "a.onnx", force=False)
    with pytest.raises(InputError, match="is a folder"):
        check_file(tmp_path, force=True)
