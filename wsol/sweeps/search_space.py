"""What a sweep searches over: keys of `wsol train`, each with a choice, a range or a log range.

::

    space:
      optim.optimizer.lr: {log: [1.0e-5, 1.0]}                 # drawn evenly in its logarithm
      label_smoothing: {range: [0.0, 0.2]}                     # drawn evenly; of two integers: integers, ends included
      method: {choice: [cam, gmp]}                             # one of these: groups, names, numbers, lists
      method.head.deltas: {range: [0.5, 0.9], as: "[{}]"}      # the drawn number put into a list
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import BaseTrial

from wsol.errors import InputError, unknown

KINDS = ("choice", "range", "log")


@dataclass(frozen=True)
class Dimension:
    """One key of the space."""

    key: str
    kind: str
    """One of `KINDS`."""
    values: tuple[Any, ...]
    """The choices, or the two ends."""
    template: str = "{}"
    """How the drawn value is written."""

    def suggest(self, trial: BaseTrial) -> str:
        """Draw, and return the word of the command line that sets the key."""
        if self.kind == "choice":
            drawn = trial.suggest_categorical(self.key, [_text(value) for value in self.values])
            return f"{self.key}={self.template.format(drawn)}"
        low, high = self.values
        if self.is_integer:
            number: float = trial.suggest_int(self.key, low, high, log=self.kind == "log")
        else:
            number = trial.suggest_float(self.key, low, high, log=self.kind == "log")
        return self.word(number)

    def word(self, value: Any) -> str:
        """The word of the command line that sets the key."""
        return f"{self.key}={self.template.format(_text(value))}"

    @property
    def is_integer(self) -> bool:
        """Whether whole numbers are drawn."""
        return all(isinstance(value, int) for value in self.values)

    def wandb(self) -> dict[str, Any]:
        """The same for a `wandb sweep`."""
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
        InputError: no keys, or a key with something else than one choice, range or log range that can be drawn from.

    Example:
        >>> [each.word(0.5) for each in read_space({"optim.optimizer.lr": {"log": [0.1, 1.0]}})]
        ['optim.optimizer.lr=0.5']
    """
    if not node:
        raise InputError(
            "sweep.space is empty: name keys of `wsol train`, such as optim.optimizer.lr: {log: [1e-4, 1]}"
        )
    return [_dimension(str(key), content) for key, content in node.items()]


def _dimension(key: str, node: Any) -> Dimension:
    where = f"sweep.space.{key}"
    if not isinstance(node, Mapping) or len(set(node) - {"as"}) != 1:
        raise InputError(f"{where}: expected one of choice, range or log, such as {{log: [1e-4, 1]}}; got {node}")
    (kind,) = set(node) - {"as"}
    if kind not in KINDS:
        raise unknown(f"kind in {where}", str(kind), KINDS)
    values, template = node[kind], str(node.get("as", "{}"))
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}: expected a list behind {kind}, got {values!r}")
    if "{}" not in template:
        raise InputError(f"{where}: `as` must hold {{}}, where the drawn value is put; got {template!r}")
    if kind == "choice":
        return Dimension(key, kind, tuple(values), template)
    if len(values) != 2 or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise InputError(f"{where}: expected two numbers, lowest and highest, got {values}")
    low, high = values
    if not low < high or (kind == "log" and not low > 0):
        positive = "0 < lowest < highest" if kind == "log" else "lowest < highest"
        raise InputError(f"{where}: expected {positive}, got {values}")
    return Dimension(key, kind, (low, high), template)


def _text(value: Any) -> str:
    """A value as a word of the command line."""
    return value if isinstance(value, str) else json.dumps(value)
