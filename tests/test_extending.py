"""Each section of docs/extending.md is followed to the letter in an empty folder; so are its promises about names."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from tests.conftest import SMALL_RUN
from tests.pages import ROOT, blocks, commands
from wsol.cli import main
from wsol.config.compose import compose, groups
from wsol.config.foreign import rule
from wsol.config.plugins import plugins
from wsol.errors import InputError

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (An? \w+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
SMALL = [*(word for word in SMALL_RUN if "epochs" not in word), "trainer.max_epochs=1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; what is imported from it is forgotten afterwards."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]
    sys.path_importer_cache.pop(str(folder), None)


def write(text: str, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    return path


def write_files(section: str) -> None:
    for block in blocks(SECTIONS[section]):
        if block.title:
            write(block.text, block.title)


def test_the_page_has_a_section_for_each_part() -> None:
    parts = ["A backbone", "A head", "A method", "A dataset", "An explainer", "A callback", "A metric", "A protocol"]
    assert list(SECTIONS) == parts


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_runs_from_top_to_bottom(section: str, place: Path, data_dir: Path, capsys) -> None:
    """Files are written where their titles say; shell lines and Python run in order, on small generated data."""
    own_data = "data=tools"
    done = 0
    for block in blocks(SECTIONS[section]):
        if block.title:
            write(block.text, block.title)
        elif block.language == "python":
            sys.path.append(str(place))  # as a script in this folder has it
            exec(compile(block.text, "docs/extending.md", "exec"), {})
            for value in re.findall(r"print\(.*\)  # (.*)", block.text):
                assert capsys.readouterr().out.strip() == value
            done += 1
        for command in commands(block.text) if block.language == "bash" else ():
            words = shlex.split(command)[1:]
            if words[0] == "train":
                small = [word for word in SMALL if own_data not in words or not word.startswith("data.")]
                words += [*small, *([] if own_data in words else [f"data_dir={data_dir}"])]
            assert main([*words, *(["trainer.accelerator=cpu"] if words[0] == "eval" else [])]) == 0, command
            done += 1
    assert done


# -- configs of one's own ----------------------------------------------------------------------------------------------


def own_tiny(folder: Path, width: int = 8) -> str:
    """The config folder with a backbone that is called as a shipped one."""
    write(f"# Mine.\n_target_: wsol.backbones.tiny.Tiny\nwidths: [{width}, 8, 8, 8]\n", folder / "backbone/tiny.yaml")
    return str(folder)


def test_an_own_config_stands_before_the_shipped_one_of_its_name(place: Path) -> None:
    mine, other = own_tiny(place / "mine"), own_tiny(place / "other", 16)
    assert compose("train", [], [mine]).backbone.widths == [8, 8, 8, 8]
    assert compose("train", ["backbone=tiny"], [other, mine]).backbone.widths == [16, 8, 8, 8]
    assert groups([mine])["backbone"]["tiny"] == "Mine."
    assert compose("train", []).backbone.widths == [16, 32, 64, 64]


@pytest.mark.parametrize("entry", ["file://{}", "{}", "'file://{}'"])
def test_hydras_search_path_is_known(entry: str, place: Path, capsys) -> None:
    write("# Mine.\n_target_: wsol.backbones.tiny.Tiny\n", "my configs/backbone/mine.yaml")
    write("# Mine.\n_target_: wsol.backbones.tiny.Tiny\n", "my_configs/backbone/mine.yaml")
    folder = place / ("my configs" if "'" in entry else "my_configs")
    word = f"hydra.searchpath=[{entry.format(folder)}]"
    assert compose("train", ["backbone=mine", word]).choices.backbone == "mine"
    assert main(["train", "backbone=mine", word, "--cfg"]) == 0
    assert main(["train", word, "--help"]) == 0
    assert re.search(r"^    mine +Mine\.$", capsys.readouterr().out, re.M)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("hydra.searchpath=[file:///nowhere]", "/nowhere: no such folder"),
        ("hydra.searchpath=[pkg://no.such]", "pkg://no.such: no such package"),
        ("hydra.searchpath=[s3://bucket]", "s3://bucket: expected file://<folder>"),
        ("hydra.searchpath=[", "no such folder"),
    ],
)
def test_a_wrong_search_path_is_one_clear_error(word: str, message: str, place: Path, capsys) -> None:
    assert main(["train", word, "--cfg"]) == 2
    assert message in capsys.readouterr().err


def test_several_jobs_take_the_own_config_too(place: Path, data_dir: Path) -> None:
    own_tiny(place / "mine")
    words = ["--config-dir", "mine", "-m", "seed=0,1", f"data_dir={data_dir}", "trainer.limit_train_batches=1"]
    assert main(["train", *words, "run_dir=out/${seed}", *SMALL]) == 0
    for seed in (0, 1):
        recorded = yaml.safe_load(Path(f"out/{seed}/config.yaml").read_text())
        assert recorded["backbone"]["widths"] == [8, 8, 8, 8]


@pytest.mark.parametrize(
    ("file", "text", "words", "message"),
    [
        ("backbone/mine.yaml", "width: 3\n", ["backbone=mine"], "no _target_; set it to a class"),
        ("backbone/mine.yaml", "_target_: nowhere.Net\n", ["backbone=mine"], "_target_=nowhere.Net: no such package"),
        ("data/mine.yaml", "_target_: wsol.data.datasets.cub.Cub\n", ["data=mine"], "has no 'Cub'"),
        ("method/mine.yaml", "head: {cells: 3}\n", ["method=mine"], "no head._target_; set it to a class"),
        ("explainer/mine.yaml", "_target_: 3\n", ["explainer=mine"], "_target_=3: expected a dotted Python name"),
        (
            "protocol/mine.yaml",
            "_target_: wsol.protocols.LocalizationProtocol\n",
            ["protocol=[mine]"],
            "`# @package protocol.mine`",
        ),
        (
            "callbacks/mine.yaml",
            "_target_: pytorch_lightning.callbacks.Timer\n",
            ["callbacks=[mine]"],
            "`# @package callbacks.mine`",
        ),
        (
            "data/mine.yaml",
            "defaults: [{/transform@_global_.transform: small}, _self_]\n",
            ["data=mine"],
            "write `override /transform@_global_.transform: small`",
        ),
    ],
)
def test_a_wrong_own_config_names_its_file(file: str, text: str, words: list[str], message: str, place: Path) -> None:
    path = write(text, place / "mine" / file)
    with pytest.raises(InputError) as caught:
        compose("eval" if file.startswith("explainer") else "train", words, ["mine"])
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("verb", ["train", "eval", "score", "svm", "units", "convert", "kit", "data_verify"])
def test_a_dataset_needs_to_name_no_transform(verb: str, place: Path) -> None:
    write("_target_: wsol.data.datasets.cub.CUB\nroot: x\n", "mine/data/mine.yaml")
    write("defaults: [override /transform@_global_.transform: small, _self_]\n_target_: a\n", "mine/data/small.yaml")
    assert compose(verb, ["data=mine"], ["mine"]).transform.train.square is True
    assert compose(verb, ["data=mine", "transform=small"], ["mine"]).transform.train.padding == 4
    assert compose(verb, ["data=creatures"], ["mine"]).transform.train.padding == 4
    assert compose(verb, ["data=creatures", "transform=square"], ["mine"]).transform.train.square is True


def test_what_a_plugin_of_hydra_adds_to_the_search_path_is_known(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    class Elsewhere(SearchPathPlugin):
        def manipulate_search_path(self, search_path) -> None:
            search_path.append("elsewhere", "pkg://my_package.hydra_configs")

    write("# Mine.\n_target_: wsol.backbones.tiny.Tiny\n", "my_package/hydra_configs/backbone/mine.yaml")
    write("", "my_package/__init__.py")
    monkeypatch.syspath_prepend(place)
    known = Plugins.instance()
    monkeypatch.setattr(known, "plugin_type_to_subclass_list", {**known.plugin_type_to_subclass_list})
    known.plugin_type_to_subclass_list[SearchPathPlugin] = [*known.discover(SearchPathPlugin), Elsewhere]
    assert groups()["backbone"]["mine"] == "Mine."
    assert compose("train", ["backbone=mine"]).choices.backbone == "mine"
    assert main(["train", "--help"]) == 0
    assert re.search(r"^ +mine +Mine\.$", capsys.readouterr().out, re.M)


# -- plug-ins ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a backbone and its config, installed as a distribution that says it is a plug-in."""
    site = tmp_path / "site"
    write_files("A backbone")
    shutil.move("my_package", site / "my_package")
    shutil.move("my_configs", site / "my_package" / "configs")
    write("", site / "my_package" / "__init__.py")
    write("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n", site / "my_plugin-1.0.dist-info" / "METADATA")
    write("[wsol.plugins]\nmine = my_package\n", site / "my_plugin-1.0.dist-info" / "entry_points.txt")
    monkeypatch.syspath_prepend(str(site))
    return site


def test_a_plugin_is_found_listed_and_trusted(installed: Path, data_dir: Path, capsys) -> None:
    assert [plugin.package for plugin in plugins()] == ["my_package"]
    assert groups()["backbone"]["mine"] == "Three convolutions."
    assert main(["--help"]) == 0
    assert "plug-ins: my-plugin (my_package)" in capsys.readouterr().out
    assert main(["train", "backbone=mine", "run_dir=run", f"data_dir={data_dir}", *SMALL]) == 0
    assert main(["eval", "run=run", "trainer.accelerator=cpu", "out=again"]) == 0  # without trust=true
    assert json.loads(Path("again/results.json").read_text())["localization"]


def test_a_missing_point_offers_the_backbones_of_plugins_too(installed: Path, data_dir: Path, capsys) -> None:
    words = ["backbone=resnet18", "method=tscam", f"data_dir={data_dir}", *SMALL, "run_dir=run"]
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert "Choose a backbone that has it (backbone=" in error
    assert "mine" not in error.partition("(backbone=")[2]


def test_without_the_plugin_its_checkpoint_is_refused(installed: Path, data_dir: Path, capsys) -> None:
    assert main(["train", "backbone=mine", "run_dir=run", f"data_dir={data_dir}", *SMALL]) == 0
    (installed / "my_plugin-1.0.dist-info" / "entry_points.txt").write_text("")
    plugins.__globals__["_found_on"].cache_clear()
    assert main(["eval", "run=run", "trainer.accelerator=cpu"]) == 2
    assert "trust=true" in capsys.readouterr().err


def test_a_plugin_is_held_to_the_rules_of_a_place(installed: Path) -> None:
    assert rule("my_package.backbone.Mine", "backbone", {}).__name__ == "Mine"
    for name, where in (
        ("my_package.backbone.Mine", "method.head"),
        ("my_package.backbone.nn.Module", "backbone"),
        ("my_packages.backbone.Mine", "backbone"),
    ):
        with pytest.raises(InputError, match="a checkpoint may only name"):
            rule(name, where, {})


def test_own_configs_stand_before_those_of_plugins(installed: Path, place: Path) -> None:
    own_tiny(installed / "my_package" / "configs", 16)
    assert compose("train", []).backbone.widths == [16, 8, 8, 8]
    assert compose("train", [], [own_tiny(place / "mine")]).backbone.widths == [8, 8, 8, 8]


def test_a_distribution_in_the_working_directory_is_no_plugin(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(installed)
    assert plugins() == ()


def test_a_plugin_without_its_package_is_one_clear_error(installed: Path, capsys) -> None:
    (installed / "my_package").rename(installed / "gone")
    importlib.invalidate_caches()
    assert main(["train", "--cfg"]) == 2
    assert "the plug-in my-plugin names the package my_package" in capsys.readouterr().err
