"""What a config from a file may build unless the reader sets ``trust=true``.

Such a config is plain data (`wsol.config.plain`). What it may build depends on the place: a backbone under
``backbone``, a head under ``method.head``, and so on; all are classes of this package or of an installed plug-in
(`wsol.config.plugins`). They write nothing and read no other file (a dataset reads its own). Inside them, only layers
from a short list are allowed. Arguments must match the annotations of the class, and numbers must be of a plausible
size.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import nn

from wsol.backbones.base import Backbone
from wsol.config.construct import locate
from wsol.config.plugins import trusted_packages
from wsol.data.module import LocalizationData
from wsol.data.source import Source
from wsol.data.transforms import EvalTransform, TrainTransform
from wsol.errors import InputError
from wsol.heads.base import Head
from wsol.protocols import LocalizationProtocol


class Place(NamedTuple):
    """What may be built under a key."""

    keys: str
    """Pattern of the keys; keys below them are nested."""
    prefix: str
    """Prefix of the keys."""
    classes: tuple[type, ...]
    package: str
    """Packages of the classes."""
    words: str


PLACES = (
    Place(r"backbone", "backbone", (Backbone,), "wsol.backbones", "backbones"),
    Place(r"method\.head", "method.head", (Head,), "wsol.heads", "heads"),
    Place(r"method\.edits\..*", "method.edits", (nn.Module,), "wsol.edits", "edits"),
    Place(
        r"method\.batch_transforms\[\d+\]",
        "method.batch_transforms",
        (object,),
        "wsol.batch_transforms",
        "transforms of batches",
    ),
    Place(
        r"transform\.\w+", "transform", (EvalTransform, TrainTransform), "wsol.data.transforms", "transforms of images"
    ),
    Place(r"data", "data", (Source,), "wsol.data", "datasets"),
    Place(r"protocol\.[^.\[]+", "protocol", (LocalizationProtocol,), "wsol.protocols", "protocols"),
    Place(r"loader", "loader", (LocalizationData,), "wsol.data.module", "the data module"),
)

LAYERS = {
    f"{package}.{name}"
    for package, names in {
        "torch.nn": "AdaptiveAvgPool2d AdaptiveMaxPool2d AvgPool2d BatchNorm2d CELU Conv2d Dropout Dropout2d ELU "
        "Flatten GELU GroupNorm Hardsigmoid Hardswish Hardtanh Identity InstanceNorm2d LayerNorm LeakyReLU Linear "
        "MaxPool2d Mish PReLU ReLU ReLU6 SELU SiLU Sigmoid Softplus Tanh",
        "timm.layers": "BatchNormAct2d DropPath GroupNorm1 GroupNormAct LayerNorm LayerNorm2d LayerNormAct2d Mlp "
        "RmsNorm RmsNorm2d",
    }.items()
    for name in names.split()
}
"""Layers that are allowed inside the objects."""

GREATEST = 2**31 - 1
"""Limit of the whole numbers in a config."""
LIMITS = {"num_workers": 256, "size": 8192, "resize": 16384, "image_size": 8192, "frame_size": 16384, "resized": 16384}
"""Limits of the numbers that create processes and arrays, by the name of the argument."""


def rule(name: Any, where: str, arguments: Mapping[str, Any]) -> Any:
    """Locate a target that may be built at its place; see `wsol.config.construct.plan`.

    Raises:
        InputError: the target is not allowed, or its arguments have the wrong types.
    """
    place = next((p for p in PLACES if where == p.prefix or where.startswith((f"{p.prefix}.", f"{p.prefix}["))), None)
    is_nested = place is not None and not re.fullmatch(place.keys, where)
    packages = () if place is None else (place.package, *trusted_packages())
    target = None
    if isinstance(name, str):
        is_own = name.startswith(tuple(f"{package}." for package in packages))
        if is_own or (is_nested and name in LAYERS):
            target = locate(name, where)
    if inspect.isclass(target):
        is_layer = is_nested and name in LAYERS
        is_own = place is not None and issubclass(target, place.classes) and _is_of(target, packages)
        if is_layer or is_own:
            check_arguments(target, arguments, where)
            return target
    allowed = "nothing" if place is None else f"{place.words} of wsol" + (" and plain layers" if is_nested else "")
    raise InputError(
        f"{where}._target_={name}: a checkpoint may only name {allowed} here; "
        "pass trust=true if you trust where the checkpoint came from"
    )


def _is_of(target: type, packages: Sequence[str]) -> bool:
    return any(target.__module__ == package or target.__module__.startswith(f"{package}.") for package in packages)


def check_arguments(target: type, arguments: Mapping[str, Any], where: str) -> None:
    """Refuse arguments that do not match the annotations of ``target``, that name files, or that are implausibly large.

    Raises:
        InputError: names the key.
    """
    for key in getattr(target, "reads", ()):
        value: Any = arguments
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value not in (None, False):
            raise InputError(
                f"{where}.{key}={value!r}: a checkpoint may not read other files; "
                "pass trust=true if you trust where the checkpoint came from"
            )
    try:
        hints = typing.get_type_hints(target.__init__)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        hints = {}
    for name, value in arguments.items():
        if isinstance(value, Mapping) and "_target_" in value:
            continue  # an object, checked by its own rule
        if value is None and where.startswith("transform."):
            continue  # to be set later
        if name in hints and not fits(value, hints[name]):
            kind = getattr(hints[name], "__name__", None) if isinstance(hints[name], type) else hints[name]
            raise InputError(f"{where}.{name}: expected {kind}, got {str(value)[:60]!r}; restore the config of the run")
        if (greatest := _greatest(value)) > (limit := LIMITS.get(name, GREATEST)):
            raise InputError(f"{where}.{name}={greatest}: expected at most {limit}; restore the config of the run")


def _greatest(value: Any) -> int:
    """Return the largest magnitude of the whole numbers in plain data."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return max(map(_greatest, value), default=0)
    return abs(value) if isinstance(value, int) else 0


def fits(value: Any, annotation: Any) -> bool:
    """Return whether plain data matches an annotation; whole numbers also match float, and strings match paths.

    Example:
        >>> fits([1, 2], Sequence[int]), fits("a", float | None), fits(True, int)
        (True, False, False)
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if annotation is None or annotation is type(None):
        return value is None
    if annotation in (int, float):
        return not isinstance(value, bool) and isinstance(value, int if annotation is int else (int, float))
    if annotation is Path:
        return isinstance(value, str)
    if annotation in (str, bool):
        return isinstance(value, annotation)
    if not isinstance(origin, type):
        return True
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(one, inner[1]) for one in value.values())
    if issubclass(origin, tuple) and inner[-1] is not Ellipsis:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(fits(one, inner[0]) for one in value)
    return True
