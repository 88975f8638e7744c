"""A resolved config becomes objects.

`hydra.utils.instantiate` behind two checks: what a ``_target_`` names may be built at all (a config inside a checkpoint
that came from elsewhere must not run any code), and the keys beside it fit its signature (a misspelt one is refused
with the near matches).
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import hydra.utils
import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from wsol.data.module import LocalizationData
from wsol.data.source import Source
from wsol.errors import InputError, first_line, near_matches, unknown
from wsol.models.localizer import Localizer
from wsol.protocols import Protocol
from wsol.types import Preprocessing

TRUSTED = ("wsol", "torch", "torchvision", "timm")


def instantiate(node: DictConfig | Mapping, where: str, *, trust: bool = True, **extra: Any) -> Any:
    """Build what ``node`` names, after the two checks, recursively.

    Args:
        node: config with ``_target_``.
        where: its key in the config, for messages.
        trust: False allows targets of the packages `TRUSTED` only.
        extra: keyword arguments beside those of the config.

    Raises:
        InputError: untrusted or unknown target, unknown or missing argument, or a missing mandatory value.
    """
    make = maker(node, where, trust=trust, given=extra) if extra else None
    if make is not None:  # finished objects go past Hydra, which would copy them
        return make(**extra)
    return _made(_checked(node, where, trust, {}))


def maker(node: DictConfig | Mapping, where: str, *, trust: bool = True, given: Iterable[str] = ()) -> partial:
    """Return what builds ``node`` when called, all checks made already.

    Args:
        node: config with ``_target_``.
        where: its key in the config, for messages.
        trust: see `instantiate`.
        given: names of arguments that the call will give.
    """
    return _made({**_checked(node, where, trust, given), "_partial_": True})


def _checked(node: DictConfig | Mapping, where: str, trust: bool, given: Iterable[str]) -> dict[str, Any]:
    """The plain content of ``node``, after the two checks."""
    try:
        content = _plain(node)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or where)
        place = key if key.startswith(where) else f"{where}.{key}"
        raise InputError(f"{place}: {first_line(error)}; set it on the command line") from error
    check(content, where, trust=trust, given=given)
    return content


def _made(content: dict[str, Any]) -> Any:
    try:
        return hydra.utils.instantiate(content, _convert_="all")
    except InstantiationException as error:
        raise _cause(error) from error


def _cause(error: BaseException) -> BaseException:
    """What went wrong in the target itself, under the exceptions that Hydra wraps around it."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _plain(node: DictConfig | Mapping) -> dict[str, Any]:
    """The content of a config node, interpolations resolved; raises OmegaConf's errors."""
    config = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def check(node: Any, where: str, *, trust: bool, given: Iterable[str] = ()) -> None:
    """Check the targets in ``node`` and the arguments beside them; see `instantiate`."""
    if isinstance(node, list | ListConfig):
        for position, child in enumerate(node):
            check(child, f"{where}[{position}]", trust=trust)
    if not isinstance(node, dict | DictConfig):
        return
    for key, child in node.items():
        check(child, f"{where}.{key!s}", trust=trust)
    if "_target_" in node:
        name = str(node["_target_"])
        target = locate(name, where) if trust or name.partition(".")[0] in TRUSTED else None
        if not trust and not _is_harmless(target):
            raise InputError(
                f"{where}._target_={name}: a checkpoint may only name classes of wsol and modules of "
                f"{', '.join(TRUSTED[1:])}; pass trust=true if you trust where the checkpoint came from"
            )
        own = {str(k) for k in node if str(k) not in ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")}
        _check_arguments(target, own, {*own, *given}, where, is_partial=bool(node.get("_partial_", False)))


def _is_harmless(target: Any) -> bool:
    """Whether building ``target`` runs no code but its own: a class of wsol, or a layer of a trusted package."""
    if not inspect.isclass(target):
        return False
    package = target.__module__.partition(".")[0]
    return package == "wsol" or (package in TRUSTED and issubclass(target, torch.nn.Module))


def locate(name: str, where: str) -> Any:
    """Import what a dotted name means; ``where`` is its key in the config.

    Raises:
        InputError: no such package, or the package has no such name.
    """
    module, _, attributes = name, "", ""
    while module:
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
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
    """Refuse arguments that the signature of ``target`` lacks, and missing ones unless it is partial."""
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


def build_source(config: DictConfig, *, trust: bool = True) -> Source:
    """Return the dataset that ``config.data`` names."""
    if config.data is None:
        raise InputError("no dataset: choose one with data=..., see --help for the choices")
    return instantiate(config.data, "data", trust=trust)


def build_data(
    config: DictConfig, source: Source, preprocessing: Preprocessing, *, trust: bool = True, **settings: Any
) -> LocalizationData:
    """Return the data module: the source's images, resized as the weights expect unless the config says otherwise."""
    transforms = {
        f"{use}_transform": build_transform(config, use, preprocessing, trust=trust) for use in ("train", "eval")
    }
    return instantiate(config.loader, "loader", trust=trust)(source=source, **transforms, **settings)


def build_transform(config: DictConfig, use: str, preprocessing: Preprocessing, *, trust: bool = True) -> Any:
    """Return the transform for ``train`` or ``eval``.

    ``size`` and ``interpolation`` that it leaves null are those of ``preprocessing``.
    """
    size = preprocessing.size if config.image_size is None else config.image_size
    fill = {"size": size, "resize": round(size * 8 / 7), "interpolation": preprocessing.interpolation}
    return instantiate(_filled(config.transform[use], **fill), f"transform.{use}", trust=trust)


def _filled(node: DictConfig, **defaults: Any) -> dict[str, Any]:
    """The plain content of ``node``, in which null values take the defaults of the same name."""
    plain = _plain(node)
    return {**plain, **{k: v for k, v in defaults.items() if k in plain and plain[k] is None}}


def build_localizer(
    config: DictConfig, classes: tuple[str, ...], *, trust: bool = True, load_weights: bool = True
) -> Localizer:
    """Return the localizer of ``config.backbone`` and ``config.method`` for the given classes.

    Args:
        config: resolved training config.
        classes: class names, in label order.
        trust: see `instantiate`.
        load_weights: False skips the backbone's pretrained weights (a checkpoint is loaded over them anyway).
    """
    backbone_node = config.backbone
    if not load_weights and "weights" in backbone_node:
        backbone_node = OmegaConf.merge(backbone_node, {"weights": None})
    preset = config.get("preprocessing")
    backbone = instantiate(backbone_node, "backbone", trust=trust)
    if preset is not None:
        backbone.preprocessing = Preprocessing(**{**preset, "mean": tuple(preset["mean"]), "std": tuple(preset["std"])})
    edits = {
        point: instantiate(node, f"method.edits.{point}", trust=trust)
        for point, node in (config.method.edits or {}).items()
    }
    head = instantiate(config.method.head, "method.head", trust=trust)
    return Localizer(
        backbone,
        head,
        num_classes=len(classes),
        edits=edits,
        classes=classes,
        pretrained_classifier=config.method.pretrained_classifier and load_weights,
    )


def build_protocols(config: DictConfig, *, trust: bool = True) -> dict[str, Protocol]:
    """Return the chosen protocols by name, in the order of the config."""
    chosen = config.protocol or {}
    return {name: instantiate(node, f"protocol.{name}", trust=trust) for name, node in chosen.items()}


def resolve_precision(precision: str | int, accelerator: str) -> str:
    """``auto``: bf16-mixed where the hardware multiplies bfloat16, else 32-true; anything else as given.

    A CPU without AVX512-BF16 or AMX emulates bfloat16 and is many times slower with it than in float32.
    """
    if precision != "auto":
        return str(precision)
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX or Arm's BF16)."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16 "))


def monitor_mode(monitor: str, names: list[str]) -> str:
    """Return ``min`` or ``max`` for the metric that chooses the best checkpoint.

    Raises:
        InputError: the metric is of the test split, or there is none of that name.
    """
    if monitor.startswith("test"):
        raise InputError(
            f"monitor={monitor}: nothing is chosen on the test split; use a metric of the val split, such as {names[0]}"
        )
    if monitor not in names:
        raise unknown("monitor", monitor, names)
    return "min" if monitor.endswith(("error", "loss")) else "max"


def resolve_layout(
    memory_format: str, precision: str | int = "auto", accelerator: str = "auto", train_size: int | None = None
) -> bool:
    """Whether images and weights go channels-last: ``channels_last``, ``contiguous``, or ``auto``.

    ``auto`` is channels-last, except for training in float32 on a CPU with images of more than 128 pixels. There the
    backward pass of 3x3 convolutions over large maps takes up to twice as long channels-last (VGG-16 trains at 0.75
    times the speed, see ``docs/benchmarks.md``). Without backward pass, in bfloat16, on GPUs and on small images
    channels-last is the faster one, or as fast.

    Args:
        memory_format: the config's.
        precision: of the trainer; ``auto`` as in `resolve_precision`.
        accelerator: of the trainer.
        train_size: side of the training images, pixels; None where nothing is trained.
    """
    if memory_format != "auto":
        return memory_format == "channels_last"
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    is_single = resolve_precision(precision, accelerator).startswith("32")
    return on_gpu or not is_single or train_size is None or train_size <= 128


def build_trainer(node: DictConfig, **arguments: Any) -> pl.Trainer:
    """Return the Lightning trainer of a config: ``precision: auto`` resolved, samplers left to the data module."""
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    plain["precision"] = resolve_precision(plain["precision"], str(plain["accelerator"]))
    fixed = {
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": sys.stderr.isatty(),
        "inference_mode": True,
    }
    try:
        trainer = instantiate(plain, "trainer", **{**fixed, **arguments})
        if place := getattr(trainer.strategy, "cluster_environment", None):  # SLURM's and torchrun's numbers
            place.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
        return trainer
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"trainer: {first_line(error)}") from error


def logger_arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """What a logger that asks for it is given beside its config: the run folder and the whole config."""
    parameters = inspect.signature(locate(config.logger._target_, "logger")).parameters
    offered = {"folder": folder, "config": config, "save_dir": str(folder)}
    return {name: value for name, value in offered.items() if name in parameters}
