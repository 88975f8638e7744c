"""Pretrained weights: found by torchvision's name or read from a file, checked key by key, with their preprocessing."""

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


class Weights(NamedTuple):
    """A state dict and where it is from."""

    state: dict[str, Tensor]
    """Parameters and buffers by name, on the CPU."""
    source: str
    """What the user asked for, for messages."""
    preprocessing: Preprocessing | None
    """What these weights expect; None for a file, which does not say."""


def find_weights(weights: str, architecture: str | None) -> Weights:
    """Return the weights a config names.

    Args:
        weights: a torchvision name (``DEFAULT``, ``IMAGENET1K_V1``, ``ResNet50_Weights.IMAGENET1K_V2``), downloaded
            with its hash checked and cached, or a path to a state dict (.safetensors, or .pth without pickled objects);
            of a checkpoint of `wsol train`, the backbone's part.
        architecture: torchvision's name of the network (``vgg16_bn``), None where torchvision has none.

    Raises:
        InputError: there is neither such a name nor such a file, the download fails, or the file cannot be read.
    """
    published = get_model_weights(architecture).__members__ if architecture else {}
    name = weights.rpartition(".")[2] if "_Weights." in weights else weights
    if name in published:
        return _download(published[name])
    if (path := Path(weights).expanduser()).is_file():
        return Weights(_of_backbone(read_state(path)), weights, None)
    names = f"torchvision has {', '.join(published)}" if published else "torchvision has none for this network"
    raise InputError(f"weights {weights!r}: no such file and no such name; {names}. Give one of these, a path, or null")


def _of_backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's part of a checkpoint of `wsol train`; any other state as it is."""
    part = "localizer.backbone."
    return {name.removeprefix(part): value for name, value in state.items() if name.startswith(part)} or state


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code it may carry. A wrapping ``state_dict`` or ``model`` entry is opened.

    Raises:
        InputError: the file is damaged, holds pickled objects, or is no mapping of names to tensors.
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
    """Load a state dict of which every key and shape must fit.

    Args:
        module: network to fill, in place.
        state: names to tensors.
        source: where the state is from, for messages.
        dropped: name prefixes of layers that the surgery cuts off; such keys may be there and are ignored.
        optional: names that need not be there.

    Raises:
        InputError: lists missing keys, unexpected keys and differing shapes.
    """
    given = {key: value for key, value in state.items() if not key.startswith(tuple(dropped))}
    wanted = module.state_dict()
    # Files older than PyTorch 0.4.1 have no batch counters; BatchNorm fills them in itself.
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
            "Choose the backbone and options they were made for, or other weights"
        )
    module.load_state_dict(given, strict=False)


def choose_preprocessing(base: Preprocessing, wishes: Mapping[str, Any] | None) -> Preprocessing:
    """Return what the weights expect, with the entries of ``wishes`` that are not None in their place.

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
            f"weights {entry}: download failed ({error}). Fetch {entry.url} by other means and give its path, or null"
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
