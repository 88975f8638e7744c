"""Foreign, broken and hostile files below a folder of runs: passed over by name, or refused by name, never a trace."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.tables.runs_made_up import make_run
from wsol import runs
from wsol.cli import main
from wsol.errors import InputError
from wsol.runs.plain_yaml import MAX_BYTES
from wsol.runs.register import Register
from wsol.tables.collect import collect, matching

PLAIN: dict[str, Any] = {
    "name": "n",
    "seed": 0,
    "resume": True,
    "run_dir": None,
    "choices": {},
    "data": {"_target_": "x.Y", "root": "a"},
    "trainer": {"max_epochs": 1},
}
BOMB = "a: &a [x]\n" + "\n".join(
    f"{chr(i + 1)}: &{chr(i + 1)} [{', '.join([f'*{chr(i)}'] * 9)}]" for i in range(ord("a"), ord("j"))
)

CONFIGS: dict[str, bytes] = {
    "empty": b"",
    "only a comment": b"# nothing\n",
    "null": b"null\n",
    "a list": b"- 1\n- 2\n",
    "a scalar": b"seed\n",
    "a number": b"5\n",
    "two documents": b"seed: 0\n---\nseed: 1\n",
    "an interpolation": b"seed: 0\na: ${b}\n",
    "a resolver": b"seed: 0\na: ${oc.env:HOME}\n",
    "cut": b"seed: 0\ndata: [1, 2",
    "cut in a text": b'seed: 0\nname: "abc',
    "NUL": b"seed: 0\0\nname: a\n",
    "a tab": b"seed: 0\ndata:\n\t- 1\n",
    "a key twice": b"seed: 0\nseed: 1\n",
    "a key twice, below": b"seed: 0\ndata: {a: 1, a: 2}\n",
    "a python tag": b"seed: !!python/object/apply:os.system ['touch ran']\n",
    "an own tag": b"seed: !mine 1\n",
    "a standard tag": b"seed: !!int 1\n",
    "an anchor": b"seed: &a 0\n",
    "an alias": b"seed: &a 0\nb: *a\n",
    "an alias bomb": BOMB.encode(),
    "a merge key": b"seed: 0\n<<: {a: 1}\n",
    "brackets": b"a: " + b"[" * 100_000,
    "braces": b"a: " + b"{a: " * 100_000,
    "deep blocks": b"\n".join(b" " * i + b"a:" for i in range(500)),
    "a key that is a list": b"? [1]\n: 2\n",
    "too many digits": b"seed: " + b"1" * 5000 + b"\n",
    "latin-1": "name: café\n".encode("latin-1"),
    "UTF-16": "seed: 0\n".encode("utf-16"),
    "bytes": bytes(range(256)),
    "large": b"a: 1 # " + b"x" * MAX_BYTES,
    "another YAML": b"%YAML 9.0\n---\na: 1\n",
}

WRONG_KEYS: dict[str, Any] = {
    "seed": ["abc", [1], 1.5, True, {}],
    "data": [5, "x", []],
    "choices": ["x", [1]],
    "protocol": [5, [{}], {"cam2016": 5}],
    "loader": ["x"],
    "trainer": [[1]],
    "name": [5, {}],
    "data_dir": [[], 5],
    "image_size": ["big"],
}


def changed(path: str, value: Any) -> bytes:
    """Results in which one key holds something else."""
    content = copy.deepcopy(RESULTS)
    *above, last = path.split("/")
    node = content
    for key in above:
        node = node[int(key) if isinstance(node, list) else key]
    node[int(last) if isinstance(node, list) else last] = value
    return json.dumps(content).encode()


RESULTS: dict[str, Any] = {
    "name": "n",
    "seed": 0,
    "choices": {},
    "classification": {"test": {"top1_error": 25.0}},
    "localization": [
        {
            "split": "test",
            "maps": "localizer",
            "protocol": "cam2016",
            "threshold_origin": "fixed",
            "threshold": 0.2,
            "gt_known_error": 40.0,
            "images": 10,
            "intervals": {"gt_known_error": [30.0, 50.0]},
            "by_iou": [{"iou": 0.5, "threshold": 0.2, "gt_known_error": 40.0}],
        }
    ],
    "pixels": {"test": {"PxAP": 50.0}},
    "data": {"splits": {"test": {"images": 10, "fingerprint": "f"}}},
}
VALUES: dict[str, list[Any]] = {
    "localization": [None, "x", [5], [{}], {}],
    "localization/0/gt_known_error": ["x", [], -5.0, 1e308, float("nan"), float("inf"), True],
    "localization/0/split": [None, 5],
    "localization/0/protocol": [[], None],
    "localization/0/threshold_origin": [{}],
    "localization/0/threshold": ["x", [1]],
    "localization/0/images": ["x", -1],
    "localization/0/intervals": [5, [1, 2]],
    "localization/0/intervals/gt_known_error": [None, [1], ["a", "b"], [0.0, float("nan")]],
    "localization/0/by_iou": ["x", [5]],
    "classification": [None, [], 5],
    "classification/test": [None, [1]],
    "classification/test/top1_error": ["x", -1, 101],
    "pixels": [None, []],
    "pixels/test/PxAP": ["x"],
    "data": [None, [], "x"],
    "data/splits": [None, []],
    "data/splits/test": [5],
    "data/splits/test/fingerprint": [None, 5],
    "data/splits/test/images": [None, "x"],
    "classes": [5, [], {"name": 5}, {}],
    "choices": ["x", {"explainer": 5}],
    "checkpoint": ["x", {"file": 5}],
    "seed": ["abc", 1.5],
}
FILES: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"localization": [',
    "a list": b"[]",
    "a number": b"5",
    "foreign": b'{"a": 1}',
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000,
    "bytes": bytes(range(256)),
    "too many digits": b'{"a": ' + b"1" * 5000 + b"}",
    **{f"{path}={value!r}": changed(path, value) for path, values in VALUES.items() for value in values},
}


def wanted(top: Path, **changes: Any) -> Any:
    return OmegaConf.create({**PLAIN, "runs_dir": str(top), **changes})


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder with one good run, and one that is to be damaged."""
    for name in ("bad", "good"):
        make_run(tmp_path / "runs" / name, PLAIN)
        (tmp_path / "runs" / name / "results.json").write_text(json.dumps(RESULTS))
        time.sleep(0.01)
    return tmp_path / "runs"


def in_time(started: float) -> bool:
    return time.process_time() - started < 5


@pytest.mark.parametrize("how", CONFIGS)
def test_a_hostile_config_is_passed_over_and_refused_where_it_is_named(top: Path, how: str) -> None:
    file, started = top / "bad" / "config.yaml", time.process_time()
    file.write_bytes(CONFIGS[how])
    register = Register(top)
    assert [run.folder.name for run in collect(register)] == ["good"]
    assert str(file) in (register.note() or "")
    assert (register.note() or "").count("\n") == 0
    assert runs.open_folder(wanted(top)) == (top / "good", True)
    with pytest.raises(InputError, match=r"bad/config\.yaml: unreadable"):
        runs.read_config(top / "bad")
    with pytest.raises(InputError, match=r"bad/config\.yaml: unreadable"):
        runs.open_folder(wanted(top, run_dir=str(top / "bad")))
    assert in_time(started)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG_KEYS.items() for value in values], ids=str
)
def test_a_key_of_another_kind_is_named(top: Path, key: str, value: Any) -> None:
    (top / "bad" / "config.yaml").write_text(json.dumps({**PLAIN, key: value}))
    with pytest.raises(InputError, match=rf"bad/config\.yaml: {key}.*expected a"):
        runs.read_config(top / "bad")
    assert runs.open_folder(wanted(top, trainer={"max_epochs": 9}))[1] is False
    assert "good" in [run.folder.name for run in collect(top)]


@pytest.mark.parametrize("how", FILES)
def test_hostile_results_are_passed_over_and_refused_where_they_are_named(top: Path, how: str) -> None:
    file, started = top / "bad" / "results.json", time.process_time()
    file.write_bytes(FILES[how])
    register = Register(top)
    found = matching(collect(register), collect(top)[0].config)
    assert [run.folder.name for run in found.values()] == ["good"]
    assert [run.folder.name for run in collect(top) if run.is_readable] == ["good"]
    with pytest.raises(InputError, match=r"bad/results\.json: (corrupt|not what).*resume=true"):
        runs.read_results(file)
    assert in_time(started)


def test_what_the_cases_are_made_from_is_good(top: Path) -> None:
    assert runs.read_results(top / "good" / "results.json")["localization"] == RESULTS["localization"]
    assert [run.folder.name for run in collect(top)] == ["bad", "good"]


def test_a_table_over_such_runs_is_printed_with_one_note(top: Path, capsys) -> None:
    cases = [*CONFIGS.values()][:6]
    for number, content in enumerate(cases):
        folder = make_run(top / f"bad{number}", PLAIN)
        (folder / "config.yaml").write_bytes(content)
    assert main(["table", "cam2016-1", f"runs_dir={top}"]) == 0
    error = capsys.readouterr().err
    assert error.count("skipped") == 1
    assert "bad0/config.yaml: unreadable (the file is empty)" in error
    assert "and 1 more" in error
