from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from wsol.engine import optim
from wsol.errors import InputError


def rates(schedule, steps: int = 50, **settings) -> list[float]:
    """The learning rate at each of ``steps`` steps, five to an epoch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, steps, 5, **settings)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_step_multiplies_every_so_many_epochs() -> None:
    seen = rates(optim.step, every_epochs=4, gamma=0.1)
    assert seen[:20] == [1.0] * 20
    assert seen[20:40] == pytest.approx([0.1] * 20)
    assert seen[40:] == pytest.approx([0.01] * 10)


def test_milestones_multiply_at_their_epochs() -> None:
    seen = rates(optim.milestones, epochs=[2, 3], gamma=0.5)
    assert seen[9] == 1.0
    assert seen[10] == 0.5
    assert seen[15] == 0.25


def test_polynomial_and_cosine_fall_from_one_to_almost_zero() -> None:
    for seen in (rates(optim.polynomial, power=2.0), rates(optim.cosine)):
        assert seen[0] == 1.0
        assert seen[-1] < 0.01
        assert seen == sorted(seen, reverse=True)
    assert rates(optim.polynomial, power=2.0)[25] == pytest.approx(0.25)
    assert rates(optim.cosine)[25] == pytest.approx(0.5)


def test_one_cycle_rises_to_one_and_falls() -> None:
    seen = rates(optim.one_cycle, steps=100, rise=0.25, start=0.1, end=0.001)
    assert seen[0] == pytest.approx(0.1)
    assert max(seen) == pytest.approx(1.0)
    assert seen.index(max(seen)) == 25
    assert seen[-1] == pytest.approx(0.001, abs=2e-3)


def test_warm_up_is_linear() -> None:
    seen = rates(optim.constant, warmup_epochs=2)
    assert seen[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert seen[10:] == [1.0] * 40


@pytest.mark.parametrize(
    ("schedule", "settings"), [(optim.step, {"every_epochs": 0, "gamma": 0.1}), (optim.one_cycle, {"rise": 1.0})]
)
def test_impossible_settings_are_refused(schedule, settings) -> None:
    with pytest.raises(InputError, match="schedule"):
        rates(schedule, **settings)


def test_groups_have_their_own_rates_and_decays() -> None:
    parameters = {name: list(nn.Linear(2, 2).named_parameters()) for name in ("backbone", "head")}
    factors = {"backbone": {"bias_lr": 2.0, "bias_weight_decay": 0.0}, "head": {"lr": 10.0, "bias_lr": 20.0}}
    groups = optim.optimizer_groups(parameters, factors, lr=0.1, weight_decay=0.01)
    assert {g["name"]: (pytest.approx(g["lr"]), g["weight_decay"]) for g in groups} == {
        "backbone": (0.1, 0.01),
        "backbone.bias": (0.2, 0.0),
        "head": (1.0, 0.01),
        "head.bias": (2.0, 0.01),
    }


def test_norms_learn_at_the_rate_of_weights_unless_they_have_their_own() -> None:
    layers = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    for given, expected in ({}, 10.0), ({"norm_lr": None}, 10.0), ({"norm_lr": 0.0}, 0.0):
        factors = {"head": {"lr": 10.0, **given}}
        groups = optim.optimizer_groups({"head": list(layers.named_parameters())}, factors, 1.0, 0.0)
        assert {group["name"]: group["lr"] for group in groups} == {"head": 10, "head.bias": 1, "head.norm": expected}


def test_unknown_group_or_factor_is_refused() -> None:
    parameters = {"head": list(nn.Linear(2, 2).named_parameters())}
    with pytest.raises(InputError, match="'heads': did you mean 'head'"):
        optim.optimizer_groups(parameters, {"heads": {}}, 0.1, 0.0)
    with pytest.raises(InputError, match="'bias_rl': did you mean 'bias_lr'"):
        optim.optimizer_groups(parameters, {"head": {"bias_rl": 1}}, 0.1, 0.0)


def test_schedules_reach_every_group() -> None:
    layer = nn.Linear(2, 2)
    groups = optim.optimizer_groups({"head": list(layer.named_parameters())}, {"head": {"bias_lr": 2.0}}, 1.0, 0.0)
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler = optim.cosine(optimizer, 4, 1)
    optimizer.step()
    scheduler.step()
    factor = (1 + math.cos(math.pi / 4)) / 2
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([factor, 2 * factor])


def test_a_part_of_a_group_has_its_own_factors() -> None:
    names = [
        "backbone.layer3.0.weight",
        "backbone.layer4.0.weight",
        "backbone.layer4.0.bias",
        "backbone.layer41.weight",
    ]
    members = {"backbone": [(name, nn.Parameter(torch.zeros(1, 1))) for name in names]}
    groups = optim.optimizer_groups(members, {"backbone": {"lr": 2.0}, "backbone.layer4": {"lr": 10.0}}, 1.0, 0.0)
    found = {group["name"]: ([id(p) for p in group["params"]], group["lr"]) for group in groups}
    ids = {name: id(parameter) for name, parameter in members["backbone"]}
    assert found == {
        "backbone": ([ids[names[0]], ids[names[3]]], 2.0),
        "backbone.layer4": ([ids[names[1]]], 10.0),
        "backbone.layer4.bias": ([ids[names[2]]], 1.0),
    }
    with pytest.raises(InputError, match=r"backbone\.layer5"):
        optim.optimizer_groups(members, {"backbone.layer5": {"lr": 10.0}}, 1.0, 0.0)


def test_adamw_decays_neither_vectors_nor_what_a_network_lists() -> None:
    from wsol.config import build
    from wsol.config.compose import compose

    words = ["backbone=timm", "backbone.name=vit_tiny_patch16_224", "backbone.options.img_size=32", "optim=adamw"]
    config = compose("train", words)
    model = build.build_localizer(config, ("a", "b"))
    listed = model.no_weight_decay()
    assert {name.rpartition(".")[2] for name in listed} >= {"pos_embed", "cls_token"}
    groups = optim.optimizer_groups(model.parameter_groups(), config.optim.groups, 1e-3, 0.05, listed)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        free = parameter.ndim <= 1 or name.endswith(("pos_embed", "cls_token"))
        assert decay[id(parameter)] == (0.0 if free else pytest.approx(0.05)), name
    assert len(decay) == len(list(model.parameters()))


def test_sat_decays_the_tokens_that_its_authors_decay() -> None:
    from wsol.config import build
    from wsol.config.compose import compose

    config = compose("train", ["experiment=cub/sat_deit_s", "backbone.weights=null"])
    with torch.device("meta"):
        model = build.build_localizer(config, ("a", "b"))
    groups = optim.optimizer_groups(model.parameter_groups(), config.optim.groups, 1e-4, 0.05, model.no_weight_decay())
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        is_token = name.endswith(("cls_token", "loc_token", "pos_embed", "loc_embed"))
        assert decay[id(parameter)] == (0.05 if parameter.ndim > 1 or is_token else 0.0), name


def test_sgd_decays_norms_as_the_papers_do() -> None:
    from wsol.config.compose import compose

    parameters = {"backbone": list(nn.BatchNorm2d(3).named_parameters()), "head": []}
    groups = optim.optimizer_groups(parameters, compose("train", []).optim.groups, 0.05, 5e-4)
    assert {group["name"]: group["weight_decay"] for group in groups} == {"backbone.norm": 5e-4, "backbone.bias": 5e-4}
