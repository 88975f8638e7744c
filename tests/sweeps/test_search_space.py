"""The space of a sweep: draws, overrides, and what is refused."""

from __future__ import annotations

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from wsol.config.compose import compose, groups, override
from wsol.errors import InputError
from wsol.sweeps.hyperparameter_search import search
from wsol.sweeps.search_space import check_group_choices, read_space


def plain(settings) -> dict:
    return OmegaConf.to_container(settings)


@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e3), st.integers(0, 2**31), st.sampled_from(["log", "range"]))
def test_draws_lie_within_their_ends(low: float, factor: float, seed: int, kind: str) -> None:
    (dimension,) = read_space({"a.b": {kind: [low, low * factor]}})
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask({"a.b": dimension.distribution})
    key, _, value = dimension.override(trial.params["a.b"]).partition("=")
    assert key == "a.b"
    assert low <= float(value) <= low * factor


def test_log_ranges_are_even_in_the_logarithm_and_ranges_in_the_number() -> None:
    space = read_space({"log": {"log": [1e-4, 1.0]}, "even": {"range": [0.0, 1.0]}, "whole": {"range": [1, 3]}})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    trials = [made.ask({each.key: each.distribution for each in space}) for _ in range(400)]
    drawn = [[float(each.override(trial.params[each.key]).partition("=")[2]) for each in space] for trial in trials]
    log, even, whole = zip(*drawn, strict=True)
    assert sum(value < 1e-2 for value in log) / 400 == pytest.approx(0.5, abs=0.1)
    assert sum(value < 0.5 for value in even) / 400 == pytest.approx(0.5, abs=0.1)
    assert set(whole) == {1.0, 2.0, 3.0}


@pytest.mark.parametrize(
    ("node", "drawn", "word"),
    [
        ({"choice": ["cam", "gmp"]}, "gmp", "k=gmp"),
        ({"choice": [[0.5], None, True]}, "null", "k=null"),
        ({"choice": [[0.5, 2], None, True]}, "[0.5, 2]", "k=[0.5,2]"),
        ({"choice": ["my drive (1)", "a,b"]}, "my drive (1)", "k='my drive (1)'"),
        ({"choice": ["null", "a"]}, "null", "k='null'"),
        ({"choice": [3, "a"], "as": "[{}, {}]"}, "3", "k=[3, 3]"),
        ({"range": [4, 9]}, 7, "k=7"),
        ({"range": [0.0, 1.0], "as": "[{}]"}, 0.25, "k=[0.25]"),
        ({"range": [0.0, 1.0], "as": "{a: {}}"}, 0.25, "k={a: 0.25}"),
        ({"log": [1e-5, 1.0]}, 2e-5, "k=2e-05"),
    ],
)
def test_a_draw_becomes_an_override(node: dict, drawn, word: str) -> None:
    (dimension,) = read_space({"k": node})
    assert dimension.override(drawn) == word


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3),
)


@given(VALUES)
def test_an_override_arrives_as_it_is(value) -> None:
    parsed = OverridesParser.create().parse_override(override("data.root", value)).value()
    assert OmegaConf.to_container(OmegaConf.create({"a": parsed, "b": 3}), resolve=True)["a"] == value


@pytest.mark.parametrize(
    "text", ["my drive (1)", "a=b,c", "[x]", "{x}", "ü/鳥", "it's \\", 'say "x"', "$a", "${b}", "\\${b}", " "]
)
def test_any_path_arrives_as_it_is(text: str) -> None:
    parsed = OverridesParser.create().parse_override(override("run_dir", text)).value()
    assert OmegaConf.create({"a": parsed, "b": 3}).a == text


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "sweep.space is empty"),
        ({"a": 3}, "sweep.space.a: expected one of choice, range or log"),
        ({"a": {"rnage": [0, 1]}}, "did you mean 'range'"),
        ({"a": {"log": [0.0, 1.0]}}, "sweep.space.a: expected 0 < lowest < highest"),
        ({"a": {"log": [1, float("inf")]}}, "sweep.space.a: expected two finite numbers"),
        ({"a": {"range": [float("nan"), 1.0]}}, "sweep.space.a: expected two finite numbers"),
        ({"a": {"range": [0, 10**30]}}, "sweep.space.a: expected two finite numbers of no more than 16 digits"),
        ({"a": {"range": [1.0, 1.0]}}, "sweep.space.a: expected lowest < highest"),
        ({"a": {"range": [2.0, 1.0]}}, "sweep.space.a: expected lowest < highest"),
        ({"a": {"range": [True, 2]}}, "sweep.space.a: expected two numbers"),
        ({"a": {"range": [1, 2, 3]}}, "sweep.space.a: expected two numbers"),
        ({"a": {"choice": []}}, "sweep.space.a: expected a list of values for choice"),
        ({"a": {"choice": "cam"}}, "sweep.space.a: expected a list of values for choice"),
        ({"a": {"choice": [{"b": 1}]}}, "sweep.space.a: expected names, numbers"),
        ({"a": {"choice": [[{"b": 1}]]}}, "sweep.space.a: expected names, numbers"),
        ({"a": {"choice": [float("nan")]}}, "sweep.space.a: expected names, numbers"),
        ({"a": {"choice": [1, 2, 1]}}, "sweep.space.a: 1 occurs twice"),
        ({"a": {"choice": [1], "as": "x"}}, "must contain {}"),
        ({1: {"choice": [1]}}, "sweep.space.1: expected the name of a key"),
        ({"a": {"choice": [1]}, "+a": {"choice": [1]}}, "sweep.space.+a: the key occurs twice"),
    ],
)
def test_a_faulty_space_is_refused(space: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_space(space)
    assert message in str(caught.value)


def test_a_choice_that_its_group_does_not_have_is_refused() -> None:
    known = {"method": {"cam": "", "gmp": ""}, "protocol": {"choe2020": ""}}
    check_group_choices(
        read_space({"method": {"choice": ["cam"]}, "protocol": {"choice": [["choe2020"], "all"]}}), known
    )
    with pytest.raises(InputError, match=r"sweep\.space\.method: no choice 'gmpp'; did you mean 'gmp'"):
        check_group_choices(read_space({"method": {"choice": ["cam", "gmpp"]}}), known)


@pytest.mark.parametrize("choice", sorted(groups()["sweep"]))
def test_every_ready_sweep_composes_and_says_what_it_is(choice: str) -> None:
    assert groups()["sweep"][choice]
    settings = compose("sweep", [f"sweep={choice}"]).sweep
    assert read_space(plain(settings)["space"])
    assert settings.metric.startswith("val/")


METHODS = ("cam", "has", "acol", "spg", "adl", "cutmix")
CHOE = {method: "choe2020" if method == "cam" else f"choe2020_{method}" for method in METHODS}
MURTAZA = {m: "murtaza2025" if m == "cam" else f"murtaza2025_{m}" for m in ("cam", "has", "acol", "adl")}
EXPERIMENTS = {
    **{choice: f"choe2020/cub/{method}_vgg16" for method, choice in (*CHOE.items(), *MURTAZA.items())},
    "murtaza2025_ilsvrc": "choe2020/ilsvrc/cam_vgg16",
}


@pytest.mark.parametrize("choice", EXPERIMENTS)
def test_the_30_draw_protocols_fit_their_experiments(choice: str) -> None:
    """30 draws chosen on val, test once; every key of the space exists in the method's experiment."""
    settings = compose("sweep", [f"sweep={choice}"]).sweep
    assert (settings.trials, settings.sampler, settings.test) == (30, "random", True)
    space = read_space(plain(settings)["space"])
    for end in (0, -1):
        words = [each.override_of(each.values[end]) for each in space]
        config = compose("train", [f"experiment={EXPERIMENTS[choice]}", *settings.overrides, *words])
        assert settings.metric.split("/")[1] in config.protocol


def test_the_protocol_without_human_boxes_chooses_by_pseudo_boxes() -> None:
    """The ranges of Murtaza et al.'s repository; their boxes must be named."""
    settings = compose("sweep", ["sweep=murtaza2025"]).sweep
    assert settings.metric == "val/choe2020/pseudo/gt_known_error"
    rate = {"log": [1e-5, 1.0]}
    assert plain(settings)["space"] == {
        "optim.optimizer.lr": rate,
        "optim.optimizer.weight_decay": rate,
        "schedule.gamma": rate,
        "schedule.every_epochs": {"range": [5, 45]},
    }
    with pytest.raises(InputError, match="pseudo_boxes is not set: add pseudo_boxes="):
        search(["experiment=choe2020/cub/cam_vgg16"], sweep="murtaza2025")
