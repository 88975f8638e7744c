"""From a resolved config to objects: the dataset, the data module, the network, the protocols, the trainer.

The user's configs may build anything that can be imported. Configs from files may build what `wsol.config.foreign`
allows.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from wsol.backbones.base import NoRerunError
from wsol.config import foreign
from wsol.config.compose import groups, target_of
from wsol.config.construct import anything, carry_out, locate, plan
from wsol.config.launched_processes import check_processes
from wsol.config.plain import check_plain
from wsol.config.trainer_warnings import intended_ignored
from wsol.data.module import LocalizationData
from wsol.data.source import Source
from wsol.errors import InputError, first_line, unknown
from wsol.heads.base import MissingPointError
from wsol.models.localizer import Localizer
from wsol.protocols import LocalizationProtocol
from wsol.types import Preprocessing

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "32")
"""Allowed values of ``trainer.precision`` and ``eval_precision``; weights are always float32."""


def instantiate(node: DictConfig | Mapping, where: str, *, trust: bool = True, **extra: Any) -> Any:
    """Build the object that ``node`` names, recursively.

    Args:
        node: config with ``_target_``.
        where: its key in the config, for messages.
        trust: False allows only what `wsol.config.foreign` allows.
        extra: keyword arguments in addition to those of the config.

    Raises:
        InputError: an untrusted or unknown target, an unknown or missing argument, a missing mandatory value, or,
            without trust, a target that fails.
    """
    planned = _planned(node, where, trust, extra)
    if extra:
        planned = planned._replace(arguments={**planned.arguments, **extra}, is_partial=False)
    try:
        return carry_out(planned)
    except InputError:
        raise
    except Exception as error:
        if trust:
            raise
        raise InputError(
            f"{where}: cannot be built from the file ({type(error).__name__}: {first_line(error)}); "
            "restore the config of the run"
        ) from error


def maker(node: DictConfig | Mapping, where: str, *, trust: bool = True, given: Iterable[str] = ()) -> partial:
    """Return a callable that builds ``node``, with all checks made beforehand.

    Args:
        node: config with ``_target_``.
        where: its key in the config, for messages.
        trust: see `instantiate`.
        given: names of the arguments that the call will pass.
    """
    return carry_out(_planned(node, where, trust, given)._replace(is_partial=True))


def check(node: Any, where: str, *, trust: bool) -> None:
    """Check ``node`` and the targets in it against the rules without building anything; see `instantiate`."""
    plan(_plain(node, where, trust), where, anything if trust else foreign.rule)


def check_parts(config: DictConfig, keys: Iterable[str], file: Path | str, *, trust: bool) -> None:
    """Check parts of a config from a file against the rules, without building anything.

    Args:
        config: config recorded in the file.
        keys: keys of the parts.
        file: the file, for messages.
        trust: see `instantiate`.

    Raises:
        InputError: names the file and the key.
    """
    try:
        for key in keys:
            node = config.get(key)
            if node is not None and not isinstance(node, DictConfig):
                raise InputError(f"{key}: expected a mapping, got {str(node)[:60]!r}; restore the config of the run")
            check(node, key, trust=trust)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _planned(node: DictConfig | Mapping, where: str, trust: bool, given: Iterable[str]) -> Any:
    if not isinstance(node, DictConfig | Mapping):
        raise InputError(f"{where}: expected a mapping with _target_, got {str(node)[:60]!r}; restore it")
    return plan(_plain(node, where, trust), where, anything if trust else foreign.rule, given)


def _plain(node: Any, where: str, trust: bool) -> Any:
    """Return a config node as plain data: interpolations are resolved with trust, and refused without it."""
    if isinstance(node, Mapping) and not isinstance(node, DictConfig):  # already plain, except for nodes in it
        plain: Any = {key: _plain(child, f"{where}.{key}", trust) for key, child in node.items()}
    elif isinstance(node, DictConfig | ListConfig):
        try:
            plain = OmegaConf.to_container(node, resolve=trust, throw_on_missing=trust)
        except OmegaConfBaseException as error:
            key = str(getattr(error, "full_key", None) or where)
            place = key if key.startswith(where) else f"{where}.{key}"
            raise InputError(f"{place}: {first_line(error)}; set it on the command line") from error
    else:
        plain = node
    if not trust:
        check_plain(plain, where)
    return plain


def build_source(config: DictConfig, *, trust: bool = True, data_dir: str | Path | None = None) -> Source:
    """Return the dataset in ``config.data``.

    Args:
        config: resolved training config.
        trust: see `instantiate`.
        data_dir: folder below which a dataset may be generated without trust; None for ``data``.
    """
    if config.data is None:
        raise InputError("no dataset: choose one with data=...; --help and wsol.list_datasets() list them")
    source = instantiate(config.data, "data", trust=trust)
    if not trust:
        source.confine(Path("data" if data_dir is None else data_dir))
    return source


def build_data(
    config: DictConfig, source: Source, preprocessing: Preprocessing, *, trust: bool = True, **settings: Any
) -> LocalizationData:
    """Return the data module: the source's images, resized as the weights expect unless the config differs."""
    transforms = {
        f"{use}_transform": build_transform(config, use, preprocessing, trust=trust) for use in ("train", "eval")
    }
    return instantiate(config.loader, "loader", trust=trust)(source=source, **transforms, **settings)


def build_transform(config: DictConfig, use: str, preprocessing: Preprocessing, *, trust: bool = True) -> Any:
    """Return the transform for ``train`` or ``eval``.

    If ``size`` and ``interpolation`` are null, those of ``preprocessing`` are used.
    """
    where = f"transform.{use}"
    if config.transform is None:
        raise InputError("no transform: choose transform=square, or a dataset, which brings its own")
    size = preprocessing.size if config.image_size is None else config.image_size
    fill = {"size": size, "resize": round(size * 8 / 7), "interpolation": preprocessing.interpolation}
    return instantiate(_filled(config.transform[use], where, trust, **fill), where, trust=trust)


def _filled(node: DictConfig, where: str, trust: bool, **defaults: Any) -> dict[str, Any]:
    """Return the plain content of ``node``, with null values replaced by the defaults of the same name."""
    plain = _plain(node, where, trust)
    return {**plain, **{k: v for k, v in defaults.items() if k in plain and plain[k] is None}}


def build_localizer(
    config: DictConfig, classes: tuple[str, ...] | None, *, trust: bool = True, load_weights: bool = True
) -> Localizer:
    """Return the localizer of ``config.backbone`` and ``config.method`` for the given classes.

    Args:
        config: resolved training config.
        classes: class names, in label order; None for those of the pretrained classifier, without names.
        trust: see `instantiate`.
        load_weights: False skips the backbone's pretrained weights (because a checkpoint will replace them).
    """
    backbone_node = config.backbone
    if not load_weights and "weights" in backbone_node:
        backbone_node = OmegaConf.merge(backbone_node, {"weights": None})
    for where, node in (("backbone", backbone_node), ("method.head", config.method.head)):
        if "_target_" not in (node or {}):
            raise InputError(f"{where}: no _target_; expected a config that names a class, as those in configs/ do")
    preset = config.get("preprocessing")
    backbone = instantiate(backbone_node, "backbone", trust=trust)
    if preset is not None:
        backbone.preprocessing = Preprocessing(**{**preset, "mean": tuple(preset["mean"]), "std": tuple(preset["std"])})
    edits = {
        point: instantiate(node, f"method.edits.{point}", trust=trust)
        for point, node in (config.method.edits or {}).items()
    }
    head = maker(config.method.head, "method.head", trust=trust, given=("points", "num_classes"))
    try:
        return Localizer(
            backbone,
            head,
            num_classes=len(backbone.classifier_state.get("weight", [None]) if classes is None else classes),
            edits=edits,
            classes=classes,
            pretrained_classifier=config.method.pretrained_classifier and load_weights,
        )
    except MissingPointError as error:
        if able := _backbones_with(error.name):
            raise InputError(
                f"method.head reads the point {error.name!r}, which {type(backbone).__name__} does not have. Choose a "
                f"backbone that has it (backbone={', '.join(able)}), or another method"
            ) from error
        raise
    except NoRerunError as error:
        others = ", ".join(_rerunnable())
        raise InputError(f"method.head: {error}. Choose another method, or backbone={others}") from error


def _rerunnable() -> list[str]:
    """Return the choices of the group ``backbone`` whose stages can be run again."""
    targets = {choice: locate(target_of("backbone", choice), choice) for choice in groups()["backbone"]}
    return [choice for choice, target in targets.items() if target.reruns]


def _backbones_with(point: str) -> list[str]:
    """Return the choices of the group ``backbone`` whose class has this read-only point."""
    named = {choice: target_of("backbone", choice) for choice in groups()["backbone"]}
    targets = {choice: locate(name, f"backbone={choice}") for choice, name in named.items() if name is not None}
    return [choice for choice, target in targets.items() if point in getattr(target, "read_only", ())]


def pretrained_name(node: DictConfig) -> str:
    """Return the value of ``backbone.weights`` that loads the library's ImageNet weights.

    Raises:
        InputError: this backbone has none.
    """
    target = locate(node._target_, "backbone")
    if target.pretrained is None:
        raise InputError(f"{target.__name__} has no pretrained weights; set weights=<path>, or none")
    return target.pretrained


def build_protocols(config: DictConfig, *, trust: bool = True) -> dict[str, LocalizationProtocol]:
    """Return the chosen protocols by name, in the order of the config."""
    chosen = config.protocol or {}
    return {name: instantiate(node, f"protocol.{name}", trust=trust) for name, node in chosen.items()}


def resolve_precision(precision: str | int, accelerator: str) -> str:
    """Resolve ``auto``: bf16-mixed if the hardware multiplies bfloat16, else 32-true; other values are unchanged.

    A CPU without AVX512-BF16 or AMX emulates bfloat16, which is many times slower than float32.

    Raises:
        InputError: not one of `PRECISIONS`.
    """
    if str(precision) not in PRECISIONS:
        raise unknown("precision", str(precision), PRECISIONS)
    if precision != "auto":
        return {"32": "32-true"}.get(str(precision), str(precision))
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX or Arm's BF16)."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16 "))


def monitor_mode(monitor: str, names: list[str]) -> str:
    """Return ``min`` or ``max`` for the metric that chooses the best checkpoint.

    Raises:
        InputError: the metric belongs to the test split, or does not exist.
    """
    if monitor.startswith("test"):
        raise InputError(
            f"monitor={monitor}: nothing is chosen on the test split; use a metric of the val split, such as {names[0]}"
        )
    if monitor not in names:
        raise unknown("monitor", monitor, names)
    return better(monitor)


def better(metric: str) -> str:
    """Return ``min`` for metrics that should be low, errors and losses, else ``max``."""
    return "min" if metric.endswith(("error", "loss")) else "max"


def build_callbacks(config: DictConfig, metrics: Iterable[str]) -> list[pl.Callback]:
    """Return the callbacks of ``config.callbacks``, in the order of the config.

    Args:
        config: config of a training.
        metrics: names of what is measured on the val split; empty without one.

    Raises:
        InputError: one of them is no Lightning callback, or monitors a metric that is not there, or one of the test
            split.
    """
    made, names = [], [*metrics, "train/loss", "train/top1_error"]
    for name, node in (config.get("callbacks") or {}).items():
        callback = instantiate(node, f"callbacks.{name}")
        if not isinstance(callback, pl.Callback):
            raise InputError(f"callbacks.{name}: expected a Lightning callback, got {type(callback).__name__}")
        if (monitor := getattr(callback, "monitor", None)) is not None:
            try:
                monitor_mode(monitor, names)
            except InputError as error:
                raise InputError(f"callbacks.{name}: {error}") from error
        made.append(callback)
    return made


def resolve_layout(
    memory_format: str, precision: str | int = "auto", accelerator: str = "auto", train_size: int | None = None
) -> bool:
    """Return whether images and weights are channels-last: ``channels_last``, ``contiguous``, or ``auto``.

    ``auto`` is channels-last, except for training in float32 on a CPU with images of more than 128 pixels. There the
    backward pass of 3x3 convolutions over large maps takes up to twice as long channels-last (VGG-16 trains at 0.75
    times the speed, see ``docs/benchmarks.md``). Without a backward pass, in bfloat16, on GPUs and on small images
    channels-last is faster, or equally fast.

    Args:
        memory_format: value from the config.
        precision: precision of the trainer; ``auto`` as in `resolve_precision`.
        accelerator: accelerator of the trainer.
        train_size: side of the training images, pixels; None without training.
    """
    if memory_format != "auto":
        return memory_format == "channels_last"
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    is_single = resolve_precision(precision, accelerator).startswith("32")
    return on_gpu or not is_single or train_size is None or train_size <= 128


def build_trainer(node: DictConfig, plugins: Iterable[Any] = (), **arguments: Any) -> pl.Trainer:
    """Return the Lightning trainer of a config: ``precision: auto`` resolved, samplers left to the data module.

    Args:
        node: the config. Its ``plugins`` name the environment, so variables of a launcher that it doesn't use (SLURM's
            inside an allocation, say) change nothing.
        plugins: Lightning plugins beside those of the config.
        arguments: arguments of the trainer beside those of the config.

    Raises:
        InputError: Lightning refuses a setting, or the processes that were started are not those that it asks for.
    """
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    plain["precision"] = resolve_precision(plain["precision"], str(plain["accelerator"]))
    own = plain.pop("plugins", None) or ()
    fixed: dict[str, Any] = {
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "inference_mode": True,
    }
    try:
        fixed["plugins"] = [*(instantiate(one, f"trainer.plugins[{i}]") for i, one in enumerate(own)), *plugins]
        with intended_ignored():
            trainer = instantiate(plain, "trainer", **{**fixed, **arguments})
        if place := getattr(trainer.strategy, "cluster_environment", None):  # SLURM's and torchrun's numbers
            place.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise InputError(f"trainer: {first_line(error)}") from error
    check_processes(trainer)
    return trainer


def logger_arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Return the arguments that a logger may request besides its config: the run folder and the whole config."""
    parameters = inspect.signature(locate(config.logger._target_, "logger")).parameters
    offered = {"folder": folder, "config": config, "save_dir": str(folder)}
    return {name: value for name, value in offered.items() if name in parameters}
