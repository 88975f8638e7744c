"""The search space of a sweep: keys of `wsol train`, each with a choice, a range or a log range.

::

    space:
      optim.optimizer.lr: {log: [1.0e-5, 1.0]}                 # uniform in the logarithm
      label_smoothing: {range: [0.0, 0.2]}                     # uniform; two integers: integers, ends included
      method: {choice: [cam, gmp]}                             # one of these: groups, names, numbers, lists
      method.head.deltas: {range: [0.5, 0.9], as: "[{}]"}      # the number inside a list
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from wsol.config.compose import override, override_value
from wsol.errors import InputError, near_matches, unknown

KINDS = ("choice", "range", "log")
LARGEST = 2**53
"""Larger integers are not exact as floating-point numbers, which samplers use."""


@dataclass(frozen=True)
class Dimension:
    """One key of the space."""

    key: str
    kind: str
    """One of `KINDS`."""
    values: tuple[Any, ...]
    """The choices, or the two ends of a range."""
    template: str = "{}"
    """Template of the override's value."""

    @cached_property
    def distribution(self) -> BaseDistribution:
        """The dimension for Optuna; choices are represented by their text."""
        if self.kind == "choice":
            return CategoricalDistribution([_text(value) for value in self.values])
        low, high = self.values
        if self.is_integer:
            return IntDistribution(low, high, log=self.kind == "log")
        return FloatDistribution(low, high, log=self.kind == "log")

    def override(self, drawn: Any) -> str:
        """Return the override of `wsol train` that sets the key to a value from `distribution`."""
        return self.override_of(self._choices[drawn] if self.kind == "choice" else drawn)

    def override_of(self, value: Any) -> str:
        """Return the override of `wsol train` that sets the key to a value."""
        if self.template == "{}":
            return override(self.key, value)
        return f"{self.key}={self.template.replace('{}', override_value(value))}"

    @cached_property
    def _choices(self) -> dict[str, Any]:
        return {_text(value): value for value in self.values}

    @property
    def is_integer(self) -> bool:
        """Whether whole numbers are sampled."""
        return all(isinstance(value, int) for value in self.values)

    def wandb(self) -> dict[str, Any]:
        """Return the dimension for a `wandb sweep`."""
        if self.kind == "choice":
            return {"values": list(self.values)}
        if self.template != "{}":
            raise InputError(f"sweep.space.{self.key}: wandb sweeps know no `as`; list values with choice instead")
        low, high = self.values
        whole = {"range": "int_uniform", "log": "q_log_uniform_values"}[self.kind] if self.is_integer else None
        return {
            "distribution": whole or ("log_uniform_values" if self.kind == "log" else "uniform"),
            "min": low,
            "max": high,
        }


def read_space(node: Mapping[str, Any]) -> list[Dimension]:
    """Read the space of a sweep's config.

    Raises:
        InputError: no keys, or a key without exactly one valid choice, range or log range.

    Example:
        >>> [each.override(0.5) for each in read_space({"optim.optimizer.lr": {"log": [0.1, 1.0]}})]
        ['optim.optimizer.lr=0.5']
    """
    if not isinstance(node, Mapping) or not node:
        raise InputError(
            "sweep.space is empty: name keys of `wsol train`, such as optim.optimizer.lr: {log: [1e-4, 1]}"
        )
    names: set[str] = set()
    for key in node:
        if not isinstance(key, str):
            raise InputError(f"sweep.space.{key}: expected the name of a key of `wsol train`, got {key!r}")
        if (name := key.lstrip("+")) in names:
            raise InputError(f"sweep.space.{key}: the key occurs twice; remove one of the two")
        names.add(name)
    return [_dimension(key, content) for key, content in node.items()]


def check_group_choices(space: Sequence[Dimension], groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse choices of config groups that do not exist.

    Args:
        space: the search space.
        groups: group -> its choices.

    Raises:
        InputError: no such choice.
    """
    for dimension in space:
        known = groups.get(dimension.key.lstrip("+"))
        if known is None or dimension.template != "{}":
            continue
        for value in dimension.values:
            for name in value if isinstance(value, list) else [value]:
                if name is not None and str(name) not in known and (name != "all" or dimension.key != "protocol"):
                    raise InputError(
                        f"sweep.space.{dimension.key}: no choice {name!r}; {near_matches(str(name), known)}"
                    )


def _dimension(key: str, node: Any) -> Dimension:
    where = f"sweep.space.{key}"
    if not isinstance(node, Mapping) or len(set(node) - {"as"}) != 1:
        raise InputError(f"{where}: expected one of choice, range or log, such as {{log: [1e-4, 1]}}; got {node}")
    (kind,) = set(node) - {"as"}
    if kind not in KINDS:
        raise unknown(f"kind in {where}", str(kind), KINDS)
    values, template = node[kind], str(node.get("as", "{}"))
    if not isinstance(values, list | tuple) or not values:
        raise InputError(f"{where}: expected a list of values for {kind}, got {values!r}")
    if "{}" not in template:
        raise InputError(f"{where}: `as` must contain {{}}, which the value replaces; got {template!r}")
    (_check_choices if kind == "choice" else _check_ends)(where, kind, list(values))
    return Dimension(key, kind, tuple(values), template)


def _check_choices(where: str, kind: str, values: list[Any]) -> None:
    for value in values:
        if not _is_plain(value):
            raise InputError(f"{where}: expected names, numbers, true, false, null or lists of these, got {value!r}")
    seen: set[str] = set()
    for text in map(_text, values):
        if text in seen:
            raise InputError(f"{where}: {text} occurs twice; list each value once")
        seen.add(text)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return not math.isnan(value)
    return value is None or isinstance(value, str | int)


def _check_ends(where: str, kind: str, values: list[Any]) -> None:
    if len(values) != 2 or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise InputError(f"{where}: expected two numbers, lowest and highest, got {values}")
    low, high = values
    if not all(abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value) for value in values):
        raise InputError(f"{where}: expected two finite numbers of no more than 16 digits, got {values}")
    if not low < high or (kind == "log" and not low > 0):
        positive = "0 < lowest < highest" if kind == "log" else "lowest < highest"
        raise InputError(f"{where}: expected {positive}, got {values}")


def _text(value: Any) -> str:
    """Return a choice as the text that the study records."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
