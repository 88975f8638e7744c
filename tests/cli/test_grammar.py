"""One grammar for all verbs: runs, keys, options, several jobs; `wsol show` and `wsol list`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from tests.tables.runs_made_up import make_run, recorded
from wsol.cli import main
from wsol.cli.app import parse
from wsol.cli.call import config_of
from wsol.cli.help import OPTIONS
from wsol.cli.multirun import single_calls
from wsol.cli.verbs import VERBS
from wsol.config import schema


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        make_run(Path("runs") / name / "a", {**recorded(["experiment=demo"]), "name": name})
    return tmp_path


# -- help --------------------------------------------------------------------------------------------------------------


def test_the_first_page_has_nine_verbs_and_the_others_below(capsys) -> None:
    assert main(["--help"]) == 0
    first, _, more = capsys.readouterr().out.partition("more verbs:")
    assert len(re.findall(r"^  \w+ {2,}\w", first, re.M)) == 9
    assert all(re.search(rf"^  {name} ", first if verb.is_first else more, re.M) for name, verb in VERBS.items())
    assert main(["features", "-h"]) == 0
    assert re.findall(r"^  wsol features (\w+)", capsys.readouterr().out, re.M) == ["svm", "units", "concept"]


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_has_keys_before_groups(name: str, capsys) -> None:
    assert main([*name.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert VERBS[name].example in said
    assert OPTIONS in said
    for key, field in schema.keys(VERBS[name].config).items():
        if "help" in field.metadata:
            assert f"\n  {key}=" in said
    groups = said.partition("groups (GROUP=CHOICE):")[0]
    assert "keys (KEY=VALUE):" in groups
    assert main(["help", *name.split()]) == 0
    assert capsys.readouterr().out == said


# -- words and options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_the_same_options(name: str, place: Path, capsys) -> None:
    Path("mine").mkdir()
    out, has_force = VERBS[name].out, "force" in schema.keys(VERBS[name].config)
    words = [*name.split(), "--config-dir", "mine", "--cfg", "-m", *(["data=cub"] if out == "data.root" else [])]
    given = [*(["--out", "new (1), a"] if out else []), *(["--force"] if has_force else [])]
    assert main([*words, *given]) == 0
    config = OmegaConf.create(yaml.safe_load(capsys.readouterr().out))
    assert not out or OmegaConf.select(config, out) == "new (1), a"
    assert not has_force or config.force is True
    for option, is_known in ((["--out", "x"], out), (["--force"], has_force)):
        if not is_known:
            assert main([*words, *option]) == 2
            assert f"has no {option[0]}" in capsys.readouterr().err


def test_runs_are_named_alike_in_every_verb_that_takes_them(place: Path) -> None:
    for name, verb in VERBS.items():
        if verb.takes is None or not verb.takes.runs:
            continue
        before = ["demo"] if name == "table" else []
        config = config_of(parse([*name.split(), *before, "two"]))
        found = config[verb.takes.runs[0]]
        assert found in ("runs/two/a", ["runs/two/a"]), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "onee"], "no run of that name in runs; did you mean"),
        (["eval", "one", "two"], "'two' is one word too many; usage: wsol eval RUN [KEY=VALUE ...]; several runs: -m"),
        (["eval", "one", "run=two"], "run is given twice"),
        (["eval", "one", "--epochs", "3"], "unknown option '--epochs'"),
        (["eval", "one", "spilt=val"], "no config key 'spilt'; did you mean 'split'"),
        (["data", "verify", "cub"], "'cub' is one word too many"),
        (["data", "check"], "unknown verb of `wsol data` 'check'"),
        (["data"], "`wsol data` is a family of verbs; expected one of `wsol data prepare`, `wsol data verify`"),
        (["evall"], "did you mean 'eval'"),
        (["show"], "which runs?"),
        (["show", "nowhere/x"], "nowhere/x: no such folder"),
        (["list", "--force"], "has no --force"),
        (["table", "demo", "fromat=json"], "no config key 'fromat'"),
        (["train", "--out"], "requires an argument"),
    ],
)
def test_bad_input_is_one_message(words: list[str], message: str, place: Path, capsys) -> None:
    assert main(words) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "loading PyTorch" not in line]
    assert len(said) == 1
    assert message in said[0]


def test_a_folder_with_an_equals_sign_is_a_run(place: Path) -> None:
    shutil.copytree("runs/one/a", "runs/lr=0.1, wd=(0)")
    assert config_of(parse(["eval", "runs/lr=0.1, wd=(0)", "split=val"])).run == "runs/lr=0.1, wd=(0)"


# -- several jobs ------------------------------------------------------------------------------------------------------


def test_a_multirun_takes_what_a_single_run_takes(place: Path) -> None:
    words = ["eval", "-m", "one", "two", "protocol=all,cam2016", "transform=shorter", "out=a (1)"]
    calls = single_calls(parse(words))
    assert len(calls) == 4
    configs = [config_of(call) for call in calls]
    assert [config.run for config in configs] == ["runs/one/a"] * 2 + ["runs/two/a"] * 2
    assert len(configs[0].protocol) >= 10
    assert list(configs[1].protocol) == ["cam2016"]
    assert {config.out for config in configs} == {"a (1)"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=cam,acoll"], "did you mean 'acol'"),
        (["seed=0,x"], "seed"),
        (["seed=0,1", "bakbone=tiny"], "did you mean 'backbone'"),
        (["hydra/sweeper=ax", "seed=0,1"], "wsol sweep searches"),
    ],
)
def test_a_job_that_cannot_be_stops_a_multirun_before_it_begins(
    words: list[str], message: str, place: Path, capsys
) -> None:
    assert main(["train", "-m", "runs_dir=new", *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert not Path("new").exists()


# -- show and list -----------------------------------------------------------------------------------------------------


def test_show_prints_what_the_run_printed(wsol, capsys, finished_run: Path) -> None:
    words = [
        str(finished_run),
        "num_workers=0",
        "trainer.accelerator=cpu",
        "protocol=cam2016",
        "--out",
        "evaluated (1)",
    ]
    assert wsol("eval", *words) == 0
    printed = capsys.readouterr().out
    assert "GT-known" in printed
    assert wsol("show", "evaluated (1)") == 0
    assert capsys.readouterr().out == printed
    assert wsol("show", str(finished_run), "evaluated (1)", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == json.loads((finished_run / "results.json").read_text())
    assert list(second["classification"]) == ["val", "test"]


def test_show_says_why_there_is_nothing_to_show(place: Path, capsys) -> None:
    Path("runs/one/a/results.json").unlink()
    assert main(["show", "one"]) == 2
    assert "the run is not finished" in capsys.readouterr().err
    Path("runs/two/a/results.json").write_text("{")
    assert main(["show", "two"]) == 2
    assert "results.json: corrupt" in capsys.readouterr().err


def test_list_has_a_line_for_each_run(place: Path, capsys) -> None:
    Path("runs/one/a/results.json").unlink()
    assert main(["list"]) == 0
    header, first, second, _ = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["name", "time", "method", "backbone", "data"]
    assert {first.split()[0], second.split()[0]} == {"one", "two"}
    assert ("not finished" in first) == first.startswith("one")
    assert main(["list", "tw*", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["folder"], found["results"]["classification"]) == ("two", "runs/two/a", 25.0)
    assert main(["list", "three"]) == 0
    assert "no runs that match three in runs" in capsys.readouterr().out


# -- few classes -------------------------------------------------------------------------------------------------------


def test_top_5_of_four_classes_is_left_out_with_a_note(wsol, capsys) -> None:
    assert wsol("train", "data.num_classes=4", "trainer.max_epochs=1", "run_dir=out", "protocol=cam2016") == 0
    assert "top-5 is left out: there are 4 classes" in capsys.readouterr().err
    results = json.loads(Path("out/results.json").read_text())
    assert list(results["classification"]["test"]) == ["top1_error"]
    capsys.readouterr()
    assert wsol("eval", "out", "topk=[1,3,9]", "num_workers=0", "trainer.accelerator=cpu", "out=again") == 0
    assert capsys.readouterr().err.count("top-9 is left out") == 1
