"""Optimizer parameter groups and learning-rate schedules.

The learning rate of a parameter is ``lr x group factor x schedule factor``: groups are `backbone` and `head`, each
split into weights, biases, and norms (ACoL's authors use ten times the learning rate for the head and twenty times for
its biases). Norms are all other vectors, such as the scale of a batch norm or a layer scale, and parameters that the
network lists: class tokens and position embeddings of timm's transformers. AdamW's config applies no decay to biases
and norms. A schedule is a factor that depends on the progress of training, stepped once per optimizer step.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from wsol.errors import InputError, unknown

FACTORS = ("lr", "weight_decay", "bias_lr", "bias_weight_decay", "norm_lr", "norm_weight_decay")


def optimizer_groups(
    parameters: Mapping[str, Sequence[tuple[str, nn.Parameter]]],
    factors: Mapping[str, Mapping[str, float | None]],
    lr: float,
    weight_decay: float,
    no_weight_decay: Collection[str] = (),
) -> list[dict]:
    """Return torch's parameter groups, for the weights, the biases and the norms of each named group.

    Args:
        parameters: group name -> named parameters, see `Localizer.parameter_groups`.
        factors: group name -> factors ``lr``, ``weight_decay``, ``bias_lr``, ``bias_weight_decay``, ``norm_lr`` and
            ``norm_weight_decay``; a missing one is 1, a missing or null ``norm_lr`` is ``lr``. A part of a group, such
            as ``backbone.layer4``, has its own: all parameters whose names begin so. One parameter, such as
            ``backbone.cls_token``, is a part, too.
        lr: base learning rate.
        weight_decay: base weight decay.
        no_weight_decay: names of parameters that count as norms, regardless of their shape.

    Raises:
        InputError: an unknown group or factor, or a part without parameters.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> groups = optimizer_groups({"head": list(layer.named_parameters())}, {"head": {"bias_lr": 2.0}}, 0.1, 0.0)
        >>> [(group["name"], group["lr"]) for group in groups]
        [('head', 0.1), ('head.bias', 0.2)]
    """
    groups = []
    for name, members in _parted(parameters, factors).items():
        given = factors.get(name, {})
        for key in given:
            if key not in FACTORS:
                raise unknown(f"factor of optim.groups.{name}", key, FACTORS)
        factor = dict.fromkeys(FACTORS, 1.0) | {key: value for key, value in given.items() if value is not None}
        if given.get("norm_lr") is None:
            factor["norm_lr"] = factor["lr"]
        kinds: dict[str, list[nn.Parameter]] = {"": [], ".bias": [], ".norm": []}
        for parameter_name, parameter in members:
            if parameter.requires_grad:
                kinds[_kind(parameter_name, parameter, no_weight_decay)].append(parameter)
        for kind, params in kinds.items():
            if params:
                rate = factor[{"": "lr", ".bias": "bias_lr", ".norm": "norm_lr"}[kind]]
                decay = factor[{"": "weight_decay", ".bias": "bias_weight_decay", ".norm": "norm_weight_decay"}[kind]]
                rates = {"lr": lr * rate, "weight_decay": weight_decay * decay}
                groups.append({"params": params, "name": f"{name}{kind}", **rates})
    return groups


def _kind(name: str, parameter: nn.Parameter, no_weight_decay: Collection[str]) -> str:
    """Return the kind of a parameter, as the suffix of its group's name."""
    if name.endswith("bias"):
        return ".bias"
    return ".norm" if parameter.ndim <= 1 or name in no_weight_decay else ""


def _parted(
    parameters: Mapping[str, Sequence[tuple[str, nn.Parameter]]], names: Iterable[str]
) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Return the groups, with the parameters in ``names`` as separate groups."""
    groups = {name: list(members) for name, members in parameters.items()}
    for part in (name for name in names if name not in parameters):
        inside = {n for members in groups.values() for n, _ in members if f"{n}.".startswith(f"{part}.")}
        if not inside:
            raise unknown("parameter group", part, parameters)
        taken = [member for members in groups.values() for member in members if member[0] in inside]
        groups = {name: [m for m in members if m[0] not in inside] for name, members in groups.items()}
        groups[part] = taken
    return groups


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 0.0) -> LambdaLR:
    """Keep the learning rate constant."""
    return _scheduler(optimizer, lambda step: 1.0, warmup_epochs * steps_per_epoch)


def step(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    every_epochs: float,
    gamma: float,
    warmup_epochs: float = 0.0,
) -> LambdaLR:
    """Multiply by ``gamma`` every ``every_epochs`` epochs."""
    period = _positive("schedule.every_epochs", every_epochs) * steps_per_epoch
    return _scheduler(optimizer, lambda step: gamma ** math.floor(step / period), warmup_epochs * steps_per_epoch)


def milestones(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    epochs: Sequence[float],
    gamma: float,
    warmup_epochs: float = 0.0,
) -> LambdaLR:
    """Multiply by ``gamma`` at each of ``epochs``."""
    steps = sorted(epoch * steps_per_epoch for epoch in epochs)
    return _scheduler(
        optimizer, lambda step: gamma ** bisect.bisect_right(steps, step), warmup_epochs * steps_per_epoch
    )


def polynomial(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, power: float = 1.0, warmup_epochs: float = 0.0
) -> LambdaLR:
    """``(1 - step / total_steps) ** power``."""
    return _scheduler(
        optimizer, lambda step: max(0.0, 1 - step / total_steps) ** power, warmup_epochs * steps_per_epoch
    )


def cosine(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 0.0) -> LambdaLR:
    """``(1 + cos(pi step / total_steps)) / 2`` (Loshchilov & Hutter, SGDR, ICLR 2017)."""
    return _scheduler(
        optimizer,
        lambda step: (1 + math.cos(math.pi * min(1.0, step / total_steps))) / 2,
        warmup_epochs * steps_per_epoch,
    )


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    rise: float = 0.25,
    start: float = 0.1,
    end: float = 1e-3,
) -> LambdaLR:
    """Rise from ``start`` to 1 during the share ``rise`` of training, then follow a half cosine to ``end``.

    Smith & Topin, Super-Convergence, 2018 (arXiv 1708.07120), without cycling the momentum.
    """
    if not 0 <= rise < 1:
        raise InputError(f"schedule.rise is the share of training in which the rate rises: 0 <= rise < 1, got {rise}")
    top = rise * total_steps

    def factor(step: int) -> float:
        """Rise along a half cosine, then fall along one."""
        if step < top:
            return start + (1 - start) * (1 - math.cos(math.pi * step / top)) / 2
        done = min(1.0, (step - top) / (total_steps - top))
        return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2

    return _scheduler(optimizer, factor, 0.0)


def _scheduler(optimizer: Optimizer, factor: Callable[[int], float], warmup_steps: float) -> LambdaLR:
    """Return a LambdaLR of ``factor`` with a linear warm-up."""
    return LambdaLR(optimizer, lambda step: factor(step) * min(1.0, (step + 1) / (warmup_steps + 1)))


def _positive(key: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{key} must be positive, got {value}")
    return value
