"""The contents of a checkpoint: config, classes, preprocessing and tensors, checked before anything is built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from wsol.backbones.weights import INTERPOLATIONS
from wsol.config.foreign import LIMITS
from wsol.config.plain import check_plain
from wsol.errors import InputError

REMEDY = "use another checkpoint of the run, or train again"
USED = ("name", "seed", "data_dir", "image_size", "topk", "memory_format", "choices", "protocol", "backbone", "method")
"""Keys of a config that are read by name, besides those that are checked below."""
SPARE = 64 * 2**20
"""Elements that a network may have besides those in its file, such as tables that are computed again."""


def check_header(header: Any, file: object) -> None:
    """Check the entry ``wsol`` of a checkpoint against its schema.

    Args:
        header: the entry.
        file: its origin, for messages.

    Raises:
        InputError: names the key, the expected value and the actual one.
    """
    _expect(isinstance(header, dict), file, "wsol", "a mapping", header)
    for key in ("config", "classes", "preprocessing"):
        _expect(key in header, file, key, "an entry", None)
    check_config(header["config"], f"{file}: config")
    classes = header["classes"]
    _expect(isinstance(classes, list) and bool(classes), file, "classes", "a list of names", classes)
    for i, name in enumerate(classes):
        _expect(isinstance(name, str), file, f"classes[{i}]", "a name", name)
    _check_preprocessing(header["preprocessing"], file)


def check_config(config: Any, where: str) -> None:
    """Check that a recorded config has the structure of a training config and contains only plain data.

    Args:
        config: plain data.
        where: its file, for messages.

    Raises:
        InputError: names the key.
    """
    _expect(isinstance(config, Mapping), where, "", "a mapping", config)
    check_plain(config, where)
    for key in USED:
        _expect(key in config, where, key, "an entry", None)
    for key, can_be_null in (("backbone", False), ("data", True), ("loader", False)):
        _node(config.get(key), where, key, can_be_null)
    method, transform = config["method"], config.get("transform")
    _expect(isinstance(method, Mapping), where, "method", "a mapping", method)
    _expect(transform is None or isinstance(transform, Mapping), where, "transform", "a mapping or null", transform)
    _node(method.get("head"), where, "method.head", False)
    for key in ("method.edits", "protocol"):
        nodes = method.get("edits") if key == "method.edits" else config.get(key)
        _expect(nodes is None or isinstance(nodes, Mapping), where, key, "a mapping or null", nodes)
        for name, node in (nodes or {}).items():
            _expect(isinstance(name, str), where, key, "names as keys", name)
            _node(node, where, f"{key}.{name}", False)
    changes = method.get("batch_transforms")
    _expect(changes is None or isinstance(changes, list), where, "method.batch_transforms", "a list or null", changes)
    for i, node in enumerate(changes or []):
        _node(node, where, f"method.batch_transforms[{i}]", False)
    classifier = method.get("pretrained_classifier")
    _expect(isinstance(classifier, bool), where, "method.pretrained_classifier", "true or false", classifier)
    for use in ("eval", "train") if transform is not None else ():
        _node(transform.get(use), where, f"transform.{use}", False)
    _check_values(config, where)


def _check_values(config: Mapping[str, Any], where: str) -> None:
    """Check the few values of a config that are used without building anything."""
    for key in ("name", "data_dir", "memory_format"):
        _expect(isinstance(config[key], str), where, key, "a string", config[key])
    for key in ("image_size", "seed"):
        value = config.get(key)
        fits = value is None or (_is_whole(value) and 0 <= value <= LIMITS.get(key, 2**63))
        _expect(fits, where, key, "a whole number of a plausible size, or null", value)
    topk = config.get("topk")
    fits = isinstance(topk, list) and all(_is_whole(one) and one > 0 for one in topk)
    _expect(fits, where, "topk", "a list of positive numbers", topk)
    choices = config.get("choices")
    _expect(isinstance(choices, Mapping), where, "choices", "a mapping", choices)


def _node(value: Any, where: object, key: str, can_be_null: bool) -> None:
    """Require a mapping with ``_target_``."""
    if value is None and can_be_null:
        return
    is_node = isinstance(value, Mapping) and isinstance(value.get("_target_"), str)
    _expect(is_node, where, key, "a mapping with _target_", value)


def _check_preprocessing(found: Any, file: object) -> None:
    keys = {"mean", "std", "size", "interpolation"}
    fits = isinstance(found, dict) and set(found) == keys
    _expect(fits, file, "preprocessing", f"the entries {', '.join(sorted(keys))}", found)
    for key in ("mean", "std"):
        numbers = found[key]
        fits = isinstance(numbers, list) and len(numbers) == 3 and all(_is_finite(number) for number in numbers)
        _expect(fits, file, f"preprocessing.{key}", "three finite numbers", numbers)
    _expect(min(found["std"]) > 0, file, "preprocessing.std", "numbers above 0", found["std"])
    size, most = found["size"], LIMITS["size"]
    _expect(_is_whole(size) and 0 < size <= most, file, "preprocessing.size", f"pixels, 1 to {most}", size)
    ways = found["interpolation"]
    _expect(ways in INTERPOLATIONS, file, "preprocessing.interpolation", " or ".join(INTERPOLATIONS), ways)


def check_weights(own: Mapping[str, Tensor], given: Mapping[str, Tensor], file: object) -> None:
    """Require tensors of the same kind as the network's (floats or whole numbers) with finite values.

    Args:
        own: state dict of the network.
        given: tensors of the same names and shapes.
        file: their origin, for messages.

    Raises:
        InputError: names the tensor.
    """
    for name, value in given.items():
        wanted = own[name].dtype
        fits = value.dtype == wanted or (wanted.is_floating_point and value.dtype.is_floating_point)
        _expect(fits, file, f"state_dict.{name}", f"{wanted}".replace("torch.", ""), value.dtype)
        if value.dtype.is_floating_point and not torch.isfinite(value.float().sum()) and not value.isfinite().all():
            count = int((~value.isfinite()).sum())
            raise InputError(f"{file}: state_dict.{name}: {count:,} values are NaN or infinite; {REMEDY}")


@contextmanager
def bounded(elements: int, file: object) -> Iterator[None]:
    """Refuse tensors larger than the file's, before they are allocated, while its network is built.

    Args:
        elements: number of elements in the file's tensors; twice as many, plus `SPARE`, may be allocated.
        file: origin of the config, for messages.
    """
    with _Bound(2 * elements + SPARE, file, elements):
        yield


class _Bound(TorchDispatchMode):
    def __init__(self, limit: int, file: object, held: int) -> None:
        super().__init__()
        self.limit, self.made, self.file, self.held = limit, 0, file, held

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = func.__name__
        asked = 0
        if name.startswith(("empty", "zeros", "ones", "full", "rand", "new_", "repeat", "tile")):
            sizes = next((arg for arg in args if isinstance(arg, list | tuple)), ())
            if all(isinstance(size, int) for size in sizes):
                asked = math.prod(sizes) * (args[0].numel() if name.startswith("repeat") else 1)
        elif name.startswith(("arange", "linspace", "logspace", "eye")):
            asked = max((abs(int(arg)) for arg in args if isinstance(arg, int | float)), default=0)
            asked = asked**2 if name.startswith("eye") else asked
        self.made += asked
        if max(asked, self.made) > self.limit:
            raise InputError(
                f"{self.file}: config.backbone and config.method define a network of more than {self.limit:,} "
                f"numbers; the file's tensors have {self.held:,}; {REMEDY}"
            )
        return func(*args, **(kwargs or {}))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _expect(fits: bool, file: object, key: str, expected: str, got: Any) -> None:
    if not fits:
        place = f"{file}.{key}" if str(file).endswith(": config") and key else f"{file}: {key}" if key else f"{file}"
        shown = "nothing" if got is None else f"{type(got).__name__} {str(got)[:60]!r}"
        raise InputError(f"{place}: expected {expected}, got {shown}; {REMEDY}")
