import ast
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import wsol.functional
from wsol.functional.box_engine import compiled as engine
from wsol.functional.box_engine.compiled import Scratch, compiled

FILES = sorted(Path(wsol.functional.__file__).parent.rglob("*.py"))

BEST = """
import logging
import numpy as np
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
from wsol.functional.boxes import Spans, box_spans, fine_levels
spans = Spans(np.zeros((2, 4), np.int64), np.array([0, 1]), np.array([2, 1]))
print(spans.best(np.array([0.3, 0.5]), 3).tolist())
"""

COUNTED = """
from numba.core import event
done = []
class Count(event.Listener):
    def on_start(self, event):
        done.append(event.data["dispatcher"].py_func.__qualname__ + str(event.data["args"]))
    def on_end(self, event):
        pass
event.register("numba:compile", Count())
"""
"""The functions that are compiled from here on, and not found on disk."""

EVERYTHING = """
from wsol.functional.iou import best_iou
from wsol.functional.pixels import score_histograms
levels = fine_levels(np.eye(6) / 2)
print(box_spans(levels, np.arange(8), "all_contours").boxes[0].tolist())
print(best_iou(np.array([[0.0, 0, 1, 1]]), np.array([[0.0, 0, 1, 0]]), True).tolist())
print(score_histograms(np.array([[0.0, 0.5, 0.9, 1.0]]), np.array([[0, 1, 255, 1]], np.uint8), 2).tolist())
"""


def python(code: str, **environment: str) -> tuple[str, str]:
    """What a new process prints and says."""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environment}, check=True)
    return done.stdout, done.stderr


def test_compiling_is_announced_once_and_kept(tmp_path: Path) -> None:
    for announced in (1, 0):
        out, log = python(BEST, NUMBA_CACHE_DIR=str(tmp_path))
        assert out == "[0.3, 0.5, 0.3]\n"
        assert log.count("INFO compiling") == announced
    assert list(tmp_path.rglob("*.nbc"))


def test_processes_that_start_at_once_compile_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNTED + BEST + "print(*done, sep='\\n')"]
    options = {"stdout": subprocess.PIPE, "text": True, "env": {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}}
    started = [subprocess.Popen(command, **options) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].splitlines() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert [lines[0] for lines in said] == ["[0.3, 0.5, 0.3]"] * 2
    names = [line for lines in said for line in lines[1:] if line]
    assert names
    assert len(names) == len(set(names)), "compiled twice"


def test_without_a_folder_to_write_to() -> None:
    namespace: dict = {"compiled": compiled}
    exec(compile("@compiled\ndef twice(x):\n    return 2 * x", "/nowhere/at/all.py", "exec"), namespace)
    assert namespace["twice"](21) == 42


def test_without_numba() -> None:
    out, log = python("import sys; sys.modules['numba'] = None" + BEST + EVERYTHING)
    assert out.splitlines() == ["[0.3, 0.5, 0.3]", "[0, 0, 6, 6]", "[0.5]", "[[1, 0, 0], [0, 1, 1]]"]
    assert log.count("WARNING numba can't be imported") == 1


def test_each_thread_has_arrays_of_its_own() -> None:
    scratch, seen = Scratch(), []
    mine = scratch.take("a", np.int64, 4)
    thread = threading.Thread(target=lambda: seen.append(scratch.take("a", np.int64, 4)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, seen[0])
    assert np.shares_memory(mine, scratch.take("a", np.int64, 3))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_compiled_functions_use_what_is_in_their_file_or_beside_the_cache(path: Path) -> None:
    """The cache does not notice changes elsewhere than in the function's file and the folder of compiled code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    foreign = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("wsol")
        and not (node.module or "").startswith("wsol.functional.box_engine.")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            used = {name.id for part in node.body for name in ast.walk(part) if isinstance(name, ast.Name)}
            own = {name.id for word in node.decorator_list for name in ast.walk(word) if isinstance(name, ast.Name)}
            if own & {"compiled", "inlined"}:
                assert not used & foreign, f"{path.name}: {node.name} uses {used & foreign}"


@pytest.fixture
def code(tmp_path: Path):
    """A cache of machine code in an empty folder, and the path of a signature's file."""
    if not engine.AVAILABLE:
        pytest.skip("numba can't be imported")
    return engine._SignatureFiles(str(tmp_path / "f.py311"))


def test_processes_that_compile_different_signatures_at_once_keep_both(code, tmp_path: Path) -> None:
    """The cache of numba gives both the same file, so that each runs the other's code."""
    other = engine._SignatureFiles(code._stem)
    assert code.load("Literal[int](0)") is other.load("int64") is None
    code.save("Literal[int](0)", "code of 0")
    other.save("int64", "code of any")
    for cache in (code, other):
        assert (cache.load("Literal[int](0)"), cache.load("int64")) == ("code of 0", "code of any")
    os.replace(code._file("int64"), code._file("Literal[int](0)"))
    assert code.load("Literal[int](0)") is None


def test_machine_code_of_other_sources_is_not_read(code, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that names a class which is gone, as after an update of the package."""
    code.save("int64", "code")
    gone = b"cwsol.functional.box_engine.padded_map\nGone\n."
    code._file("int64").write_bytes(pickle.dumps(f"{engine.numba.__version__} other sources") + gone)
    assert code.load("int64") is None
    code._file("int64").write_bytes(pickle.dumps(code._version) + gone)
    with pytest.raises(AttributeError, match="Gone"):
        code.load("int64")


def test_damaged_or_unwritable_machine_code_is_compiled_again(code, tmp_path: Path) -> None:
    code.save("int64", "code")
    whole = code._file("int64").read_bytes()
    for length in range(len(whole)):
        code._file("int64").write_bytes(whole[:length])
        assert code.load("int64") is None
    code.save("int64", "code again")
    assert code.load("int64") == "code again"
    engine._SignatureFiles(str(tmp_path / "nowhere" / "f.py311")).save("int64", "code")


def test_nobody_waits_forever_for_another_process_that_compiles(tmp_path: Path, monkeypatch) -> None:
    if engine.fcntl is None:
        pytest.skip("no locks here")
    monkeypatch.setattr(engine, "PATIENCE", 0.2)
    with (tmp_path / "lock").open("w") as held, (tmp_path / "lock").open("w") as wanted:
        engine._lock(held)
        engine._lock(wanted)
        with pytest.raises(BlockingIOError):
            engine.fcntl.flock(wanted, engine.fcntl.LOCK_EX | engine.fcntl.LOCK_NB)
