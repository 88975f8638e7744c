"""Pretrained weights: looked up by torchvision's name or read from a file, checked key by key, with preprocessing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights

from wsol.errors import InputError, unknown
from wsol.tensor_files import check_tensors, read_archive, read_safetensors
from wsol.types import Preprocessing

INTERPOLATIONS = ("bilinear", "bicubic")
PART = "state_dict_"
"""Beginning of the names of entries that are parts of a state dict."""


class Weights(NamedTuple):
    """A state dict and its origin."""

    state: dict[str, Tensor]
    """Parameters and buffers by name, on the CPU."""
    source: str
    """The user's value, for messages."""
    preprocessing: Preprocessing | None
    """The preprocessing that these weights expect; None for a file, which does not specify it."""


def find_weights(weights: str, architecture: str | None) -> Weights:
    """Return the weights that a config names.

    Args:
        weights: a torchvision name (``DEFAULT``, ``IMAGENET1K_V1``, ``ResNet50_Weights.IMAGENET1K_V2``), downloaded and
            cached with its hash checked, or a path to a state dict (.safetensors, or .pth without pickled objects).
            From a checkpoint of `wsol train`, the backbone's part is taken.
        architecture: torchvision's name of the network (``vgg16_bn``); None if torchvision has none.

    Raises:
        InputError: no such name and no such file, a failed download, or a file that cannot be read.
    """
    published = get_model_weights(architecture).__members__ if architecture else {}
    name = weights.rpartition(".")[2] if "_Weights." in weights else weights
    if name in published:
        return _download(published[name])
    if (path := Path(weights).expanduser()).is_file():
        return Weights(_of_backbone(read_state(path)), weights, None)
    names = f"torchvision has {', '.join(published)}" if published else "torchvision has none for this network"
    raise InputError(f"weights {weights!r}: no such file and no such name; {names}. Set one of these, a path, or null")


def _of_backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's part of a checkpoint of `wsol train`; any other state unchanged."""
    part = "localizer.backbone."
    return {name.removeprefix(part): value for name, value in state.items() if name.startswith(part)} or state


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code in it.

    An enclosing ``state_dict`` or ``model`` entry is unwrapped. Several entries such as ``state_dict_extractor`` become
    one state dict, whose names begin with ``extractor.``.

    Raises:
        InputError: the file is damaged, contains pickled objects, or is not a mapping of names to tensors.
    """
    remedy = "copy or download the file again"
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path, remedy)[0]
        content = read_archive(path, remedy)
    except InputError as error:
        raise InputError(f"weights {error}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if isinstance(content, Mapping) and any(str(name).startswith(PART) for name in content):
        parts = {name.removeprefix(PART): part for name, part in content.items() if str(name).startswith(PART)}
        if all(isinstance(part, Mapping) for part in parts.values()):
            content = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"weights {path}: expected a state dict (names to tensors), got {type(content).__name__}")
    check_tensors(content, f"weights {path}", remedy)
    return dict(content)


def load_strictly(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    dropped: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Load a state dict whose keys and shapes must all fit.

    Args:
        module: network to fill, in place.
        state: names to tensors.
        source: where the state comes from, for messages.
        dropped: name prefixes of layers that the surgery removes; such keys are allowed and ignored.
        optional: names that may be missing.

    Raises:
        InputError: lists missing keys, unexpected keys and differing shapes.
    """
    given = {key: value for key, value in state.items() if not key.startswith(tuple(dropped))}
    wanted = module.state_dict()
    # Files older than PyTorch 0.4.1 have no batch counters; BatchNorm fills them in.
    missing = [key for key in wanted if key not in given and not key.endswith(("num_batches_tracked", *optional))]
    unexpected = [key for key in given if key not in wanted]
    shapes = [
        f"{key} {tuple(value.shape)} instead of {tuple(wanted[key].shape)}"
        for key, value in given.items()
        if key in wanted and value.shape != wanted[key].shape
    ]
    found = {"missing keys": missing, "unexpected keys": unexpected, "other shapes": shapes}
    if problems := [f"{len(keys)} {what} ({_some(keys)})" for what, keys in found.items() if keys]:
        raise InputError(
            f"weights {source} do not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Choose the backbone and options that they were made for, or other weights"
        )
    module.load_state_dict(given, strict=False)


def choose_preprocessing(base: Preprocessing, wishes: Mapping[str, Any] | None) -> Preprocessing:
    """Return the preprocessing that the weights expect, overridden by the entries of ``wishes`` that are not None.

    Example:
        >>> choose_preprocessing(Preprocessing(), {"size": 321, "mean": None}).size
        321

    Raises:
        InputError: an unknown entry or an impossible value.
    """
    known = [field.name for field in dataclasses.fields(Preprocessing)]
    given = {key: value for key, value in (wishes or {}).items() if value is not None}
    for key in given:
        if key not in known:
            raise unknown("entry of preprocessing", key, known)
    for key in ("mean", "std"):
        if key in given:
            given[key] = _three(key, given[key])
    chosen = dataclasses.replace(base, **given)
    if not isinstance(chosen.size, int) or chosen.size < 1:
        raise InputError(f"preprocessing.size: expected a positive number of pixels, got {chosen.size!r}")
    if chosen.interpolation not in INTERPOLATIONS:
        raise unknown("preprocessing.interpolation", str(chosen.interpolation), INTERPOLATIONS)
    if min(chosen.std) <= 0:
        raise InputError(f"preprocessing.std: expected three positive numbers, got {list(chosen.std)}")
    return chosen


def _download(entry: WeightsEnum) -> Weights:
    try:
        state = entry.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"weights {entry}: download failed ({error}). Download {entry.url} by other means and set its path, or null"
        ) from error
    expected = entry.transforms()
    preprocessing = Preprocessing(
        mean=_three("mean", expected.mean),
        std=_three("std", expected.std),
        size=int(expected.crop_size[0]),
        interpolation=expected.interpolation.value,
    )
    return Weights(dict(state), repr(entry), preprocessing)


def _three(name: str, values: Iterable[float]) -> tuple[float, float, float]:
    numbers = [float(value) for value in values]
    if len(numbers) != 3:
        raise InputError(f"preprocessing.{name}: expected three numbers (red, green, blue), got {numbers}")
    return numbers[0], numbers[1], numbers[2]


def _some(keys: list[str], limit: int = 8) -> str:
    more = f", and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more
