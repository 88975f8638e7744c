"""Every experiment: what its first lines say, that it composes and builds, and what it promises to reproduce.

A newcomer is tested by its file being there; networks are built on torch's meta device, without memory or weights.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from wsol.config import build
from wsol.config.compose import compose
from wsol.engine import optim
from wsol.tables.layout import find_layout, read_layout

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "experiment"
EXPERIMENTS = {file.relative_to(FOLDER).with_suffix("").as_posix(): file for file in sorted(FOLDER.rglob("*.yaml"))}
NUMBERS = ROOT / "wsol" / "tables" / "numbers.yaml"
PAPER_ROWS = [name for name in EXPERIMENTS if name.split("/")[0] in ("cub", "ilsvrc")]
CHOE = [name for name in EXPERIMENTS if name.startswith("choe2020/")]
METHODS = {"cam": "CAM", "has": "HaS", "acol": "ACoL", "spg": "SPG", "adl": "ADL", "cutmix": "CutMix"}
NETWORKS = ("vgg16", "inception_v3", "resnet50")
COLUMNS = {"cub": "cub", "ilsvrc": "imagenet", "openimages": "openimages"}
BUDGETS = {"cub": (50, [14, 29, 44]), "ilsvrc": (10, [2, 5, 8]), "openimages": (10, [2, 5, 8])}
PLACES = {
    "vgg16": ["conv4_3", "conv5_3", "pool3"],
    "inception_v3": ["Mixed_5d", "Mixed_6e", "extra2"],
    "resnet50": ["layer3.0", "layer4.0", "layer4.2"],
}


def comments(name: str) -> list[str]:
    """The comment lines before the first key, without their marks."""
    lines = EXPERIMENTS[name].read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").strip() for line in lines[:end]]


def said(name: str, key: str) -> list[str]:
    """What the lines ``key:`` say, with the lines that go on with them."""
    text = "\n".join(comments(name)).replace("\n[", " [")
    return re.findall(rf"(?m)^{key}: +(.*)$", text)


@pytest.fixture(scope="module")
def composed() -> dict[str, DictConfig]:
    return {name: compose("train", [f"experiment={name}"]) for name in EXPERIMENTS}


@pytest.fixture(scope="module")
def numbers() -> dict:
    if not NUMBERS.is_file():
        pytest.skip("no published numbers in the package")
    return yaml.safe_load(NUMBERS.read_text(encoding="utf-8"))


def at(numbers: dict, path: str) -> list[float]:
    """The values at a path such as ``acol2018.unverified.VGGnet-ACoL.cub_classification_error``, those there are."""
    node = numbers
    for key in path.split("."):
        node = node[key]
    return [value for value in (node if isinstance(node, list) else [node]) if value is not None]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_first_lines_say_what_it_is(name: str) -> None:
    lines = comments(name)
    assert lines[0] == "@package _global_"
    assert lines[1].endswith(".")
    (command,) = said(name, "command")
    assert re.match(rf"wsol train experiment={re.escape(name)}( |$)", command)
    (hours,) = said(name, "hours")
    assert re.match(r"about (a minute|[\d.]+)", hours)
    assert said(name, "published")
    assert "measured:" in "\n".join(lines)


def test_every_experiment_composes_under_a_name_of_its_own(composed: dict[str, DictConfig]) -> None:
    names = [config.name for config in composed.values()]
    assert None not in names
    assert len(set(names)) == len(names)
    for config in composed.values():
        assert config.monitor is None or config.monitor.startswith("val/")
        build.build_protocols(config)


@pytest.mark.parametrize("table", ["sota-cub", "sota-ilsvrc"])
def test_the_experiments_of_a_table_evaluate_by_the_protocols_of_its_columns(
    table: str, composed: dict[str, DictConfig]
) -> None:
    cells = [cell for cell in read_layout(find_layout(table)).cells if cell.experiment]
    assert cells
    for cell in cells:
        assert cell.column.protocol in composed[cell.experiment].protocol, cell.experiment


def test_networks_and_optimizers_build(composed: dict[str, DictConfig]) -> None:
    built = {}
    for name, config in composed.items():
        config = config.copy()
        config.backbone.weights = None
        parts = OmegaConf.to_container(OmegaConf.masked_copy(config, ["backbone", "method"]), resolve=True)
        if (key := yaml.safe_dump(parts)) not in built:
            with torch.device("cpu" if "name" in config.backbone else "meta"):  # timm models are tried on an image
                built[key] = build.build_localizer(config, tuple("abcdefgh"))
        for number, node in enumerate(config.method.batch_transforms):
            build.instantiate(node, f"method.batch_transforms[{number}]")
        make = build.instantiate(config.optim.optimizer, "optim.optimizer")
        base = make.keywords["lr"]
        groups = optim.optimizer_groups(built[key].parameter_groups(), config.optim.groups, base, 5e-4)
        rates = {group["name"]: group["lr"] / base for group in groups}
        if name in CHOE:
            layer4_alone = name.endswith(("acol_resnet50", "spg_resnet50"))
            assert rates["backbone"] == pytest.approx(1)
            assert rates["head"] == rates["head.bias"] == pytest.approx(1 if layer4_alone else 10)
            assert ("backbone.layer4" in rates) == name.endswith("resnet50")
            assert rates.get("backbone.layer4", 10) == pytest.approx(10)
        if name.split("/")[-1].startswith("acol") and name in PAPER_ROWS:
            expected = {"backbone": 1, "backbone.bias": 2, "backbone.norm": 1, "head": 10, "head.bias": 20}
            assert rates == pytest.approx({key: expected[key] for key in rates})
            assert rates.keys() >= expected.keys() - {"backbone.norm"}
            assert config.choices.transform == "ten_crop"
            assert not config.transform.train.square
            assert not config.transform.eval.square
        if name.split("/")[-1].startswith(("cam", "gmp")) and name in PAPER_ROWS:
            assert {rates["backbone"], rates["head"]} == {1.0}
            assert {rates["backbone.bias"], rates["head.bias"]} == {2.0}
            decays = {group["name"]: group["weight_decay"] for group in groups}
            assert {decays["backbone"], decays["head"]} == {5e-4}
            assert {decays["backbone.bias"], decays["head.bias"]} == {0.0}
            assert not make.keywords["nesterov"]
            assert config.choices.transform == "ten_crop_square"
            assert config.transform.train.square
            assert config.transform.eval.square


def test_all_of_choe_et_al_are_there() -> None:
    assert sorted(CHOE) == sorted(f"choe2020/{d}/{m}_{n}" for d in COLUMNS for m in METHODS for n in NETWORKS)


@pytest.mark.parametrize("name", CHOE)
def test_choe_et_al_share_a_recipe(name: str, composed: dict[str, DictConfig]) -> None:
    config = composed[name]
    _, data, row = name.split("/")
    method, network = row.split("_", 1)
    assert config.name == f"choe2020-{data}-{method}-{network}"
    assert config.choices.data == {"openimages": "openimages"}.get(data, f"{data}_lists")
    assert config.choices.transform == "square"
    assert config.choices.method.split("/")[0] in (method, f"{method}_conv")
    assert config.choices.backbone.removesuffix("_acol") == network
    assert config.backbone.weights == "IMAGENET1K_V1"
    assert config.monitor is None
    assert (config.trainer.max_epochs, list(config.schedule.epochs)) == BUDGETS[data]
    assert config.loader.batch_size == 32
    assert config.optim.optimizer.nesterov
    assert config.optim.optimizer.weight_decay == (1e-4 if network == "resnet50" else 5e-4)
    assert config.backbone.get("preprocessing", {}).get("size") == (224 if network == "inception_v3" else None)
    if method == "adl":
        assert sorted(config.method.edits) == PLACES[network]
        options = {tuple(OmegaConf.to_container(edit, resolve=True).values()) for edit in config.method.edits.values()}
        assert len(options) == 1
    elif method in ("has", "cutmix"):
        assert len(config.method.batch_transforms) == 1
    if network == "vgg16" and method not in ("acol", "spg"):
        assert config.method.head.conv_channels == 1024
    if network == "inception_v3":
        assert config.backbone.extra_convs == (0 if method in ("acol", "spg") else 2)
        assert config.method.head.dropout == (0.0 if method in ("acol", "adl") else 0.5)


@pytest.mark.parametrize("name", CHOE)
def test_published_values_of_choe_et_al(name: str, numbers: dict) -> None:
    _, data, row = name.split("/")
    method, network = row.split("_", 1)
    table, column = numbers["choe2020"], f"{COLUMNS[data]}-{network}"
    position = table["columns"].index(column)
    value = table["CAM"][position]
    if method != "cam":
        value += table["difference_to_CAM"][METHODS[method]][position]
    (line,) = said(name, "published")
    assert line.startswith(f"{'PxAP' if data == 'openimages' else 'MaxBoxAccV2'} {value:.1f} %")
    assert line.endswith(f"[choe2020, {column}; {table['provenance']}]")


@pytest.mark.parametrize("name", PAPER_ROWS)
def test_published_values_of_paper_rows(name: str, numbers: dict) -> None:
    for line in said(name, "published"):
        found = re.search(r"\[(\S+); (\w+)\]$", line)
        assert found, line
        path, provenance = found.groups()
        assert provenance == ("unverified" if ".unverified." in path else numbers[path.split(".")[0]]["provenance"])
        stated = [
            float(value) for value in re.findall(r"(\d+\.\d+)[,\s]", line.partition("[")[0].replace("IoU 0.5", ""))
        ]
        assert stated == at(numbers, path)
