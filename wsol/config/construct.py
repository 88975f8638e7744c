"""Building objects from a resolved config in one walk.

The walk reads plain data: it locates each ``_target_``, checks it against the rule of its place and checks the
arguments against its signature. The result is a plan that contains objects instead of names. Carrying out the plan
calls the located targets. So nothing is resolved or located twice, and exactly the checked targets are called.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from wsol.errors import InputError, near_matches
from wsol.extras import EXTRAS, need

OWN_KEYS = ("_target_", "_partial_")
"""Keys of a node that are not arguments."""

Rule = Callable[[str, str, Mapping[str, Any]], Any]
"""Function of the name, the place and the arguments of a target; returns the target, or raises InputError."""


class Call(NamedTuple):
    """A located and checked target with its arguments."""

    target: Callable[..., Any]
    arguments: dict[str, Any]
    """Values, or plans of values."""
    is_partial: bool


def plan(value: Any, where: str, rule: Rule, given: Iterable[str] = ()) -> Any:
    """Return ``value`` with a `Call` in place of each node that has a ``_target_``.

    Args:
        value: plain data.
        where: its key in the config, for messages.
        rule: locates the targets and decides which may be built.
        given: names of arguments that the outermost call will receive later.

    Raises:
        InputError: a target that the rule refuses, or an unknown or missing argument.
    """
    if isinstance(value, list):
        return [plan(child, f"{where}[{i}]", rule) for i, child in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "_target_" not in value:
        return {key: plan(child, f"{where}.{key}", rule) for key, child in value.items()}
    arguments = {key: child for key, child in value.items() if key not in OWN_KEYS}
    for key in arguments:
        if not isinstance(key, str) or key in ("_args_", "_recursive_", "_convert_"):
            raise InputError(f"{where}.{key}: expected arguments by name beside _target_ and _partial_; remove it")
    is_partial = value.get("_partial_", False)
    if not isinstance(is_partial, bool):
        raise InputError(f"{where}._partial_: expected true or false, got {is_partial!r}")
    target = rule(value["_target_"], where, arguments)
    _check_arguments(target, set(arguments), {*arguments, *given}, where, is_partial=is_partial)
    return Call(target, {key: plan(child, f"{where}.{key}", rule) for key, child in arguments.items()}, is_partial)


def carry_out(planned: Any) -> Any:
    """Execute the calls of a plan, the innermost first."""
    if isinstance(planned, Call):
        arguments = {key: carry_out(value) for key, value in planned.arguments.items()}
        return partial(planned.target, **arguments) if planned.is_partial else planned.target(**arguments)
    if isinstance(planned, list):
        return [carry_out(value) for value in planned]
    if isinstance(planned, dict):
        return {key: carry_out(value) for key, value in planned.items()}
    return planned


def anything(name: Any, where: str, _arguments: Mapping[str, Any]) -> Any:
    """Allow everything that can be imported and called: the rule for the user's own configs."""
    target = locate(name, where)
    if not callable(target):
        raise InputError(f"{where}._target_={name}: expected a class or a function, got {type(target).__name__}")
    return target


def locate(name: Any, where: str) -> Any:
    """Import the object with a dotted name; ``where`` is its key in the config.

    Raises:
        InputError: no such package, or the package has no such name.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name):
        raise InputError(f"{where}._target_={name!r}: expected a dotted Python name, such as wsol.backbones.tiny.Tiny")
    module, _, attributes = name, "", ""
    while module:
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                if error.name in EXTRAS:
                    need(error.name, what=name)
                raise
            module, _, last = module.rpartition(".")
            attributes = f"{last}.{attributes}" if attributes else last
            continue
        for attribute in filter(None, attributes.split(".")):
            if not hasattr(found, attribute):
                raise InputError(
                    f"{where}._target_={name}: {found.__name__} has no {attribute!r}; {_has(found, attribute)}"
                )
            found = getattr(found, attribute)
        return found
    raise InputError(f"{where}._target_={name}: no such package; expected a dotted Python name that can be imported")


def _has(found: Any, attribute: str) -> str:
    return (
        near_matches(attribute, [n for n in dir(found) if not n.startswith("_")]).partition("Choices:")[0] or "check it"
    )


def _check_arguments(target: Any, given: set[str], complete: set[str], where: str, *, is_partial: bool) -> None:
    """Refuse arguments that are not in the signature of ``target``, and missing ones unless it is partial."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return
    named = [n for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        for key in sorted(given - set(named)):
            raise InputError(f"{where}: {target.__qualname__} takes no {key!r}; {near_matches(key, named)}")
    missing = [n for n in named if parameters[n].default is inspect.Parameter.empty and n not in complete]
    if missing and not is_partial:
        raise InputError(f"{where}: {target.__qualname__} needs {', '.join(missing)}; set {where}.{missing[0]}=...")
