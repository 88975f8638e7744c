"""Every choice of every group composes, says what it is, and names real targets with real arguments."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
from omegaconf import OmegaConf

from wsol.config import build
from wsol.config.compose import compose, groups
from wsol.errors import InputError

NOT_OF_TRAIN = ("table", "sweep", "explainer", "model")
"""Groups of other verbs, which have tests of their own."""
CHOICES = [(group, choice) for group, choices in groups().items() if group not in NOT_OF_TRAIN for choice in choices]


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=[f"{group}={choice}" for group, choice in CHOICES])
def test_every_choice_composes_and_fits_what_it_names(group: str, choice: str) -> None:
    assert groups()[group][choice], f"configs/{group}/{choice}.yaml needs a first comment line that says what it is"
    config = compose("train", [f"{group}={choice}"])
    if OmegaConf.is_missing(config.data, "root"):
        config.data.root = "anywhere"
    for key in ("data", "backbone", "schedule"):
        build.maker(config[key], key)
    build.check(OmegaConf.to_container(config.method, resolve=True), "method", trust=True)
    build.check(OmegaConf.to_container(config.loader, resolve=True), "loader", trust=True)
    assert build.build_protocols(config)


def test_resolved_configs_are_plain(tmp_path) -> None:
    config = compose("train", [])
    file = tmp_path / "config.yaml"
    file.write_text(OmegaConf.to_yaml(config, resolve=True))
    assert OmegaConf.to_container(OmegaConf.load(file)) == OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize(
    "words",
    [["backbone.options={drop_path_rate: 0.1}"], ["backbone.options.drop_path_rate=0.1"]],
    ids=["mapping", "key"],
)
def test_an_empty_mapping_takes_any_key(words: list[str]) -> None:
    assert compose("train", ["backbone=timm", *words]).backbone.options == {"drop_path_rate": 0.1}


def test_other_mappings_refuse_unknown_keys() -> None:
    with pytest.raises(InputError, match=r"no config key 'backbone.option.depth'; did you mean 'backbone.options'"):
        compose("train", ["backbone=timm", "backbone.option.depth=3"])


@pytest.mark.parametrize("choice", groups()["callbacks"])
def test_every_callback_is_one(choice: str) -> None:
    (callback,) = build.build_callbacks(compose("train", [f"callbacks=[{choice}]"]), ["val/top1_error"])
    assert isinstance(callback, pl.Callback)


def test_a_config_takes_variables_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/scratch/data")
    assert compose("train", ["data_dir='${oc.env:DATA}'"]).data_dir == "/scratch/data"
    assert compose("train", ["data_dir=${oc.env:DATA}"]).data_dir == "/scratch/data"
